package drop

import (
	"flag"
	"os"
	"regexp"
	"testing"
)

var update = flag.Bool("update", false, "write docs/drops.md")

const document = "../../docs/drops.md"

func TestDocumentIsCurrent(t *testing.T) {
	if *update {
		if err := os.MkdirAll("../../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(document, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != Markdown() {
		t.Fatal("docs/drops.md is not current: run go test ./forwarding/drop -update")
	}
}

func TestEveryReasonIsDescribed(t *testing.T) {
	names := make(map[string]Reason)
	wellFormed := regexp.MustCompile(`^[a-z]+(-[a-z]+)*6?$`)
	for r := range Reason(NumReasons) {
		i := r.Info()
		if !wellFormed.MatchString(i.Name) {
			t.Errorf("reason %d has the name %q", r, i.Name)
		}
		if other, ok := names[i.Name]; ok {
			t.Errorf("reasons %d and %d have the name %q", other, r, i.Name)
		}
		names[i.Name] = r
		if i.Meaning == "" || i.Cause == "" || i.Remedy == "" {
			t.Errorf("%s lacks a meaning, cause or remedy", i.Name)
		}
		if i.Counter != none && i.Counter.Path() == "" {
			t.Errorf("%s has the unknown counter %d", i.Name, i.Counter)
		}
	}
	if got := Reason(NumReasons).String(); got != "unknown" {
		t.Errorf("a reason beyond the list is called %q", got)
	}
}
