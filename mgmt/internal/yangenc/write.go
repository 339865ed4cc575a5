package yangenc

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"io"
	"slices"
	"strings"

	"vita/mgmt/internal/schema"
)

// xmlWriter writes nodes as elements; a namespace is declared where it
// changes.
type xmlWriter struct {
	w  *bufio.Writer
	ns []string // of the open elements
}

func newXMLWriter(w io.Writer) *xmlWriter { return &xmlWriter{w: newBuffer(w)} }

func (x *xmlWriter) beginList(*schema.Node) {}
func (x *xmlWriter) endList()               {}

func (x *xmlWriter) tag(n *schema.Node, attrs string) {
	_ = x.w.WriteByte('<') // Flush returns the error, here and below
	_, _ = x.w.WriteString(n.Name)
	if len(x.ns) == 0 || x.ns[len(x.ns)-1] != n.Namespace {
		_, _ = x.w.WriteString(` xmlns="`)
		x.text(n.Namespace)
		_ = x.w.WriteByte('"')
	}
	_, _ = x.w.WriteString(attrs)
	_ = x.w.WriteByte('>')
}

func (x *xmlWriter) endTag(n *schema.Node) {
	_, _ = x.w.WriteString("</")
	_, _ = x.w.WriteString(n.Name)
	_ = x.w.WriteByte('>')
}

func (x *xmlWriter) begin(n *schema.Node) {
	x.tag(n, "")
	x.ns = append(x.ns, n.Namespace)
}

func (x *xmlWriter) end(n *schema.Node) {
	x.ns = x.ns[:len(x.ns)-1]
	x.endTag(n)
}

func (x *xmlWriter) leaf(n *schema.Node, value string) { x.element(n, value, "") }

// nsDefault is the namespace of the attribute default (RFC 6243 section 6).
const nsDefault = "urn:ietf:params:xml:ns:netconf:default:1.0"

func (x *xmlWriter) tagged(n *schema.Node, value string) {
	x.element(n, value, ` xmlns:wd="`+nsDefault+`" wd:default="true"`)
}

func (x *xmlWriter) leafList(n *schema.Node, values []string, tagged bool) {
	for _, v := range values {
		if tagged {
			x.tagged(n, v)
		} else {
			x.leaf(n, v)
		}
	}
}

func (x *xmlWriter) element(n *schema.Node, value, attrs string) {
	t := n.Type
	if t.Base == schema.Union {
		t = t.Of(value)
	}
	var modules []string // whose names are prefixes
	switch {
	case t.Base == schema.Identity:
		module, _, _ := strings.Cut(value, ":")
		modules = []string{module}
	case t.Base == schema.Instance:
		value, modules = instanceXML(value)
	case t.XPath:
		modules = schema.XPathModules(value)
	}
	for _, m := range modules {
		attrs += declaration(m)
	}
	x.tag(n, attrs)
	x.text(value)
	x.endTag(n)
}

// special are the characters that are not written as they are.
var special = [256]bool{'<': true, '>': true, '&': true, '"': true, '\'': true, '\t': true, '\r': true, '\n': true}

func (x *xmlWriter) text(value string) {
	for i := range len(value) {
		if special[value[i]] {
			_ = xml.EscapeText(x.w, []byte(value))
			return
		}
	}
	_, _ = x.w.WriteString(value)
}

// declaration declares a module's name as a prefix.
func declaration(module string) string {
	var b strings.Builder
	b.WriteString(" xmlns:" + module + `="`)
	_ = xml.EscapeText(&b, []byte(schema.Namespace(module))) // a strings.Builder takes every write
	return b.String() + `"`
}

