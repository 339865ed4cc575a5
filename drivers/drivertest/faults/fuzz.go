package faults

import (
	"encoding/binary"
	"testing"

	"vita/drivers"
	"vita/internal/pktbuf"
)

// Fuzz is a card of which a fuzzer chooses what it does, while several ports use
// it. Nothing may fail, hang, or lose a buffer, and no frame may be longer than
// its buffer.
type Fuzz struct {
	// Ports open one port each. The second one is now and then closed, and opened
	// again.
	Ports []func(drivers.Config) (drivers.Port, error)
	// Device does something for a number that stands for nothing of what ports do:
	// of all that it may write, what it likes.
	Device func(kind, which byte, in *Input)
	// Heal makes the card one that works as it should, from the next reset on.
	Heal func()
}

// Input is what the fuzzer has chosen, in order. Behind its end there are zeros.
type Input struct{ rest []byte }

// Number takes a number of n bytes.
func (i *Input) Number(n int) uint64 {
	var b [8]byte
	i.rest = i.rest[copy(b[:n], i.rest):]
	return binary.LittleEndian.Uint64(b[:])
}

// Fill fills memory that a device shares, if there is any.
func (i *Input) Fill(m []byte) {
	for at := range m {
		m[at] = byte(i.Number(1))
	}
}

const mostSteps = 500

// Run does what data says.
func (f *Fuzz) Run(t *testing.T, data []byte) {
	t.Helper()
	pool, err := pktbuf.NewPool(pktbuf.Options{Frames: 512, FrameSize: 2048})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pool.Close() }()
	ports := make([]*Station, len(f.Ports))
	open := func(i int) {
		if ports[i].Port, err = f.Ports[i](drivers.Config{Pool: pool, Stats: &ports[i].Stats}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range ports {
		ports[i] = &Station{Pool: pool}
		open(i)
	}
	in := &Input{data}
	for steps := 0; len(in.rest) > 0 && steps < mostSteps; steps++ {
		op := byte(in.Number(1))
		i := int(op&7) % len(ports)
		p := ports[i]
		switch op >> 4 {
		case 2:
			p.Put(int(in.Number(1)%40), 60+int(in.Number(1)))
		case 4:
			for _, f := range p.Take() {
				if len(f) < 14 || len(f) > 1518 {
					t.Fatalf("a frame of %d bytes", len(f))
				}
			}
			p.Flush()
		case 5:
			p.Sync()
		case 9:
			p.Fd()
			p.Info()
		case 11:
			if i == 1 {
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				open(i)
			}
		default:
			f.Device(op>>4, op&15, in)
		}
	}
	// Left to itself it works again.
	for range 6 {
		f.Heal()
		Rounds(1, ports...)
	}
	for i, p := range ports {
		if n := p.Put(1, 100); n != 1 {
			t.Errorf("port %d takes no frame: %+v", i, p.Info())
		}
	}
	for _, p := range ports {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := pool.Available(); n != pool.Frames() {
		t.Errorf("%d of %d buffers in the pool in the end", n, pool.Frames())
	}
}
