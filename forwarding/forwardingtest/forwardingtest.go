// Package forwardingtest runs packet engines within tests.
package forwardingtest

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"vita/drivers"
	"vita/drivers/memory"
	"vita/forwarding"
	"vita/forwarding/client"
	"vita/forwarding/tables"
)

var wires atomic.Int64

// Wire makes a wire of memory. It returns the interface name of one end, and the
// other end.
func Wire(t testing.TB) (ifname string, far *memory.End) {
	t.Helper()
	n := wires.Add(1)
	ifname = fmt.Sprintf("mem:%d", n)
	w, err := memory.NewWire(ifname, fmt.Sprintf("mem:%d-far", n), memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return ifname, w.End(0)
}

// Memory returns the registry of an engine whose interfaces are wires of memory.
func Memory() *drivers.Registry {
	r := new(drivers.Registry)
	r.Register("memory", drivers.LinkIfname, memory.Open)
	return r
}

// Start starts an engine at a socket of its own, and connects to it. Both end with
// the test.
func Start(t testing.TB, o forwarding.Options) *client.Client {
	t.Helper()
	o.Socket = filepath.Join(t.TempDir(), "engine")
	e, err := forwarding.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- e.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	c, err := client.Dial(ctx, o.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Configure brings a configuration into force, and waits until it is.
func Configure(t testing.TB, c *client.Client, s *tables.Spec) {
	t.Helper()
	p, err := c.Prepare(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	p.Publish()
	if err := p.Retire(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Install gives an SA to an engine; an outbound one is in use from then on.
func Install(t testing.TB, c *client.Client, sa client.SA) client.SARef {
	t.Helper()
	ref, err := c.InstallSA(t.Context(), sa)
	if err == nil && sa.Direction == client.Outbound {
		err = c.Activate(ref)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ref
}
