package restconf

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	engine "vita/forwarding/client"
	"vita/forwarding/tables"
)

// captures is an engine that captures the same packet over and over.
type captures struct {
	busy  atomic.Bool
	ended chan struct{}
}

func (c *captures) Capture(ctx context.Context, _ tables.Capture, begun func(), f func(engine.Captured) error, idle func() error) (map[uint16]uint64, error) {
	if !c.busy.CompareAndSwap(false, true) {
		return nil, engine.ErrCapturing
	}
	defer func() {
		c.busy.Store(false)
		c.ended <- struct{}{}
	}()
	begun()
	for {
		if err := f(engine.Captured{Queue: 1, Point: tables.PublicRx, Time: time.Now(), Length: 60, Data: make([]byte, 60)}); err != nil {
			return map[uint16]uint64{1: 5}, err
		}
		if err := idle(); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return map[uint16]uint64{1: 5}, nil
		case <-time.After(time.Millisecond):
		}
	}
}

func TestCapture(t *testing.T) {
	c := serve(t)
	resp, body := c.do("GET", "/vita/capture?point=public-rx&packets=3", "")
	<-c.captures.ended
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != mediaPcapng || !strings.Contains(body, "public-rx") || len(body) < 3*60 {
		t.Errorf("%s %v, %d bytes", resp.Status, resp.Header, len(body))
	}
	if resp.Trailer.Get(trailerCaptured) != "3" || resp.Trailer.Get(trailerMissed) != "5" {
		t.Errorf("trailer %v", resp.Trailer)
	}
	for path, want := range map[string]string{
		"?point=public-rx&spi=x":  "option spi",
		"?point=public-rx&spi=%z": "query",
		"":                        "option point",
	} {
		if resp, body := c.do("GET", "/vita/capture"+path, ""); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, want) {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
	}
	if resp, _ := c.do("POST", "/vita/capture?point=public-rx", ""); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", resp.Status)
	}
	if resp, _ := c.do("GET", "/vita/other", ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("another path: %s", resp.Status)
	}
	r, err := http.NewRequest(http.MethodGet, c.url+"/vita/capture?point=public-rx", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := c.http.Do(r); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a password: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
}

// TestCaptureEndsWithItsClient: a second capture is refused while a client
// listens to the first, which ends when it goes; over both versions of HTTP.
func TestCaptureEndsWithItsClient(t *testing.T) {
	c := serve(t)
	for _, two := range []bool{false, true} {
		transport := c.http.Transport.(*http.Transport).Clone()
		if transport.ForceAttemptHTTP2 = two; !two {
			transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/vita/capture?point=public-rx", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("admin", password)
		resp, err := (&http.Client{Transport: transport}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, bufio.NewReader(resp.Body), 1000); err != nil {
			t.Fatal(err)
		}
		if second, body := c.do("GET", "/vita/capture?point=public-rx", ""); second.StatusCode != http.StatusConflict || !strings.Contains(body, "in-use") || !strings.Contains(body, "another capture") {
			t.Errorf("second capture: %s %s", second.Status, body)
		}
		cancel()
		resp.Body.Close()
		select {
		case <-c.captures.ended:
		case <-time.After(30 * time.Second):
			t.Fatalf("HTTP/2 %v: the capture goes on without its client", two)
		}
		transport.CloseIdleConnections()
	}
}
