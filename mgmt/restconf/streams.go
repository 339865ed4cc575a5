package restconf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xpath"
	"vita/mgmt/notify"
	op "vita/mgmt/operational"
)

// The event stream (RFC 8040 section 6), one resource for each encoding.
const (
	streamPath = root + "/streams/" + notify.Stream + "/"
	mediaSSE   = "text/event-stream"

	// nsNotification is the namespace of a notification in XML (RFC 5277).
	nsNotification = "urn:ietf:params:xml:ns:netconf:notification:1.0"

	keepAlive   = 20 * time.Second // between comments, so that a dead client is noticed
	streamWrite = 20 * time.Second // for a client to take an event

	maxStreams = 32 // at once: each is a request that does not end
)

// capabilities of the RESTCONF server (RFC 8040 section 9.1).
var capabilities = []string{
	"urn:ietf:params:restconf:capability:defaults:1.0?basic-mode=explicit",
	"urn:ietf:params:restconf:capability:depth:1.0",
	"urn:ietf:params:restconf:capability:fields:1.0",
	"urn:ietf:params:restconf:capability:filter:1.0",
	"urn:ietf:params:restconf:capability:replay:1.0",
	"urn:ietf:params:restconf:capability:with-defaults:1.0",
	"urn:ietf:params:restconf:capability:yang-patch:1.0",
}

// Streams returns the provider of what the servers say of the event streams.
func Streams(h *notify.Hub) op.Provider {
	return notify.Streams{Hub: h, Capabilities: capabilities, Locations: map[string]string{
		"json": streamPath + "json", "xml": streamPath + "xml",
	}}
}

// subscription is what a client asks of the stream.
type subscription struct {
	filter      *xpath.Expr
	start, stop time.Time
}

// subscription reads the query parameters filter, start-time and stop-time (RFC
// 8040 section 4.8).
func readSubscription(r *http.Request) (o subscription, err error) {
	query, err := parseQuery(r)
	if err != nil {
		return o, badQuery("query: %v", err)
	}
	for name, values := range query {
		switch {
		case name != "filter" && name != "start-time" && name != "stop-time":
			return o, badQuery("query parameter %q is not supported here: have filter, start-time and stop-time", name)
		case len(values) != 1:
			return o, badQuery("query parameter %q comes %d times", name, len(values))
		}
	}
	if query.Has("filter") {
		if o.filter, err = xpath.Compile(query.Get("filter"), modulePrefix); err != nil {
			return o, badQuery("filter: %v", err)
		}
	}
	if o.start, err = queryTime(query, "start-time"); err != nil {
		return o, err
	}
	if o.stop, err = queryTime(query, "stop-time"); err != nil {
		return o, err
	}
	switch {
	case o.start.IsZero() && !o.stop.IsZero():
		err = badQuery("stop-time needs start-time")
	case o.start.After(time.Now()):
		err = badQuery("start-time is in the future")
	case !o.stop.IsZero() && o.stop.Before(o.start):
		err = badQuery("stop-time is before start-time")
	}
	return o, err
}

// modulePrefix resolves the prefixes of a filter, which are modules' names (RFC
// 8040 section 4.8.4); a name without one stands for nodes of any module.
func modulePrefix(prefix string) (string, bool) {
	return prefix, prefix == "" || schema.Namespace(prefix) != ""
}

func queryTime(q url.Values, name string) (t time.Time, err error) {
	if !q.Has(name) {
		return t, nil
	}
	// A plus sign that is not encoded has become a blank.
	if t, err = time.Parse(time.RFC3339Nano, strings.ReplaceAll(q.Get(name), " ", "+")); err != nil {
		err = badQuery("%s=%s is no date and time, as in 2026-01-31T12:00:00Z", name, q.Get(name))
	}
	return t, err
}

