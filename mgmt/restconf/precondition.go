package restconf

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"vita/mgmt/datastore"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/view"
	"vita/mgmt/internal/yangenc"
	"vita/mgmt/nacm"
)

// Entity tags and dates are those of the resource itself, the nearest container
// or list entry, so that an edit of one route does not concern a client that
// holds another (RFC 8040 sections 3.4.1, 3.5.1; RFC 7232).

// validator is what tells the states of a resource apart.
type validator struct {
	tag  string    // without its quotes and what tells encodings apart
	time time.Time // zero: not known
}

// versioned returns the path of the resource that the target's version is of.
func (q *request) versioned() yangenc.Path {
	if n := q.at.Schema(); len(q.at) > 0 && n.HasValue() {
		return q.at[:len(q.at)-1]
	}
	return q.at
}

// restricted says whether the versions of the target say something of nodes that
// the user cannot read. Those of candidate are of all of it.
func (q *request) restricted() bool {
	read := q.access().Root(nacm.Read)
	if q.store == datastore.Running {
		read = q.versioned().Access(read)
	}
	return !read.Plain()
}

// validator returns that of the target. Where its version would say something of
// nodes that the user cannot read, it comes from what he can read, and has no date.
func (q *request) validator() (v validator, err error) {
	if !q.restricted() {
		return q.ofVersion(), nil
	}
	err = q.s.o.Datastore.ReadAs(session(q.r), q.store, nil, func(w *view.View) error {
		v = q.ofContent(w)
		return nil
	})
	return v, err
}

func (q *request) ofVersion() validator {
	path := ""
	if at := q.versioned(); len(at) > 0 {
		path = at.String()
	}
	v := q.s.o.Datastore.Version(q.store, path)
	return validator{fmt.Sprintf("%x.%x", v.Number, v.Edits), v.Time}
}

func (q *request) ofContent(w *view.View) validator {
	sum := sha256.New()
	if err := yangenc.EncodeResourceJSON(sum, w.Root, q.versioned(), yangenc.Opts{Content: yangenc.ContentConfig}); err != nil {
		sum.Reset() // there is no such resource
	}
	return validator{tag: hex.EncodeToString(sum.Sum(nil)[:12])}
}

// validators sets ETag and Last-Modified. XML and JSON are two representations
// and have two tags.
func (q *request) validators(v validator, media string) {
	suffix := "-j"
	if media == mediaXML {
		suffix = "-x"
	}
	q.w.Header().Set("ETag", `"`+v.tag+suffix+`"`)
	if !v.time.IsZero() {
		q.w.Header().Set("Last-Modified", v.time.UTC().Format(http.TimeFormat))
	}
}

// listed says whether one of a header's entity tags is the validator's, in
// whatever encoding, or the header is "*".
func listed(header []string, v validator) bool {
	for one := range strings.SplitSeq(strings.Join(header, ","), ",") {
		one = strings.TrimSpace(one)
		if one == "*" {
			return true
		}
		one = strings.Trim(strings.TrimPrefix(one, "W/"), `"`)
		if one == v.tag+"-j" || one == v.tag+"-x" {
			return true
		}
	}
	return false
}

// preconditions enforces If-Match, If-None-Match, If-Unmodified-Since and
// If-Modified-Since of an edit. A date that is none is passed over (RFC 7232
// sections 3.3, 3.4).
func (q *request) preconditions(v validator, exists bool) error {
	h := q.r.Header
	match, none := h.Values("If-Match"), h.Values("If-None-Match")
	switch {
	case match != nil && (!exists || !listed(match, v)):
		return failed("If-Match")
	case match == nil && exists && after(v.time, h.Get("If-Unmodified-Since")):
		return failed("If-Unmodified-Since")
	case none != nil && exists && listed(none, v):
		return failed("If-None-Match")
	}
	return nil
}

// after says whether a version is younger than a header's date.
func after(t time.Time, header string) bool {
	date, err := http.ParseTime(header)
	return err == nil && t.Truncate(time.Second).After(date)
}

func failed(header string) error {
	return &statusError{http.StatusPreconditionFailed, &rpcerr.Error{
		Type: "protocol", Tag: "operation-failed", Message: "the resource has changed, or does not exist: " + header + " does not hold",
	}}
}

// unmodified answers a GET whose client has the resource already. State changes
// without a version, so that only what holds none is answered so.
func (q *request) unmodified(v validator, content yangenc.Content) bool {
	if content != yangenc.ContentConfig && (len(q.at) == 0 || yangenc.HasState(q.at.Schema())) {
		return false
	}
	h := q.r.Header
	none := h.Values("If-None-Match")
	same := none != nil && listed(none, v)
	if none == nil && h.Get("If-Modified-Since") != "" && !v.time.IsZero() {
		_, err := http.ParseTime(h.Get("If-Modified-Since"))
		same = err == nil && !after(v.time, h.Get("If-Modified-Since"))
	}
	if same {
		q.w.WriteHeader(http.StatusNotModified)
	}
	return same
}
