package capture

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/mgmt/internal/rpcerr"

	"github.com/gopacket/gopacket/pcapgo"
)

func TestParse(t *testing.T) {
	q, err := url.ParseQuery("point=dropped,public-rx&point=inner-inbound&family=ipv4&protocol=esp&source=10.1.2.3/16&destination=10.2.0.9" +
		"&spi=0x1267&reason=esp-replay,inbound-congestion&snap=100&packets=5&seconds=7")
	if err != nil {
		t.Fatal(err)
	}
	o, err := parse(q)
	if err != nil {
		t.Fatal(err)
	}
	want := tables.Capture{
		Points: 1<<tables.Dropped | 1<<tables.PublicRx | 1<<tables.InnerInbound, Snap: 100, Family: 4, HasProto: 1, Proto: 50, HasSPI: 1, SPI: 0x1267,
		SrcBits: 16, Src: [16]byte{10, 1}, DstBits: 32, Dst: [16]byte{10, 2, 0, 9},
	}
	want.Reasons[drop.ESPReplay>>6] |= 1 << (drop.ESPReplay & 63)
	want.Reasons[drop.InboundCongestion>>6] |= 1 << (drop.InboundCongestion & 63)
	if o.filter != want || o.packets != 5 || o.time != 7*time.Second {
		t.Errorf("%+v, want %+v", o, want)
	}
	o, err = parse(url.Values{"point": {"private-tx"}, "source": {"2001:db8::/32"}})
	if err != nil || o.filter.Family != 6 || o.filter.SrcBits != 32 || o.filter.Snap != tables.CaptureData || o.packets != defaultPackets || o.time != defaultSeconds*time.Second {
		t.Errorf("%+v %v", o, err)
	}
}

// TestRefusals: each error names the option and says what it takes.
func TestRefusals(t *testing.T) {
	for query, want := range map[string]string{
		"":                                      "option point: is missing: want one or more of private-rx",
		"point=":                                `option point: "": want`,
		"point=here":                            `option point: "here": want`,
		"point=public-rx&flavour=1":             "option flavour: there is no such option",
		"point=public-rx&family=4":              "option family: \"4\": want ipv4 or ipv6",
		"point=public-rx&protocol=256":          "option protocol: \"256\": want",
		"point=public-rx&source=10.1":           "option source: \"10.1\": want an address or a prefix",
		"point=public-rx&source=fe80::1%25eth0": "option source",
		"point=public-rx&family=ipv6&source=10.1.0.0/16":            "option source: \"10.1.0.0/16\" is of IPv4",
		"point=public-rx&source=10.1.0.0/16&destination=2001:db8::": "option destination: \"2001:db8::\" is of IPv6",
		"point=public-rx&spi=4294967296":                            "option spi",
		"point=public-rx&spi=-1":                                    "option spi",
		"point=public-rx&reason=esp-replay":                         "option reason: is for dropped packets",
		"point=dropped&reason=bad-luck":                             "option reason: \"bad-luck\": there is no such reason",
		"point=public-rx&snap=31":                                   "option snap: \"31\": want a number from 32 to 4064",
		"point=public-rx&packets=0":                                 "option packets",
		"point=public-rx&seconds=3601":                              "option seconds",
		"point=public-rx&seconds=1&seconds=2":                       "option seconds: is given 2 times",
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(nil).Ask(q)
		if e, ok := errors.AsType[*rpcerr.Error](err); !ok || e.Tag != "invalid-value" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", query, err, want)
		}
	}
}

// source gives packets until it has no more, or the capture ends.
type source struct {
	packets []client.Captured
	missed  map[uint16]uint64
	err     error // in place of beginning
	wait    bool  // until the context ends
}

func (s *source) Capture(ctx context.Context, _ tables.Capture, begun func(), f func(client.Captured) error, idle func() error) (map[uint16]uint64, error) {
	if s.err != nil {
		return nil, s.err
	}
	begun()
	for _, k := range s.packets {
		if err := f(k); err != nil {
			return s.missed, err
		}
	}
	if err := idle(); err != nil {
		return nil, err
	}
	if s.wait {
		<-ctx.Done()
	}
	return s.missed, nil
}

type sink struct {
	bytes.Buffer
	begun, flushed int
	err            error
}