// instanceXML writes an instance-identifier with a prefix at every name, which is
// the name of its module.
func instanceXML(value string) (text string, modules []string) {
	steps, err := schema.InstanceSteps(schema.Root(), value, schema.Form{})
	if err != nil { // it was checked when it was set
		return value, nil
	}
	var b strings.Builder
	for _, s := range steps {
		module := s.Node.Module
		if !slices.Contains(modules, module) {
			modules = append(modules, module)
		}
		b.WriteString("/" + module + ":" + s.Node.Name)
		for i, k := range s.Keys {
			name := "."
			if s.Node.Kind == schema.List {
				name = module + ":" + s.Node.Keys[i].Name
			}
			b.WriteString("[" + name + "=" + schema.Quote(k) + "]")
		}
	}
	return b.String(), modules
}

// jsonWriter writes nodes as members (RFC 7951).
type jsonWriter struct {
	w       *bufio.Writer
	comma   bool     // the next name or item needs one before it
	modules []string // of the open nodes
}

func newJSONWriter(w io.Writer) *jsonWriter { return &jsonWriter{w: newBuffer(w)} }

func (j *jsonWriter) open(bracket byte) {
	_ = j.w.WriteByte(bracket) // Flush returns the error, here and below
	j.comma = false
}

func (j *jsonWriter) close(bracket byte) {
	_ = j.w.WriteByte(bracket)
	j.comma = true
}

func (j *jsonWriter) separate() {
	if j.comma {
		_ = j.w.WriteByte(',')
	}
	j.comma = true
}

func (j *jsonWriter) name(name string) {
	j.separate()
	_ = j.w.WriteByte('"')
	_, _ = j.w.WriteString(name)
	_, _ = j.w.WriteString(`":`)
}

func (j *jsonWriter) member(n *schema.Node) { j.name(j.of(n)) }

func (j *jsonWriter) beginList(n *schema.Node) {
	j.member(n)
	j.open('[')
}

func (j *jsonWriter) endList() { j.close(']') }

func (j *jsonWriter) begin(n *schema.Node) {
	if n.Kind == schema.List {
		j.separate()
	} else {
		j.member(n)
	}
	j.modules = append(j.modules, n.Module)
	j.open('{')
}

func (j *jsonWriter) end(*schema.Node) {
	j.modules = j.modules[:len(j.modules)-1]
	j.close('}')
}

func (j *jsonWriter) leaf(n *schema.Node, value string) {
	j.member(n)
	j.value(n.Type, value)
}

func (j *jsonWriter) value(t *schema.Type, value string) {
	switch t.Of(value).JSON() {
	case '"':
		j.quoted(value)
	case '[':
		_, _ = j.w.WriteString("[null]")
	default:
		_, _ = j.w.WriteString(value)
	}
}

func (j *jsonWriter) leafList(n *schema.Node, values []string, tagged bool) {
	j.beginList(n)
	for _, v := range values {
		j.separate()
		j.value(n.Type, v)
	}
	j.endList()
	if !tagged {
		return
	}
	j.name("@" + j.of(n))
	j.open('[')
	for range values {
		j.separate()
		_, _ = j.w.WriteString(`{"ietf-netconf-with-defaults:default":true}`)
	}
	j.close(']')
}

// of returns the name of a member.
func (j *jsonWriter) of(n *schema.Node) string {
	if len(j.modules) == 0 || j.modules[len(j.modules)-1] != n.Module {
		return n.Module + ":" + n.Name
	}
	return n.Name
}

// tagged adds the annotation of RFC 8040 section 4.8.9, as RFC 7952 has it.
func (j *jsonWriter) tagged(n *schema.Node, value string) {
	j.leaf(n, value)
	j.name("@" + j.of(n))
	_, _ = j.w.WriteString(`{"ietf-netconf-with-defaults:default":true}`)
	j.comma = true
}

func (j *jsonWriter) quoted(s string) {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			plain = false
			break
		}
	}
	if plain {
		_ = j.w.WriteByte('"')
		_, _ = j.w.WriteString(s)
		_ = j.w.WriteByte('"')
		return
	}
	text, err := json.Marshal(s)
	if err == nil { // strings always marshal
		_, _ = j.w.Write(text)
	}
}
