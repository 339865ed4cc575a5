package restconf

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"vita/mgmt/datastore"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/yangenc"
)

// Entity tags and dates are those of the resource itself, the nearest container
// or list entry, so that an edit of one route does not concern a client that
// holds another (RFC 8040 sections 3.4.1, 3.5.1; RFC 7232).

// version returns the version of the target.
func (q *request) version() datastore.Version {
	at := q.at
	if n := at.Schema(); len(at) > 0 && n.HasValue() {
		at = at[:len(at)-1]
	}
	path := ""
	if len(at) > 0 {
		path = at.String()
	}
	return q.s.o.Datastore.Version(q.store, path)
}

// tag returns the entity tag of a version without its quotes and what tells
// encodings apart.
func tag(v datastore.Version) string { return fmt.Sprintf("%x.%x", v.Number, v.Edits) }

// validators sets ETag and Last-Modified. XML and JSON are two representations
// and have two tags.
func (q *request) validators(media string) {
	v := q.version()
	suffix := "-j"
	if media == mediaXML {
		suffix = "-x"
	}
	q.w.Header().Set("ETag", `"`+tag(v)+suffix+`"`)
	q.w.Header().Set("Last-Modified", v.Time.UTC().Format(http.TimeFormat))
}

// listed says whether one of a header's entity tags is the version's, in
// whatever encoding, or the header is "*".
func listed(header []string, v datastore.Version) bool {
	for one := range strings.SplitSeq(strings.Join(header, ","), ",") {
		one = strings.TrimSpace(one)
		if one == "*" {
			return true
		}
		one = strings.Trim(strings.TrimPrefix(one, "W/"), `"`)
		if one == tag(v)+"-j" || one == tag(v)+"-x" {
			return true
		}
	}
	return false
}

// preconditions enforces If-Match, If-None-Match, If-Unmodified-Since and
// If-Modified-Since of an edit. A date that is none is passed over (RFC 7232
// sections 3.3, 3.4).
func (q *request) preconditions(exists bool) error {
	v := q.version()
	h := q.r.Header
	match, none := h.Values("If-Match"), h.Values("If-None-Match")
	switch {
	case match != nil && (!exists || !listed(match, v)):
		return failed("If-Match")
	case match == nil && exists && after(v.Time, h.Get("If-Unmodified-Since")):
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
func (q *request) unmodified(content yangenc.Content) bool {
	if content != yangenc.ContentConfig && (len(q.at) == 0 || yangenc.HasState(q.at.Schema())) {
		return false
	}
	v, h := q.version(), q.r.Header
	none := h.Values("If-None-Match")
	same := none != nil && listed(none, v)
	if none == nil && h.Get("If-Modified-Since") != "" {
		_, err := http.ParseTime(h.Get("If-Modified-Since"))
		same = err == nil && !after(v.Time, h.Get("If-Modified-Since"))
	}
	if same {
		q.w.WriteHeader(http.StatusNotModified)
	}
	return same
}
