package drivertest

import (
	"testing"

	"vita/drivers"
	"vita/internal/pktbuf"
	"vita/internal/testnet"
)

// Veth is a pair of veth interfaces, each in a network namespace of its own, for a
// driver of interfaces that the kernel keeps.
type Veth struct {
	NS   [2]*testnet.Namespace
	Name [2]string
	With func(drivers.Config) (drivers.Port, error) // opens an interface by its name
}

// NewVeth makes a pair.
func NewVeth(t *testing.T, v testnet.Veth, with func(drivers.Config) (drivers.Port, error)) Veth {
	t.Helper()
	p := Veth{NS: [2]*testnet.Namespace{testnet.New(t), testnet.New(t)}, Name: [2]string{"va", "vb"}, With: with}
	testnet.Connect(t, p.NS[0], p.Name[0], p.NS[1], p.Name[1], v)
	return p
}

// Open opens one side of the pair.
func (p Veth) Open(side int, c drivers.Config) (port drivers.Port, err error) {
	c.Ifname = p.Name[side]
	err = p.NS[side].Do(func() error {
		port, err = p.With(c)
		return err
	})
	return port, err
}

// NewPool makes a pool, which ends with the test.
func NewPool(t *testing.T, o pktbuf.Options) *pktbuf.Pool {
	t.Helper()
	p, err := pktbuf.NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// NewWholePool makes a pool, to which all buffers must have come back at the end.
func NewWholePool(t *testing.T, o pktbuf.Options) *pktbuf.Pool {
	t.Helper()
	p := NewPool(t, o)
	t.Cleanup(func() {
		if p.Available() != p.Frames() {
			t.Errorf("%d of %d buffers back", p.Available(), p.Frames())
		}
	})
	return p
}
