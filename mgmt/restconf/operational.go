package restconf

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"vita/mgmt/datastore"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/internal/yangenc"
	op "vita/mgmt/operational"
)

// operational is a request on data that are not in the gateway's own tree.
type operational struct {
	request
	provider op.Provider
	name     op.Name
	segments []string // of the path, still percent-encoded
}

// provider returns who provides the node that a path begins with, if it is not
// in the gateway's tree.
func (s *Server) provider(store datastore.Name, path string) (op.Provider, op.Name) {
	first, _, _ := strings.Cut(path, "/")
	if store == datastore.Running {
		for _, p := range s.o.Monitor.Providers() {
			for _, n := range p.Roots() {
				if first == n.Module+":"+n.Name {
					return p, n
				}
			}
		}
	}
	return nil, op.Name{}
}

// roots returns the top-level nodes of all providers. depth is counted from
// the datastore resource.
func (s *Server) roots(depth int, r *http.Request) []*op.Node {
	var all []*op.Node
	if depth == 1 {
		return nil
	}
	access := s.o.Datastore.Access(session(r))
	var fields *xmltree.Element
	query, err := parseQuery(r)
	if err == nil && query.Has("fields") {
		if fields, err = yangenc.FieldsElement("", query.Get("fields")); err != nil {
			return nil // selection has refused it
		}
	}
	for _, p := range s.o.Monitor.Providers() {
		for _, n := range p.Roots() {
			if !op.Wants(fields, n) {
				continue
			}
			if root := access.Prune(p.Root(n)); root != nil {
				if root = root.Select(fields); root == nil {
					continue
				}
				all = append(all, root.Cut(max(depth-1, 0)))
			}
		}
	}
	return all
}

func (q *operational) serve() {
	var err error
	switch q.r.Method {
	case http.MethodGet, http.MethodHead:
		err = q.get()
	case http.MethodOptions:
		q.w.Header().Set("Allow", "OPTIONS, HEAD, GET")
		return
	default:
		q.w.Header().Set("Allow", "OPTIONS, HEAD, GET")
		err = errMethod(q.r.Method)
	}
	switch {
	case errors.Is(err, op.ErrNotFound):
		writeError(q.w, q.r, http.StatusNotFound, &rpcerr.Error{Type: "application", Tag: "invalid-value", Message: err.Error()})
	case errors.Is(err, op.ErrPath):
		writeError(q.w, q.r, 0, &rpcerr.Error{Type: "protocol", Tag: "invalid-value", Message: err.Error()})
	case err != nil:
		writeError(q.w, q.r, 0, err)
	}
}

func (q *operational) get() error {
	o, err := q.selection()
	if err != nil {
		return err
	}
	top := q.access().Prune(q.provider.Root(q.name))
	if top == nil || o.Content == yangenc.ContentConfig {
		return op.ErrNotFound
	}
	n, module, err := top.Find(q.segments)
	if err != nil {
		return err
	}
	if fields, err := parseQuery(q.r); err == nil && fields.Has("fields") {
		e, err := yangenc.FieldsElement(module, fields.Get("fields"))
		if err != nil {
			return err
		}
		n = n.Within(module, e)
	}
	one := *n.Cut(o.Depth)
	one.Module = module // it stands alone now
	var body bytes.Buffer
	if q.media == mediaXML {
		one.WriteXML(&body)
	} else {
		body.WriteByte('{')
		op.WriteJSON(&body, "", &one)
		body.WriteByte('}')
	}
	q.w.Header().Set("Content-Type", q.media)
	q.w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	if q.r.Method != http.MethodHead {
		_, _ = q.w.Write(body.Bytes()) // the client may be gone
	}
	return nil
}
