package operator

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/yangenc"
)

// Completer completes what an operator types, by the schema, and as far as keys
// of lists go by what a gateway has.
type Completer struct {
	Client *Client // nil: keys are not completed
	State  bool    // paths lead to state, not to configuration
}

// Path returns the paths that a beginning can grow into by one step. One that is
// finished ends in a blank.
func (c Completer) Path(ctx context.Context, begin string) []string {
	if begin == "" {
		begin = "/"
	}
	done, rest := split(begin)
	at, err := parse(done)
	if err != nil || !strings.HasPrefix(begin, "/") {
		return nil
	}
	if i := strings.IndexByte(rest, '['); i >= 0 {
		return c.keys(ctx, at, done, rest[:i], rest[i:])
	}
	node := at.Schema()
	if node.Kind == schema.Leaf {
		return nil
	}
	var out []string
	for _, n := range node.Children {
		if !strings.HasPrefix(n.Name, rest) || n.IsKey && !c.State || !c.shows(n) {
			continue
		}
		text := done + "/" + n.Name
		switch n.Kind {
		case schema.List:
			out = append(out, text+"["+n.Keys[0].Name+"=")
			if strings.HasPrefix(rest, n.Name) { // all of it
				out = append(out, text+" ")
			}
		case schema.Container:
			out = append(out, text+"/")
		default:
			out = append(out, text+" ")
		}
	}
	return out
}

func (c Completer) shows(n *schema.Node) bool {
	if c.State {
		return yangenc.HasState(n)
	}
	return n.Config
}

// split parts a path into whole steps and the beginning of the next.
func split(path string) (done, rest string) {
	quote, inside, last := byte(0), false, 0
	for i := range len(path) {
		switch ch := path[i]; {
		case quote != 0:
			if ch == quote {
				quote = 0
			}
		case inside && (ch == '\'' || ch == '"'):
			quote = ch
		case ch == '[':
			inside = true
		case ch == ']':
			inside = false
		case ch == '/' && !inside:
			last = i
		}
	}
	return path[:last], path[last+1:]
}

// keys completes the predicates of a list's entry.
func (c Completer) keys(ctx context.Context, at yangenc.Path, done, name, predicates string) []string {
	list := named(at.Schema(), name)
	if list == nil || list.Kind != schema.List || !c.shows(list) {
		return nil
	}
	have := done + "/" + name
	// Whole predicates, and the one that has begun.
	var known []string
	whole := strings.LastIndexByte(predicates, ']') + 1
	for one := range strings.SplitSeq(predicates[:whole], "]") {
		if _, v, ok := strings.Cut(one, "="); ok {
			known = append(known, strings.Trim(v, `'"`))
		}
	}
	have += predicates[:whole]
	predicates = predicates[whole:]
	if len(known) >= len(list.Keys) {
		return []string{have + "/", have + " "}
	}
	key := list.Keys[len(known)]
	if predicates == "" {
		return []string{have + "[" + key.Name + "="}
	}
	k, begin, valued := strings.Cut(strings.TrimPrefix(predicates, "["), "=")
	if !valued {
		if strings.HasPrefix(key.Name, k) {
			return []string{have + "[" + key.Name + "="}
		}
		return nil
	}
	var out []string
	for _, v := range c.values(ctx, at, list, known) {
		if strings.HasPrefix(v, begin) && k == key.Name {
			text := have + "[" + k + "=" + v + "]"
			if len(known)+1 == len(list.Keys) && !slices.Contains(out, text+"/") {
				out = append(out, text+"/")
			} else if !slices.Contains(out, text) && len(known)+1 < len(list.Keys) {
				out = append(out, text)
			}
		}
	}
	return out
}

// values asks the gateway for the values of the key that follows some known ones.
func (c Completer) values(ctx context.Context, at yangenc.Path, list *schema.Node, known []string) []string {
	if c.Client == nil {
		return nil
	}
	names := make([]string, len(list.Keys))
	for i, k := range list.Keys {
		names[i] = k.Name
	}
	base := candidate
	if c.State {
		base = running
	}
	if len(at) > 0 {
		base += "/" + at.RESTCONF()
	}
	body, err := c.Client.do(ctx, http.MethodGet, base+"?fields="+url.QueryEscape(list.Module+":"+list.Name+"("+strings.Join(names, ";")+")"), "", nil)
	if err != nil {
		return nil
	}
	all, err := flatten(at, body)
	if err != nil {
		return nil
	}
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(display(at), "/") + "/" + list.Name)
	for i, v := range known {
		b.WriteString("[" + list.Keys[i].Name + "=" + v + "]")
	}
	b.WriteString("[" + list.Keys[len(known)].Name + "=")
	prefix := b.String()
	var out []string
	for _, l := range all {
		rest, ok := strings.CutPrefix(l.Path, prefix)
		if end := strings.IndexByte(rest, ']'); ok && end >= 0 && !slices.Contains(out, rest[:end]) {
			out = append(out, rest[:end])
		}
	}
	return out
}

// Value returns the values that a leaf can have, where they are few.
func (Completer) Value(path, begin string) []string {
	at, err := parse(path)
	if err != nil || at.Schema().Kind != schema.Leaf {
		return nil
	}
	var out []string
	for _, v := range at.Schema().Type.Few() {
		if strings.HasPrefix(v, begin) {
			out = append(out, v+" ")
		}
	}
	return out
}

// Routes returns the ids of the routes that begin so.
func (c Completer) Routes(ctx context.Context, begin string) []string {
	var out []string
	for _, list := range []string{"route4", "route6"} {
		for _, v := range c.values(ctx, nil, named(schema.Root(), list), nil) {
			if strings.HasPrefix(v, begin) {
				out = append(out, v+" ")
			}
		}
	}
	return out
}

// Words parts a command line as shells do, with quotes and backslashes. The last
// word is the one that is being typed, and may be empty.
func Words(line string) []string {
	var out []string
	var b strings.Builder
	quote := byte(0)
	begun := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case quote != 0 && c == quote:
			quote = 0
		case quote == '\'':
			b.WriteByte(c)
		case c == '\\' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
			begun = true
		case quote != 0:
			b.WriteByte(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if begun {
				out = append(out, b.String())
				b.Reset()
			}
			begun = false
		default:
			b.WriteByte(c)
			begun = true
		}
	}
	return append(out, b.String())
}
