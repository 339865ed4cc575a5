package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Impairment is what a bad wire does to frames.
type Impairment struct {
	KeyLoss   float64       // share of key exchange messages that are lost
	Duplicate float64       // share of all frames that come twice
	Delay     time.Duration // each way
	Jitter    time.Duration // added to Delay, uniformly: frames overtake each other
	// NAT, if set, is the address by which gw-b sees gw-a.
	NAT [4]byte
}

// Impaired counts what an impaired wire has done.
type Impaired struct {
	mu                                  sync.Mutex
	Forwarded, Lost, Duplicated, Failed int
}

// Impair replaces the wire by a forwarder that does to frames what i says,
// until the lab is closed.
func (l *Lab) Impair(ctx context.Context, i Impairment) (*Impaired, error) {
	n := &Impaired{}
	var fds [2]int
	for side, dev := range []string{"a", "b"} {
		if _, err := l.Run(ctx, Wire, "ip", "link", "set", "dev", dev, "nomaster"); err != nil {
			return nil, err
		}
		fd, err := l.PacketSocket(Wire, dev)
		if err != nil {
			return nil, fmt.Errorf("packet socket on %s: %w", dev, err)
		}
		tv := unix.Timeval{Usec: 100_000}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return nil, err
		}
		fds[side] = fd
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for side := range fds {
		wg.Go(func() { n.forward(&i, fds[side], fds[1-side], side == 0, stop) })
	}
	l.mu.Lock()
	l.ends = append(l.ends, func() {
		close(stop)
		wg.Wait()
		time.Sleep(i.Delay + i.Jitter + 50*time.Millisecond) // frames still under way
		_, _ = unix.Close(fds[0]), unix.Close(fds[1])
	})
	l.mu.Unlock()
	return n, nil
}

func (n *Impaired) forward(i *Impairment, from, to int, fromA bool, stop <-chan struct{}) {
	buf := make([]byte, 65536)
	for {
		select {
		case <-stop:
			return
		default:
		}
		size, _, err := unix.Recvfrom(from, buf, 0)
		if err != nil {
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				continue
			}
			return
		}
		frame := append([]byte(nil), buf[:size]...)
		if i.NAT != [4]byte{} {
			translate(frame, i.NAT, fromA)
		}
		copies := 1
		n.mu.Lock()
		switch {
		case KeyExchange(frame) && rand.Float64() < i.KeyLoss:
			n.Lost++
			copies = 0
		case rand.Float64() < i.Duplicate:
			n.Duplicated++
			copies = 2
		}
		n.Forwarded += copies
		n.mu.Unlock()
		for range copies {
			delay := i.Delay
			if i.Jitter > 0 {
				delay += rand.N(i.Jitter)
			}
			time.AfterFunc(delay, func() {
				if _, err := unix.Write(to, frame); err != nil {
					n.mu.Lock()
					n.Failed++
					n.mu.Unlock()
				}
			})
		}
	}
}

// Counts returns what has happened so far: frames forwarded, key exchange
// messages lost, frames doubled, and frames that could not be sent.
func (n *Impaired) Counts() (forwarded, lost, duplicated, failed int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.Forwarded, n.Lost, n.Duplicated, n.Failed
}

// KeyExchange reports whether a frame is IPv4 and UDP to port 303.
func KeyExchange(f []byte) bool {
	return len(f) >= 42 && f[12] == 8 && f[13] == 0 && f[14+9] == 17 && binary.BigEndian.Uint16(f[36:]) == 303
}

// translate is a NAT in front of gw-a: its address becomes nat on the way out,
// and nat its address on the way in. ARP passes: gw-b talks to gw-a's own
// address there.
func translate(f []byte, nat [4]byte, out bool) {
	if len(f) < 34 || f[12] != 8 || f[13] != 0 {
		return
	}
	inside := [4]byte{203, 0, 113, 1}
	at, old, now := f[26:30], inside, nat
	if !out {
		at, old, now = f[30:34], nat, inside
	}
	if [4]byte(at) != old {
		return
	}
	copy(at, now[:])
	adjust(f[24:26], old, now)
	if f[23] == 17 && len(f) >= 42 {
		adjust(f[40:42], old, now)
	}
}

// adjust corrects a checksum for four bytes that have changed (RFC 1624).
func adjust(sum []byte, old, now [4]byte) {
	s := uint32(^binary.BigEndian.Uint16(sum))
	for k := 0; k < 4; k += 2 {
		s += uint32(^binary.BigEndian.Uint16(old[k:])) + uint32(binary.BigEndian.Uint16(now[k:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	binary.BigEndian.PutUint16(sum, ^uint16(s))
}
