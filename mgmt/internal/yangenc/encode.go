package yangenc

import (
	"bufio"
	"bytes"
	"io"
	"slices"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/nav"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/operational"
)

// Content says which nodes are written.
type Content uint8

// The values of RESTCONF's content parameter (RFC 8040 section 4.8.1).
const (
	ContentAll Content = iota
	ContentConfig
	ContentNonconfig
)

// Defaults says which leafs are written that have their default value (RFC 6243
// section 3).
type Defaults uint8

// The modes. The server's own is Explicit: a leaf that a client has set is
// never a default.
const (
	Explicit Defaults = iota // what was set
	ReportAll
	Trim
	ReportAllTagged
)

// ParseDefaults reads the name of a mode.
func ParseDefaults(name string) (Defaults, bool) {
	i := slices.Index([]string{"explicit", "report-all", "trim", "report-all-tagged"}, name)
	return Defaults(max(i, 0)), i >= 0
}

// Opts chooses what is written. The zero Opts writes everything that was set
// and is no secret.
type Opts struct {
	Filter   *Filter // nil: everything
	Content  Content
	Depth    int // levels of nodes, counted as RFC 8040 section 4.8.2 does; 0: all
	Defaults Defaults
	Secrets  bool // write secrets: not for clients

	// Hidden says which children of a struct may not be read, so that their
	// defaults are not written either; nil: none.
	Hidden func(data.Struct, *schema.Node) bool

	// More is written after the top-level nodes of the datastore resource.
	More []*operational.Node
}

// EncodeXML writes the top-level nodes as XML elements, without one around
// them.
func EncodeXML(w io.Writer, tree data.Tree, o Opts) error {
	out := newXMLWriter(w)
	walkRoot(out, tree, o)
	return out.w.Flush()
}

// EncodeJSON writes the top-level nodes as one JSON object.
func EncodeJSON(w io.Writer, tree data.Tree, o Opts) error {
	out := newJSONWriter(w)
	out.open('{')
	walkRoot(out, tree, o)
	out.close('}')
	return out.w.Flush()
}

// EncodeResourceXML writes the resource at a path as an XML element, the root
// as <data> of RESTCONF. The error wraps ErrNotFound if there is none.
func EncodeResourceXML(w io.Writer, tree data.Tree, at Path, o Opts) error {
	out := newXMLWriter(w)
	if len(at) == 0 {
		_, _ = out.w.WriteString(`<data xmlns="` + nsRESTCONF + `">`) // Flush returns the error
		out.ns = append(out.ns, nsRESTCONF)
		walkRoot(out, tree, o)
		var more bytes.Buffer
		for _, n := range o.More {
			n.WriteXML(&more)
		}
		_, _ = out.w.Write(more.Bytes())
		_, _ = out.w.WriteString("</data>")
		return out.w.Flush()
	}
	last := at[len(at)-1]
	if last.Schema.Kind == schema.List && last.Keys == nil {
		if n := at.find(tree); n.Exists() && n.Len(last.Schema) > 1 {
			return &rpcerr.Error{
				Type: rpcerr.Protocol, Tag: "invalid-value", Path: at.String(),
				Message: "a list of several entries is no XML document: name one, or ask for JSON",
			}
		}
	}
	if err := resource(out, tree, at, o); err != nil {
		return err
	}
	return out.w.Flush()
}

// EncodeResourceJSON writes the resource at a path as a JSON object with one
// member, the root as "ietf-restconf:data". The error wraps ErrNotFound if
// there is none.
func EncodeResourceJSON(w io.Writer, tree data.Tree, at Path, o Opts) error {
	out := newJSONWriter(w)
	out.open('{')
	if len(at) == 0 {
		out.name("ietf-restconf:data")
		out.open('{')
		walkRoot(out, tree, o)
		if len(o.More) > 0 {
			out.separate()
			var more bytes.Buffer
			operational.WriteJSON(&more, "", o.More...)
			_, _ = out.w.Write(more.Bytes())
		}
		out.close('}')
	} else if err := resource(out, tree, at, o); err != nil {
		return err
	}
	out.close('}')
	return out.w.Flush()
}

// sink writes nodes in one encoding. Errors stay in its bufio.Writer.
type sink interface {
	beginList(list *schema.Node)
	endList()
	begin(n *schema.Node) // a container or list entry
	end(n *schema.Node)
	leaf(n *schema.Node, value string)
	tagged(n *schema.Node, value string) // a leaf that has its default and says so
	leafList(n *schema.Node, values []string, tagged bool)
}

// walker visits what is selected. Nodes around a selected one are begun when
// it is met, so that those without any leave nothing behind.
type walker struct {
	out     sink
	o       Opts
	pending []func()
	within  []frame // what is being written, outermost first: the root
}

// frame is a container or list entry, whose struct may be none, or the root.
type frame struct {
	n *schema.Node
	s data.Struct
}

