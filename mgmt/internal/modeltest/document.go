package modeltest

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"strings"

	"vita/mgmt/internal/schema"
)

// Element is a node of a document: a leaf, a value of a leaf-list, a container or
// a list entry with its keys among its children. What it has may well be wrong.
type Element struct {
	Node     *schema.Node
	Value    string // as JSON has it
	Children []*Element
}

// Generator makes random documents of the model in use.
type Generator struct {
	*rand.Rand
	Density float64             // how likely each node is; 0: 0.3
	Wrong   float64             // how likely a value is one that its type does not take
	Strings map[string][]string // for paths: the values of a string; others are "a" to "d"
	Paths   []string            // instance-identifiers to choose from
	Skip    func(*schema.Node) bool
}

// Document makes a document: what stands at the top of a tree.
func (g *Generator) Document() []*Element { return g.children(schema.Root()) }

func (g *Generator) chance(p float64) bool { return g.Float64() < p }

func (g *Generator) children(n *schema.Node) []*Element {
	density := g.Density
	if density == 0 {
		density = 0.3
	}
	chosen := map[*schema.Choice]*schema.Case{}
	admitted := func(c *schema.Node) bool { // mostly of one case
		for in := c.Case; in != nil; in = in.Choice.Case {
			if chosen[in.Choice] == nil {
				chosen[in.Choice] = in.Choice.Cases[g.IntN(len(in.Choice.Cases))]
			}
			if chosen[in.Choice] != in && !g.chance(0.01) {
				return false
			}
		}
		return true
	}
	var out []*Element
	for _, c := range n.Children {
		if !c.Config || g.Skip != nil && g.Skip(c) || !c.IsKey && !admitted(c) {
			continue
		}
		likely := density
		switch {
		case c.IsKey:
			likely = 1
		case c.Mandatory || c.Min > 0:
			likely = 0.9
		case c.Case != nil:
			likely = 0.7
		}
		if !g.chance(likely) {
			continue
		}
		switch c.Kind {
		case schema.Leaf:
			out = append(out, &Element{Node: c, Value: g.Value(c)})
		case schema.Container:
			out = append(out, &Element{Node: c, Children: g.children(c)})
		default:
			seen := map[string]bool{}
			for range int(c.Min) + g.IntN(3) + 1 {
				e := &Element{Node: c}
				key := ""
				if c.Kind == schema.LeafList {
					e.Value = g.Value(c)
					key = e.Value
				} else {
					e.Children = g.children(c)
					for _, k := range e.Children {
						if k.Node.IsKey {
							key += k.Value + "\x00"
						}
					}
				}
				if !seen[key] || g.chance(0.02) {
					out = append(out, e)
				}
				seen[key] = true
			}
		}
	}
	return out
}

// Value returns a value for a leaf.
func (g *Generator) Value(n *schema.Node) string {
	if g.Wrong > 0 && g.chance(g.Wrong) {
		junk := []string{
			"", " ", "x", "-1", "0", "256", "1.5", "true", "abcdef", "99999999999999999999", "1e3", "0x10", "010", "+5", "every:dog", "e:dog", "dog", "more:wolf",
			"/every:here", "/every:item[name='a']/kind", "10.0.0.1", "fe80::1%eth0", "2001:DB8::1", "AAAA", "AA", "high high", " low", "-0", "-0.0", "1.", "1.100", "\u00e4", "a\nb", "<&>\"'",
		}
		return junk[g.IntN(len(junk))]
	}
	if pool := g.Strings[n.Path()]; pool != nil {
		return pool[g.IntN(len(pool))]
	}
	v := g.typed(n.Type)
	for range 20 { // mostly one that the type takes
		if _, err := n.Type.Canonical(v); err == nil {
			break
		}
		v = g.typed(n.Type)
	}
	return v
}

func (g *Generator) typed(t *schema.Type) string {
	pick := func(list ...string) string { return list[g.IntN(len(list))] }
	if few := t.Few(); len(few) > 0 {
		return pick(few...)
	}
	switch t.Base {
	case schema.Uint:
		return pick("1", "2", "3", "5", "10", "12", "16", "300", "301", "1000")
	case schema.Int:
		return pick("-7", "-1", "1", "5", "11", "-5")
	case schema.Decimal:
		return pick("1.5", "-0.25", "10.0", "2", "0.1", "-1.50", "12")
	case schema.Bits:
		var out []string
		for _, b := range t.Enums {
			if g.chance(0.5) {
				out = append(out, b.Name)
			}
		}
		g.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		return strings.Join(out, " ")
	case schema.Binary:
		return base64.StdEncoding.EncodeToString(make([]byte, 1+g.IntN(2)))
	case schema.Empty:
		return ""
	case schema.Union:
		return g.typed(t.Members[g.IntN(len(t.Members))])
	case schema.Instance:
		return pick(g.Paths...)
	}
	switch t.Name {
	case "ipv4-address-no-zone", "ipv4-address":
		return pick("10.0.0.1", "192.0.2.77")
	case "ipv6-address", "ipv6-address-no-zone":
		return pick("2001:db8::1", "2001:DB8:0:0::2", "::ffff:10.0.0.1")
	case "ipv6-prefix":
		return pick("2001:db8::/32", "2001:DB8:1::77/48")
	case "ipv4-prefix":
		return pick("10.1.0.0/16", "192.0.2.77/24", "0.0.0.0/0")
	case "ip-prefix":
		return pick("10.2.0.0/16", "2001:db8:2::/48")
	case "domain-name":
		return pick("example.com", "a.b")
	case "mac-address":
		return pick("02:00:00:00:00:01", "02:00:00:00:AB:02")
	case "pci-address":
		return pick("02:00.0", "0000:02:00.1")
	case "crypt-hash":
		return pick("$0$secret", "$1$salt$0123456789012345678901")
	case "key4":
		return pick("00112233", "0a 0b 0c 0d")
	case "key16":
		return pick(strings.Repeat("1a", 16), strings.Repeat("2B ", 16))
	case "key32":
		return pick(strings.Repeat("1a", 32), strings.Repeat("2b", 32), strings.Repeat("3c", 32))
	}
	return pick("a", "b", "c", "d", "p", "q", "xy")
}

