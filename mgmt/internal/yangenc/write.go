package yangenc

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"io"
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
		_ = xml.EscapeText(x.w, []byte(n.Namespace))
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

func (x *xmlWriter) element(n *schema.Node, value, attrs string) {
	x.tag(n, attrs)
	if n.Type.Base == schema.String && strings.ContainsAny(value, "<>&\"'\t\r\n") {
		_ = xml.EscapeText(x.w, []byte(value))
	} else {
		_, _ = x.w.WriteString(value)
	}
	x.endTag(n)
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

func (j *jsonWriter) member(n *schema.Node) {
	if len(j.modules) == 0 || j.modules[len(j.modules)-1] != n.Module {
		j.name(n.Module + ":" + n.Name)
		return
	}
	j.name(n.Name)
}

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
	switch {
	case n.Type.Base == schema.String:
		j.quoted(value)
	case n.Type.Base != schema.Bool && n.Type.Bits == 64:
		_ = j.w.WriteByte('"')
		_, _ = j.w.WriteString(value)
		_ = j.w.WriteByte('"')
	default:
		_, _ = j.w.WriteString(value)
	}
}

// tagged adds the annotation of RFC 8040 section 4.8.9, as RFC 7952 has it.
func (j *jsonWriter) tagged(n *schema.Node, value string) {
	j.leaf(n, value)
	name := n.Name
	if len(j.modules) == 0 || j.modules[len(j.modules)-1] != n.Module {
		name = n.Module + ":" + n.Name
	}
	j.name("@" + name)
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
