package restconf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"vita/gen"
	"vita/mgmt/datastore"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/view"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/internal/yangenc"
	"vita/mgmt/nacm"
)

// request is one request on the datastore resource or a data resource.
type request struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	media string // of the answer
	store datastore.Name
	base  string // path of the datastore's resource
	at    yangenc.Path

	foreign string // module of a target that is not in the gateway's tree
}

// session is whom the datastore sees.
func session(r *http.Request) *datastore.Session {
	s := &datastore.Session{Transport: "restconf", Peer: r.RemoteAddr}
	s.User, _ = r.Context().Value(userKey{}).(string) // set by authenticate on every way here
	s.Recovery = local(r)
	return s
}

// access returns what the user may do.
func (q *request) access() *nacm.Access { return q.s.o.Datastore.Access(session(q.r)) }

// methods of the datastore resource and of data resources.
var methods = map[string]func(*request) error{
	http.MethodGet:     (*request).get,
	http.MethodHead:    (*request).get,
	http.MethodPut:     (*request).put,
	http.MethodPost:    (*request).post,
	http.MethodPatch:   (*request).patch,
	http.MethodDelete:  (*request).delete,
	http.MethodOptions: (*request).options,
}

func (s *Server) onData(prefix string, store datastore.Name) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		method := methods[r.Method]
		if method == nil {
			writeError(w, r, http.StatusMethodNotAllowed, errMethod(r.Method))
			return
		}
		media, err := accepted(r)
		if err != nil {
			writeError(w, r, http.StatusNotAcceptable, err)
			return
		}
		raw := strings.TrimPrefix(strings.TrimPrefix(r.URL.EscapedPath(), root+prefix), "/")
		if p, name := s.provider(store, raw); p != nil {
			o := &operational{request{s: s, w: w, r: r, media: media, store: store, foreign: name.Module}, p, name, strings.Split(raw, "/")}
			o.serve()
			return
		}
		at, err := yangenc.ParseRESTCONF(raw)
		if err == nil && len(at) > 0 && at.Whole() {
			err = &rpcerr.Error{ // RFC 8040 section 3.5.3
				Type: "protocol", Tag: "missing-element", Path: at.String(),
				Message: "a list entry is named with its keys: LIST=KEY,KEY, a leaf-list's value as LIST=VALUE",
			}
		}
		if err != nil {
			writeError(w, r, 0, err)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.o.MaxBody)
		if err := method(&request{s: s, w: w, r: r, media: media, store: store, base: root + prefix, at: at}); err != nil {
			status := 0
			if we, ok := errors.AsType[*statusError](err); ok {
				status = we.status
			} else if errors.Is(err, yangenc.ErrNotFound) {
				status = http.StatusNotFound
			}
			writeError(w, r, status, err)
		}
	}
}

// query reads the query parameters; one that is not in want, has no value or
// comes twice is an error (RFC 8040 section 4.8).
func (q *request) query(want ...string) (url.Values, error) {
	v, err := parseQuery(q.r)
	if err != nil {
		return nil, badQuery("query: %v", err)
	}
	for name, values := range v {
		known := false
		for _, w := range want {
			known = known || w == name
		}
		switch {
		case !known:
			return nil, badQuery("query parameter %q is not supported for %s here: have %v", name, q.r.Method, want)
		case len(values) != 1:
			return nil, badQuery("query parameter %q comes %d times", name, len(values))
		}
	}
	return v, nil
}

// parseQuery reads the query. A semicolon stands for itself, as in the fields
// parameter; Go's own parser refuses it.
func parseQuery(r *http.Request) (url.Values, error) {
	return url.ParseQuery(strings.ReplaceAll(r.URL.RawQuery, ";", "%3B"))
}

func badQuery(format string, a ...any) error {
	return &rpcerr.Error{Type: "protocol", Tag: "invalid-value", Message: fmt.Sprintf(format, a...)}
}

// get answers GET and HEAD (RFC 8040 sections 4.2, 4.3).
func (q *request) get() error {
	o, err := q.selection()
	if err != nil {
		return err
	}
	if q.at.Config() || len(q.at) == 0 {
		v, err := q.validator()
		if err != nil {
			return err
		}
		q.validators(v, q.media)
		if done := q.unmodified(v, o.Content); done {
			return nil
		}
	}
	if len(q.at) == 0 && q.store == datastore.Running && o.Content != yangenc.ContentConfig {
		o.More = q.s.roots(o.Depth, q.r)
	}
	var body bytes.Buffer
	err = q.s.o.Datastore.ReadAs(session(q.r), q.store, yangenc.Wants("gateway-state", q.at, o), func(v *view.View) error {
		o.Hidden = v.Hidden
		if q.media == mediaXML {
			return yangenc.EncodeResourceXML(&body, v.Root, q.at, o)
		}
		return yangenc.EncodeResourceJSON(&body, v.Root, q.at, o)
	})
	if err != nil {
		return err
	}
	q.w.Header().Set("Content-Type", q.media)
	q.w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	if q.r.Method != http.MethodHead {
		_, _ = q.w.Write(body.Bytes()) // the client may be gone
	}
	return nil
}