func (s *sink) Begin()       { s.begun++ }
func (s *sink) Flush() error { s.flushed++; return s.err }

var at = time.Date(2026, 11, 26, 12, 0, 0, 1, time.UTC)

func someSource() *source {
	return &source{missed: map[uint16]uint64{1: 3, 2: 4}, packets: []client.Captured{
		{Queue: 1, Point: tables.PublicRx, Time: at, Length: 100, Data: []byte("frame one")},
		{Queue: 1, Point: tables.Dropped, Reason: drop.ESPReplay, Time: at, Length: 100, Data: []byte("frame two")},
		{Queue: 2, Point: tables.Dropped, Reason: drop.InboundTTL, Raw: true, Time: at, Length: 9, Data: []byte("packet 33")},
		{Queue: 1, Point: tables.PublicRx, Time: at, Length: 10, Data: []byte("frame four")},
		{Queue: 1, Point: tables.NumPoints, Data: []byte("damage")},
	}}
}

func run(t *testing.T, s Source, query string, to Sink) (Result, error) {
	t.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(s).Ask(q)
	if err != nil {
		t.Fatal(err)
	}
	return c.Run(t.Context(), to)
}

func TestRun(t *testing.T) {
	to := &sink{}
	result, err := run(t, someSource(), "point=dropped,public-rx&snap=200", to)
	if err != nil || result != (Result{Captured: 4, Missed: 7}) || to.begun != 1 || to.flushed < 2 {
		t.Fatalf("%+v %v, begun %d times, flushed %d", result, err, to.begun, to.flushed)
	}
	if !bytes.Contains(to.Bytes(), []byte("dropped: esp-replay")) || !bytes.Contains(to.Bytes(), []byte("dropped: inbound-ttl")) || bytes.Contains(to.Bytes(), []byte("damage")) {
		t.Errorf("%q", to.Bytes())
	}
	r, err := pcapgo.NewNgReader(&to.Buffer, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		in     int
		data   string
		length int
	}{{0, "frame one", 100}, {1, "frame two", 100}, {2, "packet 33", 9}, {0, "frame four", 10}} {
		data, info, err := r.ReadPacketData()
		if err != nil || string(data) != want.data || info.InterfaceIndex != want.in || info.Length != want.length || !info.Timestamp.Equal(at) {
			t.Errorf("%q %+v %v, want %+v", data, info, err, want)
		}
	}
	if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	for i, want := range []struct {
		name, description string
		received, dropped uint64
	}{{"public-rx", "queue 1", 2, 3}, {"dropped", "queue 1", 1, 0}, {"dropped", "queue 2", 1, 4}} {
		in, err := r.Interface(i)
		if err != nil || in.Name != want.name || in.Description != want.description || in.SnapLength != 200 ||
			in.Statistics.PacketsReceived != want.received || in.Statistics.PacketsDropped != want.dropped {
			t.Errorf("%+v %v, want %+v", in, err, want)
		}
	}
}

func TestLimits(t *testing.T) {
	to := &sink{}
	if result, err := run(t, someSource(), "point=dropped&packets=2", to); err != nil || result.Captured != 2 {
		t.Errorf("%+v %v", result, err)
	}
	start := time.Now()
	s := someSource()
	s.wait = true
	if result, err := run(t, s, "point=dropped&seconds=1", &sink{}); err != nil || result.Captured != 4 || time.Since(start) < time.Second {
		t.Errorf("%+v %v after %v", result, err, time.Since(start))
	}
}

func TestFailures(t *testing.T) {
	to := &sink{}
	_, err := run(t, &source{err: client.ErrCapturing}, "point=dropped", to)
	if e, ok := errors.AsType[*rpcerr.Error](err); !ok || e.Tag != "in-use" || to.begun != 0 {
		t.Errorf("%v, begun %d times", err, to.begun)
	}
	if _, err := run(t, &source{err: client.ErrNoEngine}, "point=dropped", to); !errors.Is(err, client.ErrNoEngine) || to.begun != 0 {
		t.Error(err)
	}
	to.err = io.ErrClosedPipe // the client has gone
	s := someSource()
	s.wait = true
	if _, err := run(t, s, "point=dropped", to); !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}