func walkRoot(out sink, tree data.Tree, o Opts) {
	w := walker{out: out, o: o}
	sel := everything
	s := data.Root(tree)
	if o.Filter != nil {
		f := o.Filter.root
		switch {
		case o.Filter.picked != nil:
			sel = o.Filter.picked.selection()
		case len(f.children) == 0 || !f.matches(s): // an empty filter selects nothing (section 6.4.2)
			sel = selection{}
		case !f.all():
			sel = selection{nodes: f.children}
		}
	}
	w.children(schema.Root(), s, sel, 1)
}

// resource writes the one resource that a path names.
func resource(out sink, tree data.Tree, at Path, o Opts) error {
	last := at[len(at)-1]
	n := last.Schema
	if n.Secret && !o.Secrets {
		return &rpcerr.Error{Type: rpcerr.Application, Tag: "access-denied", Path: at.String(), Message: "secrets are not given out"}
	}
	missing := notFound{&rpcerr.Error{Type: rpcerr.Application, Tag: "invalid-value", Path: at.String(), Message: "there is no such resource"}}
	s := at.find(tree)
	if !s.Exists() {
		return missing
	}
	w := walker{out: out, o: o, within: at.frames(tree)}
	sel := everything
	if o.Filter != nil { // of fields: relative to the resource
		sel = selection{nodes: o.Filter.root.children}
	}
	switch {
	case n.Kind == schema.LeafList:
		if !w.wanted(n) || !at.Exists(tree) {
			return missing
		}
		w.leafList(n, s, func(v string) bool { return last.Keys == nil || v == last.Keys[0] })
	case n.Kind == schema.Leaf:
		v, ok := w.value(s, n)
		if !ok || !w.wanted(n) {
			return missing
		}
		w.leaf(s, n, v)
	case n.Kind == schema.List && last.Keys == nil:
		if !s.Has(n) {
			return missing
		}
		w.list(n, s, everything, 0)
	case n.Kind == schema.List:
		w.within = w.within[:len(w.within)-1] // children adds it again
		out.beginList(n)
		out.begin(n)
		w.children(n, s, sel, 1)
		out.end(n)
		out.endList()
	default:
		w.within = w.within[:len(w.within)-1]
		if !n.Presence && s.Empty(n) && !w.defaulted(n, at[:len(at)-1].find(tree)) {
			return missing
		}
		out.begin(n)
		w.children(n, s, sel, 1)
		out.end(n)
	}
	return nil
}

// wanted says whether the content option takes a node or anything within it.
func (w *walker) wanted(n *schema.Node) bool {
	switch {
	case n.Secret && !w.o.Secrets:
		return false
	case w.o.Content == ContentConfig:
		return n.Config
	case w.o.Content == ContentNonconfig && n.Config && !n.IsKey:
		return !n.HasValue() && HasState(n)
	}
	return true
}

// HasState says whether a node is state or has state in it.
func HasState(n *schema.Node) bool {
	return !n.Config || slices.ContainsFunc(n.Children, HasState)
}

// value returns the value that is written of a leaf, if one is. s is none
// within a container that does not exist.
func (w *walker) value(s data.Struct, leaf *schema.Node) (v string, ok bool) {
	if s.Exists() {
		if v, ok = s.Leaf(leaf); ok {
			return v, w.o.Defaults != Trim || leaf.IsKey || !isDefault(leaf, v)
		}
	}
	if w.all() && len(leaf.Default) == 1 && w.inUse(leaf, s) && !w.hidden(s, leaf) {
		return leaf.Default[0], true
	}
	return "", false
}

func (w *walker) hidden(s data.Struct, n *schema.Node) bool {
	return w.o.Hidden != nil && w.o.Hidden(s, n)
}

// all says whether defaults are written that were not set.
func (w *walker) all() bool { return w.o.Defaults == ReportAll || w.o.Defaults == ReportAllTagged }

func isDefault(leaf *schema.Node, v string) bool {
	return leaf.Kind == schema.Leaf && len(leaf.Default) == 1 && leaf.Default[0] == v
}

// inUse says whether a default in a struct is in use. s is none within a
// container that does not exist.
func (w *walker) inUse(n *schema.Node, s data.Struct) bool {
	if !data.InCase(n.Case, s) {
		return false
	}
	if len(n.When) == 0 {
		return true
	}
	at := nav.RootOf(w.within[0].s, nav.Everything())
	for _, f := range w.within[1:] {
		at = at.Child(f.n, f.s)
	}
	return at.Applies(n)
}

// leafList writes the values of a leaf-list that are picked.
func (w *walker) leafList(n *schema.Node, s data.Struct, pick func(string) bool) {
	var values []string
	if s.Exists() {
		values = s.Values(n)
	}
	tagged := false
	switch {
	case values == nil && w.all() && n.Default != nil && w.inUse(n, s) && !w.hidden(s, n):
		values, tagged = n.Default, w.o.Defaults == ReportAllTagged
	case w.o.Defaults == Trim && slices.Equal(values, n.Default):
		return
	}
	if pick != nil {
		values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return !pick(v) })
	}
	if len(values) > 0 {
		w.flush()
		w.out.leafList(n, values, tagged)
	}
}