// selection reads the query parameters of GET and HEAD (RFC 8040 section 4.8).
func (q *request) selection() (yangenc.Opts, error) {
	v, err := q.query("content", "depth", "fields", "with-defaults")
	o := yangenc.Opts{Content: yangenc.ContentAll}
	if err != nil {
		return o, err
	}
	if q.store != datastore.Running {
		o.Content = yangenc.ContentConfig
	}
	switch c := v.Get("content"); c {
	case "":
	case "all":
		o.Content = yangenc.ContentAll
	case "config":
		o.Content = yangenc.ContentConfig
	case "nonconfig":
		o.Content = yangenc.ContentNonconfig
	default:
		return o, badQuery("content=%s: want config, nonconfig or all", c)
	}
	if d := v.Get("depth"); d != "" && d != "unbounded" {
		n, err := strconv.ParseUint(d, 10, 16)
		if err != nil || n == 0 {
			return o, badQuery("depth=%s: want unbounded or 1 to 65535", d)
		}
		o.Depth = int(n)
	}
	if v.Has("fields") && q.foreign == "" {
		if o.Filter, err = yangenc.FieldsFilter(q.at, v.Get("fields")); err != nil {
			return o, err
		}
	}
	if mode := v.Get("with-defaults"); mode != "" {
		var ok bool
		if o.Defaults, ok = yangenc.ParseDefaults(mode); !ok {
			return o, badQuery("with-defaults=%s: want explicit, report-all, report-all-tagged or trim", mode)
		}
	}
	return o, nil
}

