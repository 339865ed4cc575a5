package memory

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"vita/drivers"
	"vita/drivers/drivertest"
	"vita/internal/pktbuf"
)

func newPool(t *testing.T) *pktbuf.Pool {
	t.Helper()
	p, err := pktbuf.NewPool(pktbuf.Options{Frames: 128})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.Available() != p.Frames() {
			t.Errorf("%d of %d buffers back", p.Available(), p.Frames())
		}
		_ = p.Close()
	})
	return p
}

func newNamed(t *testing.T, a, b string, o Options) *Wire {
	t.Helper()
	w, err := NewWire(a, b, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func TestConformance(t *testing.T) {
	for _, o := range []Options{{MTU: 1500}, {MTU: 1500, Queues: 4}, {MTU: 9000, Depth: 64}} {
		t.Run(fmt.Sprintf("mtu %d queues %d", o.MTU, o.Queues), func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) drivertest.Wire {
				newNamed(t, "mem:a", "mem:b", o)
				return drivertest.Wire{
					MTU: o.MTU, Lossless: true,
					Open: func(side int, c drivers.Config) (drivers.Port, error) {
						c.Ifname = [2]string{"mem:a", "mem:b"}[side]
						return Open(c)
					},
				}
			})
		})
	}
}

func TestInjectAndDrain(t *testing.T) {
	pool := newPool(t)
	p, none, err := Pair(pool, nil, Options{})
	if err != nil || none != nil {
		t.Fatal(none, err)
	}
	in := bytes.Repeat([]byte{4}, 99)
	if !p.Inject(in) || p.Inject(in[:13]) || p.Inject(make([]byte, 1519)) {
		t.Fatal("want the first frame taken, the others refused")
	}
	b := make([]pktbuf.Packet, 8)
	if n := p.Rx(b); n != 1 || !bytes.Equal(pool.Bytes(b[0]), in) {
		t.Fatalf("%d frames", n)
	}
	if n := p.Tx(b[:1]); n != 1 {
		t.Fatal("not sent")
	}
	if out := p.Drain(); len(out) != 1 || !bytes.Equal(out[0], in) {
		t.Fatalf("% x", out)
	}
	p.Sync()
	if s := p.Stats(); s.RxDrop != 2 || s.RxPackets != 1 || s.TxPackets != 1 {
		t.Fatalf("%+v", s)
	}
	k, _ := pool.Get()
	k.Len = 5
	if n := p.Tx([]pktbuf.Packet{k}); n != 1 || p.Stats().TxErrors != 1 {
		t.Fatal("a frame of 5 bytes must be consumed and counted as an error")
	}
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestQueues(t *testing.T) {
	w := newNamed(t, "mem:q", "mem:r", Options{Queues: 3, Steer: func(f []byte) int { return int(f[14]) }})
	var ports []drivers.Port
	for q := range 3 {
		p, err := Open(drivers.Config{Ifname: "mem:q", Queues: []int{q}, Pool: newPool(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		ports = append(ports, p)
	}
	for _, c := range []struct {
		queue int
		want  error
	}{{1, drivers.ErrBusy}, {3, drivers.ErrUnsupported}, {-1, drivers.ErrUnsupported}} {
		if _, err := Open(drivers.Config{Ifname: "mem:q", Queues: []int{c.queue}, Pool: newPool(t)}); !errors.Is(err, c.want) {
			t.Errorf("queue %d: %v, want %v", c.queue, err, c.want)
		}
	}
	f := make([]byte, 60)
	for q := range 3 {
		f[14] = byte(q)
		for range q + 1 {
			w.End(0).Inject(f)
		}
	}
	for q, p := range ports {
		b := make([]pktbuf.Packet, 8)
		n := p.Rx(b)
		if n != q+1 {
			t.Errorf("queue %d: %d frames", q, n)
		}
		if sent := p.Tx(b[:n]); sent != n {
			t.Errorf("queue %d: %d frames sent", q, sent)
		}
	}
	if n := len(w.End(0).Drain()); n != 6 {
		t.Errorf("%d frames sent in all", n)
	}
}

func TestOpenErrors(t *testing.T) {
	pool := newPool(t)
	newNamed(t, "mem:big", "mem:far", Options{MTU: 4000})
	for name, want := range map[string]error{
		"eth0": drivers.ErrUnsupported, "mem:none": drivers.ErrNoInterface, "mem:big": drivers.ErrUnsupported,
	} {
		if _, err := Open(drivers.Config{Ifname: name, Pool: pool}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if _, err := NewWire("mem:big", "mem:x", Options{}); !errors.Is(err, drivers.ErrBusy) {
		t.Errorf("a name in use: %v", err)
	}
	if _, err := NewWire("mem:x", "mem:x", Options{}); err == nil {
		t.Error("the same name twice")
	}
	if _, err := NewWire("x", "mem:y", Options{}); err == nil {
		t.Error("a name without the prefix")
	}
}
