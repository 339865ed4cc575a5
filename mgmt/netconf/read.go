package netconf

import (
	"bytes"
	"fmt"

	"vita/mgmt/datastore"
	"vita/mgmt/internal/nav"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/view"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/internal/xpath"
	"vita/mgmt/internal/yangenc"
	op "vita/mgmt/operational"
)

// selection is what a <filter> asks for: everything, a subtree, or what an
// XPath expression leads to.
type selection struct {
	element *xmltree.Element // of a subtree filter
	subtree *yangenc.Filter
	path    *xpath.Expr
}

// filter reads a <filter>; without one everything is selected.
func filter(e *xmltree.Element) (sel selection, err error) {
	if e == nil {
		return sel, nil
	}
	attr := func(name string) string {
		for _, a := range e.Attrs {
			if a.Name.Local == name && (a.Name.Space == "" || a.Name.Space == nsBase) {
				return a.Value
			}
		}
		return ""
	}
	switch kind := attr("type"); kind {
	case "", "subtree":
		sel.element = e
		sel.subtree, err = yangenc.SubtreeFilter(e)
		return sel, err
	case "xpath":
		text := attr("select")
		if text == "" {
			return sel, &rpcerr.Error{
				Type: "protocol", Tag: "missing-attribute", BadAttribute: "select", BadElement: "filter",
				Message: "<filter> of type xpath needs the attribute select",
			}
		}
		sel.path, err = xpath.Compile(text, prefixes(e))
		if err != nil {
			err = &rpcerr.Error{
				Type: "protocol", Tag: "bad-attribute", BadAttribute: "select", BadElement: "filter", Message: "select: " + err.Error(),
			}
		}
		return sel, err
	default:
		return sel, &rpcerr.Error{
			Type: "protocol", Tag: "bad-attribute", BadAttribute: "type", BadElement: "filter",
			Message: fmt.Sprintf("filter type %q is not supported: use subtree or xpath", kind),
		}
	}
}

// prefixes resolves the prefixes that an element knows (RFC 6241 section
// 8.9.1). A name without one stands for nodes of any namespace, as it does in
// a subtree filter.
func prefixes(e *xmltree.Element) xpath.Resolve {
	return func(prefix string) (string, bool) {
		if prefix == "" {
			return "", true
		}
		ns, ok := e.Lookup(prefix)
		if !ok {
			return "", false
		}
		if m := schema.ModuleOf(ns); m != "" {
			return m, true
		}
		return "of " + ns, true // nothing has that
	}
}

// get reads configuration and state (RFC 6241 section 7.7).
func (n *session) get(rpc *xmltree.Element, out *bytes.Buffer) error {
	p, err := params(rpc, "filter", "with-defaults")
	if err != nil {
		return err
	}
	return n.read(datastore.Running, yangenc.ContentAll, p, out)
}

// getConfig reads configuration (RFC 6241 section 7.1).
func (n *session) getConfig(rpc *xmltree.Element, out *bytes.Buffer) error {
	p, err := params(rpc, "source", "filter", "with-defaults")
	if err != nil {
		return err
	}
	from, err := n.store(rpc, p["source"], "source")
	if err != nil {
		return err
	}
	return n.read(from, yangenc.ContentConfig, p, out)
}

func (n *session) read(from datastore.Name, content yangenc.Content, p map[string]*xmltree.Element, out *bytes.Buffer) error {
	sel, err := filter(p["filter"])
	if err != nil {
		return err
	}
	mode, err := defaults(p["with-defaults"])
	if err != nil {
		return err
	}
	var more []*op.Node
	if content == yangenc.ContentAll {
		more = n.operational(sel)
	}
	o := yangenc.Opts{Filter: sel.subtree, Content: content, Defaults: mode}
	out.WriteString("<data>")
	err = n.server.o.Datastore.ReadAs(n.ds, from, yangenc.Wants("gateway-state", nil, o), func(v *view.View) error {
		o.Hidden = v.Hidden
		if sel.path != nil {
			all := mode == yangenc.ReportAll || mode == yangenc.ReportAllTagged
			nodes, err := sel.path.Select(nav.Root(v.Root, nav.Options{Defaults: all, Config: content == yangenc.ContentConfig, More: more, Hidden: v.Hidden}))
			if err != nil {
				return &rpcerr.Error{Type: "application", Tag: "invalid-value", BadElement: "filter", Message: "select: " + err.Error()}
			}
			own, others := nav.Split(nodes)
			o.Filter, more = yangenc.PickFilter(own), others
		}
		return yangenc.EncodeXML(out, v.Root, o)
	})
	for _, m := range more {
		m.WriteXML(out)
	}
	out.WriteString("</data>")
	return err
}

// operational returns the data that are not in the gateway's own tree, as far
// as they can be selected.
func (n *session) operational(sel selection) []*op.Node {
	var all []*op.Node
	access := n.access()
	for _, p := range n.server.o.Monitor.Providers() {
		for _, name := range p.Roots() {
			if sel.path != nil && !sel.path.Mentions(name.Name) || !op.Wants(sel.element, name) {
				continue
			}
			if root := access.Prune(p.Root(name)); root != nil {
				if root = root.Select(sel.element); root != nil {
					all = append(all, root)
				}
			}
		}
	}
	return all
}
