package scenario

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"vita/test/lab"

	"golang.org/x/sys/unix"
)

// watchWire runs act while every frame on the wire is looked at. A frame is
// readable when it is anything but ARP, ESP and key exchange, or when the
// addresses of the two hosts stand in it side by side, as they would in an
// inner header that was not encrypted.
func (r *run) watchWire(act func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		fd, err := r.l.PacketSocket(lab.Wire, "")
		if err != nil {
			return fmt.Errorf("watch the wire: %w", err)
		}
		stop := make(chan struct{})
		watched := make(chan error, 1)
		go func() { watched <- r.sniff(fd, stop) }()
		acted := act(ctx)
		close(stop)
		return errors.Join(acted, <-watched)
	}
}

func (r *run) sniff(fd int, stop <-chan struct{}) error {
	defer unix.Close(fd)
	tv := unix.Timeval{Usec: 100_000}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return err
	}
	a, b := netip.MustParseAddr(lab.HostAIP).AsSlice(), netip.MustParseAddr(lab.HostBIP).AsSlice()
	ab, ba := append(bytes.Clone(a), b...), append(bytes.Clone(b), a...)
	frame := make([]byte, 65536)
	var until time.Time // after stop, what is queued is still read
	for {
		select {
		case <-stop:
			if until.IsZero() {
				until = time.Now().Add(5 * time.Second)
			}
		default:
		}
		if !until.IsZero() && time.Now().After(until) {
			return nil
		}
		n, _, err := unix.Recvfrom(fd, frame, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if !until.IsZero() {
				return nil
			}
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		kind := classify(frame[:n])
		r.res.WirePackets++
		if kind == esp {
			r.res.WireESPPackets++
		}
		if kind == readable || bytes.Contains(frame[:n], ab) || bytes.Contains(frame[:n], ba) {
			r.res.WirePlaintextPackets++
		}
	}
}

type kind int

const (
	readable kind = iota
	esp
	keyExchange
	arp
)

// classify tells what a frame on the wire is, by its outer headers.
func classify(f []byte) kind {
	if len(f) < 34 {
		return readable
	}
	switch binary.BigEndian.Uint16(f[12:]) {
	case 0x0806:
		return arp
	case 0x0800:
	default:
		return readable
	}
	ip := f[14:]
	ihl := int(ip[0]&15) * 4
	switch {
	case ip[9] == 50:
		return esp
	case ip[9] == 17 && len(ip) >= ihl+8 && binary.BigEndian.Uint16(ip[ihl+2:]) == 303:
		return keyExchange
	}
	return readable
}
