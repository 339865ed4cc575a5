// Package vfiouser is the device's side of the vfio-user protocol, for device
// models of tests: QEMU, or a driver of ours, is the client, and has a PCI
// device that is a Go value of the test.
//
//	driver in a guest ─ QEMU (vfio-user-pci) ─ unix socket ─ Server ─ Device
//	                    guest's memory (memfd) ─ mapped here ─ Memory ┘
//
// The protocol's version is 0.0, as its specification (vfio-user.rst of
// libvfio-user) has it: a header of 16 bytes, then a body; a command is answered
// by a reply with the same number. What is not needed for a device without
// migration is refused.
package vfiouser

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

// Device is what a server serves. Its methods are called by one goroutine.
type Device interface {
	// Regions returns the size of each region: BARs 0 to 5, expansion ROM,
	// configuration space. Zero: there is none.
	Regions() [8]int
	// Vectors returns how many MSI-X messages the device has.
	Vectors() int
	// Read fills b from a region. Off and len(b) lie within it.
	Read(region, off int, b []byte)
	// Write is the counterpart of Read.
	Write(region, off int, b []byte)
	// Reset is a function-level reset.
	Reset()
}

// Server serves a device to one client after the other.
type Server struct {
	Memory Memory // what the client lets the device reach
	dev    Device
	l      *net.UnixListener
	done   chan struct{}

	mu    sync.Mutex
	conn  *net.UnixConn
	irqs  []*os.File // eventfds of the MSI-X messages; nil: none
	err   error      // how the last client's session ended, if not by its end
	ended bool
}

// New returns a server of a device, whose memory is s.Memory.
func New(d Device) (*Server, error) {
	n := d.Vectors()
	if n < 0 || n > 2048 {
		return nil, fmt.Errorf("vfio-user: %d MSI-X messages", n)
	}
	return &Server{dev: d, irqs: make([]*os.File, n)}, nil
}

// Listen serves the device at a socket, until Close.
func (s *Server) Listen(path string) error {
	var err error
	if s.l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
		return fmt.Errorf("vfio-user: %w", err)
	}
	s.done = make(chan struct{})
	go s.accept()
	return nil
}

func (s *Server) accept() {
	defer close(s.done)
	for {
		c, err := s.l.AcceptUnix()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		if s.conn = c; s.ended {
			_ = c.Close() // so that ServeConn ends at once
		}
		s.mu.Unlock()
		err = s.ServeConn(c)
		s.mu.Lock()
		if s.conn = nil; !s.ended {
			s.err = err
		}
		s.mu.Unlock()
	}
}

// ServeConn serves one client until it goes, which is no error, and undoes what
// it has set up.
func (s *Server) ServeConn(c *net.UnixConn) error {
	defer func() {
		_ = c.Close()
		s.Memory.clear()
		s.dropIRQs(0, len(s.irqs))
	}()
	r := session{s: s, conn: c}
	for {
		if err := r.next(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("vfio-user: %w", err)
		}
	}
}

// Interrupt sends an MSI-X message. It reports whether the client listens.
func (s *Server) Interrupt(vector int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if vector < 0 || vector >= len(s.irqs) || s.irqs[vector] == nil {
		return false
	}
	_, err := s.irqs[vector].Write([]byte{1, 0, 0, 0, 0, 0, 0, 0})
	return err == nil
}

func (s *Server) setIRQ(i int, f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.irqs[i]; old != nil {
		_ = old.Close()
	}
	s.irqs[i] = f
}

func (s *Server) dropIRQs(from, n int) {
	for i := range n {
		s.setIRQ(from+i, nil)
	}
}

// Close ends the service and returns what went wrong with the last client.
func (s *Server) Close() error {
	s.mu.Lock()
	s.ended = true
	if s.conn != nil {
		_ = s.conn.Close()
	}
	s.mu.Unlock()
	err := s.l.Close()
	<-s.done
	return errors.Join(s.err, err)
}
