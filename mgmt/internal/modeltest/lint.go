package modeltest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Verdict is what libyang says of a document.
type Verdict struct {
	OK      bool
	Output  string // as JSON with all defaults, where it is right
	Why     string // where it is wrong
	Crashed bool   // libyang has crashed over it
}

// Lint has libyang judge configurations, JSON or XML by the first byte, against
// modules that are among the sources. One process reads as many as it survives.
func Lint(t testing.TB, sources map[string]string, load, features, documents []string) []Verdict {
	t.Helper()
	dir := t.TempDir()
	for file, text := range sources {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names := make([]string, len(documents))
	for i, d := range documents {
		names[i] = filepath.Join(dir, fmt.Sprintf("d%d.json", i))
		if !strings.HasPrefix(d, "{") {
			names[i] = filepath.Join(dir, fmt.Sprintf("d%d.xml", i))
		}
		if err := os.WriteFile(names[i], []byte(d), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var start strings.Builder
	start.WriteString("searchpath " + dir + "\n")
	for _, m := range load {
		start.WriteString("load " + m)
		for _, f := range features {
			start.WriteString(" -F " + f)
		}
		start.WriteString("\n")
	}
	out := make([]Verdict, len(documents))
	for from := 0; from < len(documents); {
		from = lint(t, dir, start.String(), names, out, from)
	}
	return out
}

var failed = regexp.MustCompile(`Failed to parse input data file ".*/d(\d+)\.`)

// lint judges documents from one on, and returns the first that it could not.
func lint(t testing.TB, dir, start string, names []string, out []Verdict, from int) int {
	t.Helper()
	var script strings.Builder
	script.WriteString(start)
	for _, name := range names[from:] {
		script.WriteString("data -t config -f json -d all -o " + name + ".out " + name + "\n")
	}
	cmd := exec.Command("yanglint")
	cmd.Env = append(os.Environ(), "HOME="+dir)
	cmd.Stdin = strings.NewReader(script.String() + "quit\n")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	crashed := false
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status, is := exit.Sys().(syscall.WaitStatus)
		crashed = is && status.Signaled()
	}
	if err != nil && !crashed {
		t.Fatalf("yanglint (Debian package libyang2-tools): %v\n%s", err, said.String())
	}
	why := ""
	for line := range strings.Lines(said.String()) {
		m := failed.FindStringSubmatch(line)
		switch {
		case m != nil:
			i, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			out[i].Why = why + "refused"
			why = ""
		case strings.HasPrefix(line, "YANGLINT[E]"):
			t.Fatalf("yanglint: %s", line)
		default:
			why += line
		}
	}
	for i := from; i < len(names); i++ {
		if out[i].Why != "" {
			continue
		}
		text, err := os.ReadFile(names[i] + ".out")
		if err == nil && len(text) > 0 {
			out[i].OK, out[i].Output = true, string(text)
			continue
		}
		if !crashed {
			t.Fatalf("yanglint says nothing of %s: %v\n%s", names[i], err, said.String())
		}
		out[i].Crashed = true
		return i + 1
	}
	return len(names)
}