// XML writes elements beside each other.
func XML(list []*Element) string {
	var b strings.Builder
	for _, e := range list {
		e.xml(&b, "")
	}
	return b.String()
}

func (e *Element) xml(b *strings.Builder, ns string) {
	b.WriteString("<" + e.Node.Name)
	if ns != e.Node.Namespace {
		b.WriteString(` xmlns="` + e.Node.Namespace + `"`)
	}
	if e.Node.HasValue() {
		value := e.Value
		modules := []string{}
		switch prefix, _, ok := strings.Cut(value, ":"); {
		case strings.HasPrefix(value, "/"):
			value, modules = prefixed(value)
		case ok && schema.Namespace(prefix) != "":
			modules = append(modules, prefix)
		}
		for _, m := range modules {
			b.WriteString(" xmlns:" + m + `="` + schema.Namespace(m) + `"`)
		}
		b.WriteString(">")
		_ = xml.EscapeText(b, []byte(value)) // a strings.Builder takes every write
	} else {
		b.WriteString(">")
		for _, c := range e.Children {
			c.xml(b, e.Node.Namespace)
		}
	}
	b.WriteString("</" + e.Node.Name + ">")
}

// prefixed gives every name of an instance-identifier its module as a prefix.
func prefixed(value string) (string, []string) {
	steps, err := schema.InstanceSteps(schema.Root(), value, schema.Form{})
	if err != nil {
		return value, nil
	}
	var b strings.Builder
	seen := map[string]bool{}
	var modules []string
	for _, s := range steps {
		m := s.Node.Module
		if !seen[m] {
			seen[m] = true
			modules = append(modules, m)
		}
		fmt.Fprintf(&b, "/%s:%s", m, s.Node.Name)
		for i, k := range s.Keys {
			name := "."
			if s.Node.Kind == schema.List {
				name = m + ":" + s.Node.Keys[i].Name
			}
			fmt.Fprintf(&b, "[%s='%s']", name, k)
		}
	}
	return b.String(), modules
}

// JSON writes elements as one object.
func JSON(list []*Element) string {
	var b strings.Builder
	object(&b, list, "")
	return b.String()
}

func object(b *strings.Builder, list []*Element, module string) {
	b.WriteByte('{')
	done := map[*schema.Node]bool{}
	for _, e := range list {
		n := e.Node
		if many := n.Kind == schema.List || n.Kind == schema.LeafList; many && done[n] {
			continue
		}
		if b.String()[b.Len()-1] != '{' {
			b.WriteByte(',')
		}
		done[n] = true
		name := n.Name
		if n.Module != module {
			name = n.Module + ":" + name
		}
		fmt.Fprintf(b, "%q:", name)
		if n.Kind == schema.Leaf || n.Kind == schema.Container {
			e.json(b)
			continue
		}
		b.WriteByte('[')
		first := true
		for _, o := range list {
			if o.Node != n {
				continue
			}
			if !first {
				b.WriteByte(',')
			}
			first = false
			o.json(b)
		}
		b.WriteByte(']')
	}
	b.WriteByte('}')
}

func (e *Element) json(b *strings.Builder) {
	if !e.Node.HasValue() {
		object(b, e.Children, e.Node.Module)
		return
	}
	kind := e.Node.Type.JSON()
	number := json.Valid([]byte(e.Value)) && strings.Trim(e.Value, "-0123456789.") == ""
	switch {
	case kind == 0:
		if v, err := e.Node.Type.Canonical(e.Value); err == nil {
			kind = e.Node.Type.Of(v).JSON()
		} else if kind = '"'; number {
			kind = '0'
		}
		if e.Value == "" {
			kind = '['
		}
	case kind == '0' && !number, kind == 't' && e.Value != "true" && e.Value != "false", kind == '[' && e.Value != "":
		kind = '"'
	}
	switch kind {
	case '0', 't':
		b.WriteString(e.Value)
	case '[':
		b.WriteString("[null]")
	default:
		text, err := json.Marshal(e.Value)
		if err == nil { // strings always marshal
			b.Write(text)
		}
	}
}
