package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The test's own binary plays vitabench and the harness: what it prints is
// given by the subcommand, and what it is to refuse by the environment.
const (
	play   = "PERF_TEST_PLAY"
	refuse = "PERF_TEST_REFUSE"
)

func TestMain(m *testing.M) {
	if os.Getenv(play) == "" {
		os.Exit(m.Run())
	}
	if bad := os.Getenv(refuse); bad != "" && slices.Contains(os.Args, bad) {
		fmt.Fprintln(os.Stderr, "refused:", bad)
		os.Exit(1)
	}
	fmt.Print(map[string]string{
		"softbench": `{"mpps":4,"ns_per_packet":250,"gbps":2,"cpu_ns_per_packet":240.5,"min_ns_per_packet":230,"max_gap_us":9,"tier":"generic"}`,
		"aead": `{"results":[{"size":64,"ns":10,"peer_ns":90,"min_ns":9,"min_peer_ns":80},{"size":576,"ns":30,"peer_ns":90,"min_ns":30,"min_peer_ns":80},` +
			`{"size":1420,"ns":60,"peer_ns":90,"min_ns":60,"min_peer_ns":80},{"size":8192,"ns":300,"peer_ns":90,"min_ns":300,"min_peer_ns":80}]}`,
		"lpm":    `{"ns_per_lookup":8.25,"min_ns_per_lookup":8,"bart_ns_per_lookup":80,"build_ms":300,"update_us":3,"bytes":24000000}`,
		"gap":    `{"p50_us":10,"p99_us":20,"p9999_us":30,"p999999_us":40,"max_us":50,"floor_p50_us":10,"floor_max_us":55.5,"routes":100000,"commits":100,"commit_ms":200,"polls":7,"floor_polls":8}`,
		"commit": `{"routes":10,"load_s":0.1,"netconf_commit_ms":{"median":0.66,"p95":4.2},"restconf_put_ms":{"median":0.5,"p95":1}}`,
		"128":    "direct 64 20 18\nburst 64 25 16\ndirect 576 40 39\ndirect 1420 70 69\ndirect 8192 330 329\n",
		"256":    "direct 64 21 19\ndirect 576 41 39\ndirect 1420 71 69\njob 8192 331 329\n",
	}[os.Args[1]])
}

