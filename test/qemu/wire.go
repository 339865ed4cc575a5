package qemu

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// NIC is a network card of the guest.
type NIC struct {
	Model string // QEMU's name of the device; default virtio-net-pci
	MAC   [6]byte
	Args  string // further properties of the device, such as "iommu_platform=on"
}

// Wire is the test's end of a NIC's cable. One datagram on a socket is one
// Ethernet frame, without its check sequence.
type Wire struct {
	conn *net.UnixConn
	far  *net.UnixAddr

	mu     sync.Mutex
	frames [][]byte
	came   chan struct{} // has room for one
}

const maxFrame = 1 << 16

// NewWire makes the socket of one of the machine's cards, and returns what
// QEMU must be told.
func NewWire(dir, id string) (w *Wire, netdev string, err error) {
	near, far := filepath.Join(dir, id+".near"), filepath.Join(dir, id+".far")
	w = &Wire{far: &net.UnixAddr{Name: far, Net: "unixgram"}, came: make(chan struct{}, 1)}
	if w.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: near, Net: "unixgram"}); err != nil {
		return nil, "", err
	}
	netdev = fmt.Sprintf("dgram,id=%s,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s", id, far, near)
	go w.read()
	return w, netdev, nil
}

func (w *Wire) read() {
	buf := make([]byte, maxFrame)
	for {
		n, err := w.conn.Read(buf)
		if err != nil {
			return // closed
		}
		w.mu.Lock()
		w.frames = append(w.frames, append([]byte(nil), buf[:n]...))
		w.mu.Unlock()
		select {
		case w.came <- struct{}{}:
		default:
		}
	}
}

// Send puts a frame on the wire. It waits while QEMU does not read.
func (w *Wire) Send(frame []byte) error {
	if _, err := w.conn.WriteToUnix(frame, w.far); err != nil {
		return fmt.Errorf("frame of %d bytes: %w", len(frame), err)
	}
	return nil
}

// Drain takes all frames that have come so far.
func (w *Wire) Drain() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.frames
	w.frames = nil
	return f
}

// Take waits until n frames that a function wants have come, and returns all
// of these; the others it throws away. What has come after the n-th stays.
func (w *Wire) Take(n int, timeout time.Duration, want func(frame []byte) bool) ([][]byte, error) {
	var out [][]byte
	end := time.NewTimer(timeout)
	defer end.Stop()
	for {
		frames := w.Drain()
		for i, f := range frames {
			if len(out) == n {
				w.mu.Lock()
				w.frames = append(frames[i:len(frames):len(frames)], w.frames...)
				w.mu.Unlock()
				break
			}
			if want(f) {
				out = append(out, f)
			}
		}
		if len(out) == n {
			return out, nil
		}
		select {
		case <-w.came:
		case <-end.C:
			return out, fmt.Errorf("%d frames came from the guest, want %d: %w", len(out), n, os.ErrDeadlineExceeded)
		}
	}
}

// Close ends the wire.
func (w *Wire) Close() error {
	if err := w.conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
