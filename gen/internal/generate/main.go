// Command generate writes gen/vita.go. It runs ygot's generator on modules that
// are written from the model as it is when groupings, augments, deviations and
// features are decided, so that the structs are those of the data that a gateway
// has. Three things are said otherwise than in the model, since ygot would lose
// them:
//
//   - The nodes of a choice at the top stand directly at the top. Choices are not
//     in the data tree.
//   - A leaf whose type has no Go type that holds all of its values (decimal64
//     would be a float64, bits would be lost) is a string, in canonical form.
//   - Entries of a list that users order have one more leaf, their rank, since a
//     map has no order.
package main

import (
	"bytes"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"vita/internal/yangtree"
	"vita/yang"
)

// Generator is ygot's generator, pinned.
const generator = "github.com/openconfig/ygot/generator@v0.36.0"

func main() {
	if err := run("vita.go"); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(output string) error {
	output, err := filepath.Abs(output)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "generate")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }() // a leftover does no harm
	set, err := yangtree.Read(yang.Sources(), yangtree.Options{Implemented: yang.Implemented, Features: yang.Features})
	if err != nil {
		return err
	}
	w := writer{set: set, augments: map[string]map[string][]*yangtree.Statement{}}
	var files []string
	for _, m := range set.Implemented {
		text, err := w.module(m)
		if err != nil {
			return err
		}
		file := m.Name + ".yang"
		if err := os.WriteFile(filepath.Join(work, file), []byte(text), 0o600); err != nil {
			return err
		}
		files = append(files, file)
	}
	cmd := exec.Command("go", append([]string{
		"run", "-trimpath", generator,
		"-path=.", "-output_file=vita.go", "-package_name=gen",
		"-generate_fakeroot", "-fakeroot_name=Vita", "-compress_paths=false",
		"-generate_simple_unions", "-yangpresence", "-shorten_enum_leaf_names",
		"-typedef_enum_with_defmod",
		"-include_schema=false", // unpacking it is half of vitad's start, and nothing asks for it
	}, files...)...)
	cmd.Dir = work // relative names keep this machine's paths out of the output
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", generator, err)
	}
	code, err := os.ReadFile(filepath.Join(work, "vita.go"))
	if err != nil {
		return err
	}
	for _, unused := range []string{`"encoding/json"`, `"reflect"`} { // without a schema
		code = bytes.Replace(code, []byte("\t"+unused+"\n"), nil, 1)
	}
	if code, err = format.Source(code); err != nil { // ygot's own is not quite what gofmt writes
		return err
	}
	return os.WriteFile(output, code, 0o644)
}

// writer writes modules. A module's nodes within nodes of another are written as
// augments of that, by the path of what they stand in.
type writer struct {
	set      *yangtree.Set
	augments map[string]map[string][]*yangtree.Statement // by module and path
	out      strings.Builder
}

func (w *writer) module(m *yangtree.Module) (string, error) {
	w.out.Reset()
	fmt.Fprintf(&w.out, "module %s {\n  yang-version 1.1;\n  namespace %q;\n  prefix %s;\n", m.Name, m.Namespace, m.Name)
	for _, other := range w.set.Implemented {
		if other != m {
			fmt.Fprintf(&w.out, "  import %s { prefix %s; }\n", other.Name, other.Name)
		}
	}
	for _, st := range m.Body {
		if err := w.node(st, m, "", "  ", true); err != nil {
			return "", err
		}
	}
	paths := make([]string, 0, len(w.augments[m.Name]))
	for path := range w.augments[m.Name] {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		fmt.Fprintf(&w.out, "  augment %q {\n", path)
		for _, st := range w.augments[m.Name][path] {
			if err := w.node(st, m, path, "    ", false); err != nil {
				return "", err
			}
		}
		w.out.WriteString("  }\n")
	}
	w.out.WriteString("}\n")
	return w.out.String(), nil
}

// kept are the statements that are written as they are.
var kept = []string{
	"config", "default", "description", "key", "mandatory", "max-elements", "min-elements", "must", "presence", "status",
	"unique", "units",
}

