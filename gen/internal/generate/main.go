// Command generate writes gen/vita.go. It runs ygot's generator on a copy of
// the model in which the nodes of a choice at the top of the module stand
// directly at the top: ygot leaves them out otherwise. Choices are not in the
// data tree, so that the structs are the same as they would be without this.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/openconfig/goyang/pkg/yang"
)

// Generator is ygot's generator, pinned.
const generator = "github.com/openconfig/ygot/generator@v0.36.0"

// The gateway's modules; those after the first augment it.
const (
	module    = "vita-esp-gateway.yang"
	extension = "vita-esp-gateway-ext.yang"
)

func main() {
	if err := run("vita.go", "../yang"); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(output, models string) error {
	output, err := filepath.Abs(output)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "generate")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }() // a leftover does no harm
	if err := os.CopyFS(work, os.DirFS(models)); err != nil {
		return err
	}
	lifted, err := flatten(filepath.Join(work, module))
	if err != nil {
		return err
	}
	if err := shorten(filepath.Join(work, extension), lifted); err != nil {
		return err
	}
	cmd := exec.Command("go", "run", "-trimpath", generator,
		"-path=.,ietf", "-output_file=vita.go", "-package_name=gen",
		"-generate_fakeroot", "-fakeroot_name=Vita", "-compress_paths=false",
		"-exclude_modules=ietf-inet-types,ietf-yang-types,ietf-netconf-acm",
		"-generate_simple_unions", "-yangpresence", "-shorten_enum_leaf_names",
		"-typedef_enum_with_defmod", module, extension)
	cmd.Dir = work // relative names keep this machine's paths out of the output
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", generator, err)
	}
	code, err := os.ReadFile(filepath.Join(work, "vita.go"))
	if err != nil {
		return err
	}
	return os.WriteFile(output, code, 0o644)
}

// flatten lifts the nodes of choices at the top of a module to its top. It
// returns the names of those choices and of their cases.
func flatten(file string) (lifted map[string]bool, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	statements, err := yang.Parse(string(text), filepath.Base(file))
	if err != nil {
		return nil, err
	}
	lifted = map[string]bool{}
	var out strings.Builder
	for _, m := range statements {
		fmt.Fprintf(&out, "%s %s {\n", m.Keyword, m.Argument)
		for _, s := range m.SubStatements() {
			if err := write(&out, s, lifted); err != nil {
				return nil, err
			}
		}
		out.WriteString("}\n")
	}
	return lifted, os.WriteFile(file, []byte(out.String()), 0o644)
}

func write(out *strings.Builder, s *yang.Statement, lifted map[string]bool) error {
	if s.Keyword != "choice" && s.Keyword != "case" {
		return s.Write(out, "  ")
	}
	lifted[s.Argument] = true
	for _, child := range s.SubStatements() {
		switch child.Keyword {
		case "description", "mandatory", "default", "reference", "status", "config":
			continue
		}
		if err := write(out, child, lifted); err != nil {
			return err
		}
	}
	return nil
}

var augment = regexp.MustCompile(`augment "(/[^"]*)"`)

// shorten takes the lifted choices and cases out of the paths by which a module
// augments another.
func shorten(file string, lifted map[string]bool) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text = augment.ReplaceAllFunc(text, func(m []byte) []byte {
		var path strings.Builder
		for step := range strings.SplitSeq(string(augment.FindSubmatch(m)[1])[1:], "/") {
			if _, name, _ := strings.Cut(step, ":"); !lifted[name] {
				path.WriteString("/" + step)
			}
		}
		return []byte(`augment "` + path.String() + `"`)
	})
	if text, err = dataAlone(text, filepath.Base(file)); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// dataAlone leaves out what is not in the data tree, of which ygot refuses some.
func dataAlone(text []byte, name string) ([]byte, error) {
	statements, err := yang.Parse(string(text), name)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	for _, m := range statements {
		fmt.Fprintf(&out, "%s %s {\n", m.Keyword, m.Argument)
		for _, s := range m.SubStatements() {
			if s.Keyword == "notification" || s.Keyword == "rpc" {
				continue
			}
			if err := s.Write(&out, "  "); err != nil {
				return nil, err
			}
		}
		out.WriteString("}\n")
	}
	return []byte(out.String()), nil
}
