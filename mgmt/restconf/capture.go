package restconf

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"vita/mgmt/capture"
)

// Captures is where packet captures come from: *capture.Capturer.
type Captures interface {
	Ask(q url.Values) (*capture.Capture, error)
}

const (
	mediaPcapng = "application/x-pcapng"

	// A capture is no operation of the model, but rules call it one of this
	// module: denied unless they say otherwise, since it shows what is private.
	captureModule = "vita-esp-gateway-ext"

	// Trailers that tell how a capture ended.
	trailerCaptured = "Vita-Captured"
	trailerMissed   = "Vita-Missed"

	captureWrite = 10 * time.Second // for a client to take what there is
)

// capture streams a packet capture as long as the client listens and the limits
// among its query parameters are not reached. It is no resource of RFC 8040:
// those have an end.
func (s *Server) capture(w http.ResponseWriter, r *http.Request) {
	if err := s.permitted(r, captureModule, "capture", true); err != nil {
		writeError(w, r, 0, err)
		return
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		writeError(w, r, 0, badQuery("query: %v", err))
		return
	}
	c, err := s.o.Captures.Ask(q)
	if err != nil {
		writeError(w, r, 0, err)
		return
	}
	user, _ := r.Context().Value(userKey{}).(string)
	sink := &stream{w: w, c: http.NewResponseController(w)}
	// Reading the request has a limit of time that this one exceeds by design.
	_ = sink.c.SetReadDeadline(time.Time{}) // HTTP/2 has no such deadline
	s.o.Log.Info("capture begins", "user", user, "peer", r.RemoteAddr, "points", q["point"])
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	sink.failed = cancel
	result, err := c.Run(ctx, sink)
	s.o.Log.Info("capture ends", "user", user, "peer", r.RemoteAddr, "packets", result.Captured, "missed", result.Missed)
	if err != nil && !sink.begun {
		writeError(w, r, 0, err)
		return
	}
	if err != nil {
		panic(http.ErrAbortHandler) // so that the client does not take it for the end
	}
	w.Header().Set(trailerCaptured, strconv.FormatUint(result.Captured, 10))
	w.Header().Set(trailerMissed, strconv.FormatUint(result.Missed, 10))
}

// stream is the answer's body.
type stream struct {
	w      http.ResponseWriter
	c      *http.ResponseController
	begun  bool
	dirty  bool // something was written since the last Flush
	failed func()
}

// Begin sends the header.
func (s *stream) Begin() {
	s.begun, s.dirty = true, true
	h := s.w.Header()
	h.Set("Content-Type", mediaPcapng)
	h.Set("Cache-Control", "no-store")
	h.Set("Trailer", trailerCaptured+", "+trailerMissed)
	s.w.WriteHeader(http.StatusOK)
}

// Write gives the client a while to take what is written. While there is
// nothing to write there is no limit.
func (s *stream) Write(b []byte) (int, error) {
	s.dirty = true
	_ = s.c.SetWriteDeadline(time.Now().Add(captureWrite)) // a writer without deadlines is one of a test
	return s.w.Write(b)
}

// Flush sends what was written.
func (s *stream) Flush() error {
	if !s.dirty {
		return nil
	}
	s.dirty = false
	_ = s.c.SetWriteDeadline(time.Now().Add(captureWrite))
	if err := s.c.Flush(); err != nil {
		s.failed()
		return err
	}
	_ = s.c.SetWriteDeadline(time.Time{})
	return nil
}
