package operational

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"

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
	if n.Type == Identity {
		attribute(b, "xmlns:"+n.IdentityModule, schema.Namespace(n.IdentityModule))
		value = n.IdentityModule + ":" + value
	}
	b.WriteByte('>')
	_ = xml.EscapeText(b, []byte(value)) // a bytes.Buffer takes every write
	for _, c := range n.Children {
		c.writeXML(b, module, module)
	}
	fmt.Fprintf(b, "</%s>", n.Name)
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
