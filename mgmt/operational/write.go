package operational

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"

	"vita/mgmt/internal/schema"
)

// WriteXML writes a node as an XML element.
func (n *Node) WriteXML(b *bytes.Buffer) { n.writeXML(b, "", "") }

// writeXML writes a node within an element of a module, whose namespace is
// declared already.
func (n *Node) writeXML(b *bytes.Buffer, outer, module string) {
	if n.Module != "" {
		module = n.Module
	}
	fmt.Fprintf(b, "<%s", n.Name)
	if module != outer {
		attribute(b, "xmlns", schema.Namespace(module))
	}
	value := n.Value
	switch n.Type {
	case Identity:
		attribute(b, "xmlns:"+n.IdentityModule, schema.Namespace(n.IdentityModule))
		value = n.IdentityModule + ":" + value
	case InstanceID:
		var modules []string
		value, modules = prefixed(value)
		for _, m := range modules {
			attribute(b, "xmlns:"+m, schema.Namespace(m))
		}
	case String, Bare, Nothing:
	}
	b.WriteByte('>')
	_ = xml.EscapeText(b, []byte(value)) // a bytes.Buffer takes every write
	for _, c := range n.Children {
		c.writeXML(b, module, module)
	}
	fmt.Fprintf(b, "</%s>", n.Name)
}

// prefixed turns an instance-identifier of JSON, in which a name has a module
// where it differs from the one before, into one of XML, in which every name has
// a prefix; the prefixes are the modules' names, which are returned.
func prefixed(path string) (xml string, modules []string) {
	var b strings.Builder
	module := ""
	for i := 0; i < len(path); {
		c := path[i]
		b.WriteByte(c)
		i++
		switch c {
		case '\'', '"': // a value, which is copied
			end := strings.IndexByte(path[i:], c) + 1
			if end == 0 {
				end = len(path) - i
			}
			b.WriteString(path[i : i+end])
			i += end
		case '/', '[': // a name
			end := strings.IndexAny(path[i:], "/[=")
			if end < 0 {
				end = len(path) - i
			}
			own, name, qualified := strings.Cut(path[i:i+end], ":")
			if !qualified {
				own, name = module, own
			}
			if c == '/' { // those of keys count for themselves
				module = own
			}
			if !slices.Contains(modules, own) {
				modules = append(modules, own)
			}
			b.WriteString(own + ":" + name)
			i += end
		}
	}
	return b.String(), modules
}

func attribute(b *bytes.Buffer, name, value string) {
	fmt.Fprintf(b, ` %s="`, name)
	_ = xml.EscapeText(b, []byte(value)) // a bytes.Buffer takes every write
	b.WriteByte('"')
}

// WriteJSON writes nodes as the members of an object, without its braces.
// module is the one of the node around them, "" at the top.
func WriteJSON(b *bytes.Buffer, module string, nodes ...*Node) {
	for i, n := range nodes {
		if i > 0 && nodes[i-1].Name == n.Name && (n.Kind == Entry || n.Kind == Item) {
			continue // written together with the first of its list
		}
		if i > 0 {
			b.WriteByte(',')
		}
		own, name := module, n.Name
		if n.Module != "" && n.Module != module {
			own, name = n.Module, n.Module+":"+n.Name
		}
		quote(b, name)
		b.WriteByte(':')
		if n.Kind != Entry && n.Kind != Item {
			n.writeValue(b, own)
			continue
		}
		b.WriteByte('[')
		for j := i; j < len(nodes) && nodes[j].Name == n.Name; j++ {
			if j > i {
				b.WriteByte(',')
			}
			nodes[j].writeValue(b, own)
		}
		b.WriteByte(']')
	}
}

func (n *Node) writeValue(b *bytes.Buffer, module string) {
	switch {
	case n.Kind == Container || n.Kind == Entry:
		b.WriteByte('{')
		WriteJSON(b, module, n.Children...)
		b.WriteByte('}')
	case n.Type == Bare:
		b.WriteString(n.Value)
	case n.Type == Identity:
		quote(b, n.IdentityModule+":"+n.Value)
	case n.Type == Nothing:
		b.WriteString("[null]")
	default:
		quote(b, n.Value)
	}
}

func quote(b *bytes.Buffer, s string) {
	text, err := json.Marshal(s)
	if err == nil { // strings always marshal
		b.Write(text)
	}
}