// put creates or replaces the target (RFC 8040 section 4.5).
func (q *request) put() error {
	v, err := q.query("insert", "point")
	if err != nil {
		return err
	}
	e, err := q.decode(q.at, yangenc.DecodeResourceJSON, yangenc.DecodeResourceXML)
	if err != nil {
		return err
	}
	q.at.SetOp(e, edit.Replace)
	if err := insert(e, q.at, v); err != nil {
		return err
	}
	had := true
	if err := q.edit(e, func(exists bool) error {
		had = exists
		return nil
	}); err != nil {
		return err
	}
	if !had {
		q.w.WriteHeader(http.StatusCreated)
		return nil
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// post creates a child of the target (RFC 8040 section 4.4.1).
func (q *request) post() error {
	v, err := q.query("insert", "point")
	if err != nil {
		return err
	}
	var created yangenc.Path
	e, err := q.decode(q.at,
		func(b []byte, at yangenc.Path) (e *edit.Node, err error) {
			e, created, err = yangenc.DecodeChildJSON(b, at)
			return e, err
		},
		func(x *xmltree.Element, at yangenc.Path) (e *edit.Node, err error) {
			e, created, err = yangenc.DecodeChildXML(x, at)
			return e, err
		})
	if err != nil {
		return err
	}
	if err := insert(e, created, v); err != nil {
		return err
	}
	if err := q.edit(e, q.needed); err != nil {
		return err
	}
	q.w.Header().Set("Location", "https://"+q.r.Host+q.base+"/"+created.RESTCONF())
	q.w.WriteHeader(http.StatusCreated)
	return nil
}

// insert takes over where the target of an edit goes in the order of its list
// (RFC 8040 sections 4.8.5, 4.8.6).
func insert(e *edit.Node, at yangenc.Path, query url.Values) error {
	if !query.Has("insert") && !query.Has("point") {
		return nil
	}
	return at.Insert(e, query.Get("insert"), query.Get("point"))
}

// patch merges into a target that exists (RFC 8040 section 4.6.1).
func (q *request) patch() error {
	if _, err := q.query(); err != nil {
		return err
	}
	if media, ok := patchMedia(q.r); ok {
		return q.yangPatch(media)
	}
	e, err := q.decode(q.at, yangenc.DecodeResourceJSON, yangenc.DecodeResourceXML)
	if err != nil {
		return err
	}
	q.at.SetOp(e, edit.Merge)
	if err := q.edit(e, q.needed); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// delete removes the target (RFC 8040 section 4.7).
func (q *request) delete() error {
	if _, err := q.query(); err != nil {
		return err
	}
	if len(q.at) == 0 {
		return &statusError{http.StatusMethodNotAllowed, errMethod(q.r.Method)}
	}
	if err := q.edit(q.at.Delete(), q.needed); err != nil {
		return err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil
}

// options tells the methods of the target (RFC 8040 section 4.1).
func (q *request) options() error {
	allow := "OPTIONS, HEAD, GET"
	switch {
	case len(q.at) == 0:
		allow += ", POST, PUT, PATCH"
	case q.at.Config():
		allow += ", POST, PUT, PATCH, DELETE"
	}
	q.w.Header().Set("Allow", allow)
	if len(q.at) == 0 || q.at.Config() {
		q.w.Header().Set("Accept-Patch", mediaJSON+", "+mediaXML+", "+mediaPatchJSON+", "+mediaPatchXML)
	}
	q.w.WriteHeader(http.StatusOK)
	return nil
}

// edit changes the datastore; running is validated, forwarded and stored when
// it returns. The operations are the edit tree's own. The request's
// preconditions hold when it begins, as does found, which is told whether the
// target exists.
func (q *request) edit(e *edit.Node, found func(exists bool) error) error {
	return q.edits([]*edit.Node{e}, found)
}

func (q *request) edits(e []*edit.Node, found func(exists bool) error) error {
	return q.s.o.Datastore.Edits(q.r.Context(), session(q.r), q.store, e, datastore.EditOptions{
		Default: edit.None,
		If: func(root *gen.Vita) error {
			readable := view.Of(root, q.access().Root(nacm.Read))
			exists := q.at.Exists(readable.Root)
			v := q.ofVersion()
			if q.restricted() {
				v = q.ofContent(readable)
			}
			if err := q.preconditions(v, exists); err != nil {
				return err
			}
			return found(exists)
		},
		Done: func() {
			if q.r.Method == http.MethodPut || q.r.Method == http.MethodPatch {
				if v, err := q.validator(); err == nil {
					q.validators(v, q.media)
				}
			}
		},
	})
}

// needed makes the target's absence a 404, as methods that work on an existing
// resource need it. The datastore and its containers always exist.
func (q *request) needed(exists bool) error {
	if exists || len(q.at) == 0 {
		return nil
	}
	return &statusError{http.StatusNotFound, &rpcerr.Error{
		Type: "application", Tag: "invalid-value", Path: q.at.String(),
		Message: "there is no such resource",
	}}
}

// decode reads the body in the encoding that its Content-Type names.
func (q *request) decode(at yangenc.Path,
	fromJSON func([]byte, yangenc.Path) (*edit.Node, error),
	fromXML func(*xmltree.Element, yangenc.Path) (*edit.Node, error),
) (*edit.Node, error) {
	media, _, err := mime.ParseMediaType(q.r.Header.Get("Content-Type"))
	if err != nil || media != mediaJSON && media != mediaXML {
		return nil, &statusError{http.StatusUnsupportedMediaType, &rpcerr.Error{
			Type: "protocol", Tag: "invalid-value",
			Message: fmt.Sprintf("Content-Type %q: want %s or %s", q.r.Header.Get("Content-Type"), mediaJSON, mediaXML),
		}}
	}
	body, err := q.body()
	if err != nil {
		return nil, err
	}
	if media == mediaJSON {
		return fromJSON(body, at)
	}
	x, err := q.parseXML(body)
	if err != nil {
		return nil, err
	}
	return fromXML(x, at)
}

// body reads the request's body within its limit.
func (q *request) body() ([]byte, error) {
	body, err := io.ReadAll(q.r.Body)
	if err != nil {
		return nil, bodyError(err)
	}
	return body, nil
}

// bodyError says why a body could not be read.
func bodyError(err error) error {
	if tooBig, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &rpcerr.Error{Type: "transport", Tag: "too-big", Message: fmt.Sprintf("body is larger than %d bytes", tooBig.Limit)}
	}
	return &rpcerr.Error{Type: "transport", Tag: "malformed-message", Message: "body: " + err.Error()}
}

func (q *request) parseXML(body []byte) (*xmltree.Element, error) {
	x, err := xmltree.Parse(body, xmltree.Limits{Bytes: int(q.s.o.MaxBody), Depth: 64})
	if err != nil {
		return nil, &rpcerr.Error{Type: "protocol", Tag: "malformed-message", Message: err.Error()}
	}
	return x, nil
}