func (w *walker) leaf(s data.Struct, n *schema.Node, v string) {
	if w.o.Defaults == ReportAllTagged && (!s.Exists() || !s.Has(n)) {
		w.out.tagged(n, v)
		return
	}
	w.out.leaf(n, v)
}

// defaulted says whether a container without anything in it shows nevertheless.
func (w *walker) defaulted(c *schema.Node, s data.Struct) bool {
	if !w.all() || !c.Config || c.Presence || !w.inUse(c, s) || w.hidden(s, c) {
		return false
	}
	w.within = append(w.within, frame{n: c})
	defer func() { w.within = w.within[:len(w.within)-1] }()
	return slices.ContainsFunc(c.Children, func(n *schema.Node) bool {
		return n.HasValue() && n.Default != nil && w.inUse(n, data.Struct{}) || n.Kind == schema.Container && w.defaulted(n, data.Struct{})
	})
}

// flush begins what is pending.
func (w *walker) flush() {
	for _, begin := range w.pending {
		begin()
	}
	w.pending = w.pending[:0]
}

// around calls fn between begin and end, which are called if fn writes
// something.
func (w *walker) around(begin, end, fn func()) {
	w.pending = append(w.pending, begin)
	depth := len(w.pending)
	fn()
	if len(w.pending) >= depth {
		w.pending = w.pending[:depth-1]
		return
	}
	end()
}

// children writes what is selected within s, which is node's. level is the
// depth of s itself.
func (w *walker) children(node *schema.Node, s data.Struct, sel selection, level int) {
	w.within = append(w.within, frame{node, s})
	defer func() { w.within = w.within[:len(w.within)-1] }()
	// Keys come first (RFC 7950 section 7.8.5), and come along with
	// whatever is selected of an entry.
	for _, k := range node.Keys { // an entry exists
		if v, ok := s.Leaf(k); ok {
			w.flush()
			w.out.leaf(k, v)
		}
	}
	if w.o.Depth > 0 && level >= w.o.Depth {
		return
	}
	if sel.picked != nil && !sel.all {
		w.picked(node, s, sel.picked, level)
		return
	}
	for _, c := range node.Children {
		if c.IsKey || !w.wanted(c) {
			continue
		}
		var fs []*filterNode
		if !sel.all {
			if fs = sel.of(c); fs == nil {
				continue
			}
		}
		inner := selection{all: sel.all, nodes: fs}
		switch c.Kind {
		case schema.Leaf:
			if v, ok := w.value(s, c); ok {
				w.flush()
				w.leaf(s, c, v)
			}
		case schema.LeafList:
			w.leafList(c, s, inner.values())
		case schema.Container:
			w.container(c, s, inner, level+1)
		case schema.List:
			if s.Exists() && s.Has(c) {
				w.list(c, s, inner, level)
			}
		}
	}
}

// container writes a child of s. sel holds the filter nodes for it.
func (w *walker) container(c *schema.Node, s data.Struct, sel selection, level int) {
	has := s.Exists() && s.Has(c)
	if !has && !w.defaulted(c, s) {
		return
	}
	if s.Exists() {
		s = s.Container(c)
	}
	if !sel.all {
		var ok bool
		if sel, ok = within(sel.nodes, s); !ok {
			return
		}
	}
	w.around(func() { w.out.begin(c) }, func() { w.out.end(c) }, func() {
		if w.o.Depth > 0 && level >= w.o.Depth || c.Presence && has && sel.all {
			w.flush() // cut off here, or there by itself: it shows, empty
		}
		w.children(c, s, sel, level)
	})
}

// list writes a list's entries. sel holds the filter nodes for them.
func (w *walker) list(c *schema.Node, s data.Struct, sel selection, level int) {
	w.around(func() { w.out.beginList(c) }, w.out.endList, func() {
		for _, e := range entries(c, s, sel) {
			inner := sel
			if !sel.all {
				var ok bool
				if inner, ok = within(sel.nodes, e); !ok {
					continue
				}
			}
			w.flush()
			w.out.begin(c)
			w.children(c, e, inner, level+1)
			w.out.end(c)
		}
	})
}

// entries returns the entries that can match: the only one where a filter has
// all of its keys, otherwise all.
func entries(list *schema.Node, s data.Struct, sel selection) []data.Struct {
	if sel.all || len(sel.nodes) != 1 || len(list.Keys) == 0 {
		return s.Sorted(list)
	}
	keys := sel.nodes[0].keys()
	if keys == nil {
		return s.Sorted(list)
	}
	if e := s.Entry(list, keys); e.Exists() {
		return []data.Struct{e}
	}
	return nil
}

func newBuffer(w io.Writer) *bufio.Writer { return bufio.NewWriterSize(w, 32<<10) }