func played(t *testing.T) *options {
	t.Helper()
	t.Setenv(play, "1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	doc := filepath.Join(dir, "performance.md")
	if err := os.WriteFile(doc, []byte("before\n"+docBegin+"old\n"+docEnd+"behind\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return &options{bench: self, ipsecMB: self, out: dir, doc: doc, cpu: -1, most: time.Minute, quick: true}
}

func written(t *testing.T, o *options) (r run, tables string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(o.out, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	text, err = os.ReadFile(filepath.Join(o.out, "tables.md"))
	if err != nil {
		t.Fatal(err)
	}
	return r, string(text)
}

func TestRun(t *testing.T) {
	o := played(t)
	if err := o.run(nil); err != nil {
		t.Fatal(err)
	}
	r, tables := written(t, o)
	groups := make(map[string]int)
	for _, s := range r.Steps {
		groups[s.Group]++
		if len(s.Results) != 1 {
			t.Errorf("%s %s: %d results", s.Group, s.Name, len(s.Results))
		}
	}
	for group, least := range map[string]int{"softbench": 14, "aead": 8, "lpm": 6, "gap": 1, "commit": 1} {
		if groups[group] < least {
			t.Errorf("%d steps of %s, want %d", groups[group], group, least)
		}
	}
	for _, want := range []string{
		"| duplex v4 60 | 250.0 | 240.5 | 230.0 | 4.0 | 2.0 | generic |",
		"| inbound v4 imix | 250.0 ",
		"| seal 128, avx512 | 10.0 (9.0), 90.0 | 30.0 (30.0), 90.0 | 60.0 (60.0), 90.0 | 300.0 (300.0), 90.0 |",
		"| 128 | 64 | 10.0 (9.0) | 20.0 (18.0) | direct | 0.50 | 0.50 |", // of the best way by its median
		"| 256 | 8192 | 300.0 (300.0) | 331.0 (329.0) | job | 0.91 | 0.91 |",
		"| 1000 IPv6, hot | 8.2 | 8.0 | 80.0 | 300.0 | 3.0 | 24.0 |",
		"| worker | 10.0 | 20.0 | 30.0 | 40.0 | 50.0 | 7 |",
		"| floor | 10.0 | 0.0 | 0.0 | 0.0 | 55.5 | 8 |",
		"| 10 routes | 0.66 (4.20) | 0.50 |",
	} {
		if !strings.Contains(tables, want) {
			t.Errorf("no %q in\n%s", want, tables)
		}
	}
	for line := range strings.Lines(tables) { // rows as long as their heading
		if strings.HasPrefix(line, "| ") && strings.Count(line, "|") < 3 {
			t.Errorf("row %q", line)
		}
	}
	doc, err := os.ReadFile(o.doc)
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.ReplaceAll("\n"+tables, "\n#", "\n##")[1:]
	if want := "before\n" + docBegin + shown + "\n![ns a packet](performance.svg)\n" + docEnd + "behind\n"; string(doc) != want {
		t.Errorf("the document became\n%s\nwant\n%s", doc, want)
	}
	svg, err := os.Open(strings.TrimSuffix(o.doc, ".md") + ".svg")
	if err != nil {
		t.Fatal(err)
	}
	defer svg.Close()
	bars := 0
	for d := xml.NewDecoder(svg); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if want := 1 + groups["softbench"] + 2*8; bars != want {
		t.Errorf("%d rectangles, want %d", bars, want)
	}
}

// What cannot be measured is said, and does not keep the rest from it.
func TestWhatIsMissing(t *testing.T) {
	o := played(t)
	t.Setenv(refuse, "inbound")
	err := o.run(nil)
	if err == nil || !strings.Contains(err.Error(), "softbench inbound v4 60: ") || !strings.Contains(err.Error(), "refused: inbound") {
		t.Errorf("%v", err)
	}
	if doc, err := os.ReadFile(o.doc); err != nil || !strings.Contains(string(doc), "\nold\n") {
		t.Errorf("a run that failed is in the document: %s %v", doc, err)
	}
	r, tables := written(t, o)
	if len(r.Missing) != 2 || !strings.Contains(tables, "## Not measured\n- softbench inbound v4 60") || !strings.Contains(tables, "| duplex v4 60 |") {
		t.Errorf("%q in\n%s", r.Missing, tables)
	}
}

// Neither a tier nor ipsec-mb has to be there.
func TestLesserMachine(t *testing.T) {
	o := played(t)
	o.ipsecMB, o.doc = "", ""
	t.Setenv(refuse, "avx512")
	if err := o.run(nil); err != nil {
		t.Error(err)
	}
	r, tables := written(t, o)
	if len(r.Missing) != 2 || !strings.Contains(tables, "- tier avx512: ") || !strings.Contains(tables, "- ipsec-mb: not installed") ||
		!strings.Contains(tables, "| open 256, avx2 |") || strings.Contains(tables, ", avx512 |") {
		t.Errorf("%q in\n%s", r.Missing, tables)
	}
}

func TestTimeIsKept(t *testing.T) {
	o := played(t)
	o.most = -time.Second
	if err := o.run(nil); err == nil || !strings.Contains(err.Error(), "no time left") {
		t.Errorf("%v", err)
	}
	if r, _ := written(t, o); len(r.Missing) < 20 {
		t.Errorf("missing are only %q", r.Missing)
	}
	if err := o.run([]string{"x"}); err == nil {
		t.Error("an argument is ignored")
	}
}

func TestWhatTheHarnessSays(t *testing.T) {
	for _, bad := range []string{"direct 64 20\n", "direct x 20 18\n", "direct 64 0 18\n", "\n"} {
		if err := addTheirs(make(map[string]map[int]*times), bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	ours := map[int]*times{64: {[]float64{3, 1, 2}, []float64{1, 1, 1}}}
	if _, err := compare(128, ours, nil); err == nil {
		t.Error("compared with nothing")
	}
	theirs := make(map[string]map[int]*times)
	for _, out := range []string{"a 64 9 2\nb 64 5 5\n", "a 64 3 3\nb 64 5 4\n", "a 64 8 8\nb 64 5 5\n"} {
		if err := addTheirs(theirs, out); err != nil {
			t.Fatal(err)
		}
	}
	got, err := compare(128, ours, theirs)
	if want := (peer{128, 64, 2, 1, 5, 4, "b", 0.4, 0.25}); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// A document without the two lines stays as it is.
func TestInsertNeedsItsLines(t *testing.T) {
	for _, text := range []string{"", docEnd + docBegin, "x\n" + docBegin} {
		doc := filepath.Join(t.TempDir(), "doc.md")
		if err := os.WriteFile(doc, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := insert(doc, "new"); err == nil {
			t.Errorf("%q was written to", text)
		}
		if got, err := os.ReadFile(doc); err != nil || string(got) != text {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
}
