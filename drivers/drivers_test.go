package drivers

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"vita/internal/pktbuf"
)

// port is a Port of which only the name matters.
type port struct{ name string }

func (port) Rx([]pktbuf.Packet) int { return 0 }
func (port) Tx([]pktbuf.Packet) int { return 0 }
func (port) Flush()                 {}
func (port) Sync()                  {}
func (port) Fd() int                { return -1 }
func (p port) Info() Info           { return Info{Name: p.name} }
func (port) Close() error           { return nil }

func TestRegistryOpensTheFirstThatServes(t *testing.T) {
	var r Registry
	var opened []string
	register := func(name string, link Link, err error) {
		r.Register(name, link, func(Config) (Port, error) {
			opened = append(opened, name)
			if err != nil {
				return nil, err
			}
			return port{name}, nil
		})
	}
	register("card", LinkPCI, nil)
	register("fast", LinkIfname, ErrUnsupported)
	register("slow", LinkIfname, nil)
	register("busy", LinkIfname, ErrBusy)
	for _, c := range []struct {
		config Config
		tried  string
		opens  string
		err    error
	}{
		{Config{Ifname: "eth0"}, "fast slow", "slow", nil},
		{Config{PCI: "01:00.0"}, "card", "card", nil},
		{Config{Ifname: "eth0", Driver: "slow"}, "slow", "slow", nil},
		{Config{Ifname: "eth0", Driver: "fast"}, "fast", "", ErrUnsupported},
		{Config{Ifname: "eth0", Driver: "busy"}, "busy", "", ErrBusy},
		{Config{Ifname: "eth0", Driver: "none"}, "", "", nil},
		{Config{}, "", "", nil},
		{Config{Ifname: "eth0", PCI: "01:00.0"}, "", "", nil},
	} {
		opened = nil
		var lines []string
		c.config.Log = func(s string) { lines = append(lines, s) }
		p, err := r.Open(c.config)
		if got := strings.Join(opened, " "); got != c.tried {
			t.Errorf("%+v: tried %q, want %q", c.config.Driver, got, c.tried)
		}
		switch {
		case c.opens != "":
			if err != nil || p.Info().Name != c.opens {
				t.Errorf("%q: %v %v", c.config.Driver, p, err)
			}
		case err == nil || c.err != nil && !errors.Is(err, c.err):
			t.Errorf("%q: %v, want %v", c.config.Driver, err, c.err)
		}
		if c.tried == "fast slow" && len(lines) != 1 {
			t.Errorf("the choice of the second driver is not logged: %q", lines)
		}
	}
}

func TestStatsTellGroupsApart(t *testing.T) {
	var s Stats
	for _, first := range [][]byte{{2, 0, 0, 0, 0, 1}, {255, 255, 255, 255, 255, 255}, {0x33, 0x33, 0, 0, 0, 1}, {255, 255, 255, 255, 255, 254}} {
		f := append(first, make([]byte, 54)...)
		s.CountRx(f)
		s.CountTx(f[:50])
	}
	want := Stats{RxPackets: 4, RxBytes: 240, RxBcast: 1, RxMcast: 2, RxDMAPackets: 4, TxPackets: 4, TxBytes: 200, TxBcast: 1, TxMcast: 2}
	if s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
}

func TestQueuesOf(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   []int
	}{
		{Config{}, []int{0, 1, 2, 3, 4}},
		{Config{Queues: []int{3}}, []int{3}},
		{Config{Queues: []int{0}, Every: 2}, []int{0, 2, 4}},
		{Config{Queues: []int{1}, Every: 2}, []int{1, 3}},
		{Config{Queues: []int{1}, Every: 9}, []int{1}},
		{Config{Queues: []int{7}, Every: 2}, []int{7}}, // for the driver to refuse
	} {
		if got := c.config.QueuesOf(5); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.config, got, c.want)
		}
	}
}

// TestRegistryKnowsDevices has drivers for PCI devices: one that knows a device
// has the last word, and a device that none knows is refused with a list.
func TestRegistryKnowsDevices(t *testing.T) {
	var r Registry
	answer := map[string]error{"a": ErrUnknownDevice, "b": ErrUnsupported}
	for _, n := range []string{"a", "b", "c"} {
		r.Register(n, LinkPCI, func(Config) (Port, error) { return port{n}, answer[n] }, Chip{1, uint16(n[0]), "chip " + n})
	}
	if _, err := r.Open(Config{PCI: "x"}); !errors.Is(err, ErrUnsupported) || !strings.HasPrefix(err.Error(), "x: b: ") {
		t.Errorf("%v", err)
	}
	answer["b"] = ErrUnknownDevice
	if p, err := r.Open(Config{PCI: "x"}); err != nil || p.Info().Name != "c" {
		t.Errorf("%v, %v", p, err)
	}
	answer["c"] = ErrUnknownDevice
	if _, err := r.Open(Config{PCI: "x"}); !errors.Is(err, ErrUnknownDevice) ||
		!strings.HasSuffix(err.Error(), "have drivers for chip a (0001:0061, a), chip b (0001:0062, b), chip c (0001:0063, c)") {
		t.Errorf("%v", err)
	}
	if driver, name, ok := r.Find(1, 'b'); !ok || driver != "b" || name != "chip b" {
		t.Errorf("%v %v %v", driver, name, ok)
	}
	if _, _, ok := r.Find(2, 'b'); ok {
		t.Error("an unknown device was found")
	}
}