// stream sends events in an encoding until the client leaves or stop-time.
func (s *Server) stream(media string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if accept := strings.Join(r.Header.Values("Accept"), ","); accept != "" && !strings.Contains(accept, mediaSSE) && !strings.Contains(accept, "*/*") && !strings.Contains(accept, "text/*") {
			writeError(w, r, http.StatusNotAcceptable, fmt.Errorf("events are %s, and none of %q", mediaSSE, accept))
			return
		}
		o, err := readSubscription(r)
		if err != nil {
			writeError(w, r, 0, err)
			return
		}
		select {
		case s.streaming <- struct{}{}:
			defer func() { <-s.streaming }()
		default:
			w.Header().Set("Retry-After", "60")
			writeError(w, r, http.StatusServiceUnavailable, errors.New("too many event streams at once"))
			return
		}
		sub := s.o.Events.Subscribe(o.start, o.stop)
		c := http.NewResponseController(w)
		_ = c.SetReadDeadline(time.Time{}) // a stream has no end; HTTP/2 has no such deadline
		w.Header().Set("Content-Type", mediaSSE)
		w.Header().Set("Cache-Control", "no-cache")
		if r.Method == http.MethodHead {
			return
		}
		e := events{w: w, c: c, sub: sub, filter: o.filter, media: media, read: func(n *op.Node) *op.Node {
			if n = notify.Readable(s.o.Datastore.Access(session(r)), n); n == nil {
				s.o.Datastore.Control().DeniedNotification()
			}
			return n
		}}
		e.send([]byte(": begin\n\n")) // the headers too, before the first event
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(s.ending, cancel)() // streams would keep the shutdown waiting
		e.run(ctx)
	}
}

// events is a stream to one client.
type events struct {
	w      http.ResponseWriter
	c      *http.ResponseController
	sub    *notify.Subscription
	filter *xpath.Expr
	media  string
	read   func(*op.Node) *op.Node // what the user may hear of an event, nil for nothing
	failed bool
}

func (e *events) run(ctx context.Context) {
	for !e.failed {
		wait, cancel := context.WithTimeout(ctx, keepAlive)
		event, what, err := e.sub.Next(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			e.send([]byte(": still here\n\n"))
			continue
		}
		switch what {
		case notify.Complete:
			return
		case notify.ReplayComplete:
		case notify.Happened:
			if event.Content = e.read(event.Content); event.Content == nil {
				continue
			}
			if e.filter != nil {
				if ok, err := notify.Matches(e.filter, event.Content); err != nil || !ok {
					continue
				}
			}
			e.send(frame(e.media, event))
		case notify.Lost:
			e.send(frame(e.media, event))
		}
	}
}

func (e *events) send(b []byte) {
	_ = e.c.SetWriteDeadline(time.Now().Add(streamWrite)) // where there is none the server's own holds
	if _, err := e.w.Write(b); err != nil {
		e.failed = true
		return
	}
	e.failed = e.c.Flush() != nil
}

// frame writes an event as one of server-sent events, whose lines begin with
// "data:".
func frame(media string, event notify.Event) []byte {
	var text bytes.Buffer
	at := event.Time.UTC().Format(time.RFC3339Nano)
	if media == mediaXML {
		fmt.Fprintf(&text, `<notification xmlns="%s"><eventTime>%s</eventTime>`, nsNotification, at)
		event.Content.WriteXML(&text)
		text.WriteString("</notification>")
	} else {
		fmt.Fprintf(&text, `{"ietf-restconf:notification":{"eventTime":%q,`, at)
		op.WriteJSON(&text, "", event.Content)
		text.WriteString("}}")
		var compact bytes.Buffer
		if json.Compact(&compact, text.Bytes()) == nil {
			text = compact
		}
	}
	var b bytes.Buffer
	for line := range bytes.SplitSeq(text.Bytes(), []byte("\n")) {
		b.WriteString("data: ")
		b.Write(bytes.ReplaceAll(line, []byte("\r"), []byte("&#xD;")))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return b.Bytes()
}
