// Package station is what a guest does with its network cards: it sends between
// two of them, each in a network namespace of its own, by the kernel's TCP and
// UDP.
package station

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Station is the service.
type Station struct{}

// Transfer is what is to be sent: from one namespace to another, where the
// address is.
type Transfer struct {
	From, To string // names of namespaces, as "ip netns" makes them
	Address  string // of the receiver, with a port
	Bytes    int    // by TCP
	Count    int    // of datagrams, in UDP, each answered before the next
	Largest  int    // bytes of a datagram
}

const patience = 20 * time.Second

// in runs f in a network namespace.
func in(name string, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		done <- func() error {
			ns, err := os.Open("/run/netns/" + name)
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("namespace %s: %w", name, err)
			}
			return f()
		}()
	}()
	return <-done
}

// Stream sends bytes by TCP, and tells how many arrived as they were sent.
func (*Station) Stream(x Transfer, n *int) error {
	var l net.Listener
	if err := in(x.To, func() (err error) {
		l, err = net.Listen("tcp", x.Address)
		return err
	}); err != nil {
		return err
	}
	defer l.Close()
	var out net.Conn
	if err := in(x.From, func() (err error) {
		out, err = net.DialTimeout("tcp", x.Address, patience)
		return err
	}); err != nil {
		return err
	}
	defer out.Close()
	back, err := l.Accept()
	if err != nil {
		return err
	}
	defer back.Close()
	end := time.Now().Add(patience)
	_, _ = out.SetDeadline(end), back.SetDeadline(end)
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyN(out, source(), int64(x.Bytes))
		sent <- errors.Join(err, out.Close())
	}()
	want := source()
	got, expected := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		m, err := back.Read(got)
		_, _ = io.ReadFull(want, expected[:m])
		if !bytes.Equal(got[:m], expected[:m]) {
			return fmt.Errorf("other bytes than were sent, behind byte %d", *n)
		}
		if *n += m; errors.Is(err, io.EOF) {
			return <-sent
		}
		if err != nil {
			return errors.Join(err, <-sent)
		}
	}
}

func source() io.Reader { return rand.NewChaCha8([32]byte{1}) }

// Datagrams sends datagrams of random lengths by UDP, has each sent back, and
// tells how many came back as they were.
func (*Station) Datagrams(x Transfer, n *int) error {
	var far net.PacketConn
	var near net.Conn
	if err := in(x.To, func() (err error) {
		far, err = net.ListenPacket("udp", x.Address)
		return err
	}); err != nil {
		return err
	}
	defer func() { _ = far.Close() }()
	if err := in(x.From, func() (err error) {
		near, err = net.Dial("udp", x.Address)
		return err
	}); err != nil {
		return err
	}
	defer near.Close()
	go func() {
		b := make([]byte, 1<<16)
		for {
			m, from, err := far.ReadFrom(b)
			if err != nil {
				return // closed
			}
			_, _ = far.WriteTo(b[:m], from)
		}
	}()
	r := rand.New(rand.NewPCG(1, 2))
	content, answer := make([]byte, x.Largest), make([]byte, 1<<16)
	_, _ = io.ReadFull(source(), content)
	for range x.Count {
		b := content[:r.IntN(x.Largest+1)]
		if _, err := near.Write(b); err != nil {
			return err
		}
		if err := near.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		m, err := near.Read(answer)
		if err != nil {
			return fmt.Errorf("datagram %d of %d bytes: %w", *n, len(b), err)
		}
		if !bytes.Equal(b, answer[:m]) {
			return fmt.Errorf("datagram %d of %d bytes comes back with %d, or changed", *n, len(b), m)
		}
		*n++
	}
	return nil
}