// node writes a definition of module m, which stands at path.
func (w *writer) node(st *yangtree.Statement, m *yangtree.Module, path, indent string, top bool) error {
	switch st.Keyword {
	case "container", "list", "leaf", "leaf-list", "choice", "case":
	default:
		return nil // no data node
	}
	if st.In != m {
		if w.augments[st.In.Name] == nil {
			w.augments[st.In.Name] = map[string][]*yangtree.Statement{}
		}
		w.augments[st.In.Name][path] = append(w.augments[st.In.Name][path], st)
		return nil
	}
	if lifted := top && (st.Keyword == "choice" || st.Keyword == "case"); lifted {
		for _, c := range st.Children {
			if err := w.node(c, m, path, indent, true); err != nil {
				return err
			}
		}
		return nil
	}
	path += "/" + m.Name + ":" + st.Argument
	fmt.Fprintf(&w.out, "%s%s %s {\n", indent, st.Keyword, st.Argument)
	inner := indent + "  "
	for _, c := range st.Children {
		switch {
		case c.Keyword == "type":
			if err := w.typeOf(st, c, inner); err != nil {
				return err
			}
		case slices.Contains(kept, c.Keyword):
			fmt.Fprintf(&w.out, "%s%s %s;\n", inner, c.Keyword, quote(c.Argument))
		case c.Keyword == "ordered-by" && c.Argument == "user" && st.Keyword == "list":
			fmt.Fprintf(&w.out, "%sleaf vita-rank {\n%s  type uint64;\n%s  description \"The entries stand in the order of these numbers.\";\n%s}\n", inner, inner, inner, inner)
		default:
			if err := w.node(c, m, path, inner, false); err != nil {
				return err
			}
		}
	}
	w.out.WriteString(indent + "}\n")
	return nil
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

var builtin = strings.Fields("boolean string enumeration bits binary empty union identityref leafref instance-identifier decimal64 " +
	"uint8 uint16 uint32 uint64 int8 int16 int32 int64")

// typeOf writes a leaf's type with the restrictions of all typedefs that it comes by.
func (w *writer) typeOf(leaf, st *yangtree.Statement, indent string) error {
	var restrictions []string
	one := map[string]bool{}
	def := ""
	at := st
	for {
		for _, c := range at.Children {
			switch c.Keyword {
			case "range", "length":
				if one[c.Keyword] { // the innermost is the narrowest
					continue
				}
				one[c.Keyword] = true
				fallthrough
			case "pattern":
				restrictions = append(restrictions, c.Keyword+" "+quote(c.Argument)+";")
			}
		}
		if !slices.Contains(builtin, at.Argument) {
			td, err := at.Definition("typedef", at.Argument)
			if err != nil {
				return err
			}
			if d := td.Find("default"); d != nil && def == "" {
				def = d.Argument
			}
			at = td.Find("type")
			continue
		}
		break
	}
	name := at.Argument
	switch name {
	case "bits", "binary", "union", "identityref", "leafref", "instance-identifier", "decimal64":
		name, restrictions = "string", nil
	case "enumeration":
		restrictions = nil
		for i, e := range at.All("enum") {
			ok, err := w.set.Supported(e)
			if err != nil {
				return err
			}
			if ok {
				restrictions = append(restrictions, "enum "+quote(e.Argument)+" { value "+strconv.Itoa(i)+"; }")
			}
		}
	}
	if def != "" && leaf.Find("default") == nil && leaf.Value("mandatory") != "true" {
		fmt.Fprintf(&w.out, "%sdefault %s;\n", indent, quote(def))
	}
	if len(restrictions) == 0 {
		fmt.Fprintf(&w.out, "%stype %s;\n", indent, name)
		return nil
	}
	fmt.Fprintf(&w.out, "%stype %s {\n", indent, name)
	for _, r := range restrictions {
		fmt.Fprintf(&w.out, "%s  %s\n", indent, r)
	}
	w.out.WriteString(indent + "}\n")
	return nil
}
