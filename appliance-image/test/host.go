package test

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"vita/test/qemu"
)

// Host is a station on a cable: it answers ARP for its address, and sends and
// takes UDP packets that it numbers.
type Host struct {
	wire     *qemu.Wire
	mac      [6]byte
	ip       netip.Addr
	gateway  netip.Addr
	stop     chan struct{}
	done     sync.WaitGroup
	mu       sync.Mutex
	gateMAC  [6]byte
	knows    bool
	received map[uint32]time.Time
}

// NewHost puts a station on a cable.
func NewHost(w *qemu.Wire, mac byte, ip, gateway string) *Host {
	h := &Host{
		wire: w, mac: [6]byte{2, 0, 0, 0, 1, mac}, ip: netip.MustParseAddr(ip), gateway: netip.MustParseAddr(gateway),
		stop: make(chan struct{}), received: make(map[uint32]time.Time),
	}
	h.done.Go(h.listen)
	return h
}

// Close takes the station away.
func (h *Host) Close() {
	close(h.stop)
	h.done.Wait()
}

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	udpPort   = 9
)

func (h *Host) listen() {
	for {
		select {
		case <-h.stop:
			return
		case <-time.After(2 * time.Millisecond):
		}
		for _, f := range h.wire.Drain() {
			h.take(f)
		}
	}
}

func (h *Host) take(f []byte) {
	if len(f) < 42 {
		return
	}
	switch binary.BigEndian.Uint16(f[12:]) {
	case etherARP:
		if f[21] == 1 && netip.AddrFrom4([4]byte(f[38:42])) == h.ip {
			_ = h.wire.Send(h.arp(2, f[22:28], f[28:32])) // the other end is a machine that may have ended
		}
		if f[21] == 2 && netip.AddrFrom4([4]byte(f[28:32])) == h.gateway {
			h.mu.Lock()
			copy(h.gateMAC[:], f[22:28])
			h.knows = true
			h.mu.Unlock()
		}
	case etherIPv4:
		if f[23] == 17 && len(f) >= 46 && netip.AddrFrom4([4]byte(f[30:34])) == h.ip {
			h.mu.Lock()
			h.received[binary.BigEndian.Uint32(f[42:])] = time.Now()
			h.mu.Unlock()
		}
	}
}

func (h *Host) arp(op byte, mac, ip []byte) []byte {
	f := make([]byte, 60)
	copy(f, mac)
	copy(f[6:], h.mac[:])
	copy(f[12:], "\x08\x06\x00\x01\x08\x00\x06\x04\x00")
	f[21] = op
	copy(f[22:], h.mac[:])
	copy(f[28:], h.ip.AsSlice())
	copy(f[32:], mac)
	copy(f[38:], ip)
	return f
}

// Send sends a packet with a number to another host, by way of the gateway,
// which it asks for where it does not know it yet.
func (h *Host) Send(to netip.Addr, number uint32, size int) error {
	h.mu.Lock()
	mac, knows := h.gateMAC, h.knows
	h.mu.Unlock()
	if !knows {
		return h.wire.Send(h.arp(1, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, h.gateway.AsSlice()))
	}
	f := make([]byte, 14+20+8+max(size, 4))
	copy(f, mac[:])
	copy(f[6:], h.mac[:])
	copy(f[12:], "\x08\x00\x45\x00")
	be := binary.BigEndian
	be.PutUint16(f[16:], uint16(len(f)-14))
	f[22], f[23] = 64, 17
	copy(f[26:], h.ip.AsSlice())
	copy(f[30:], to.AsSlice())
	var sum uint32
	for i := 14; i < 34; i += 2 {
		sum += uint32(be.Uint16(f[i:]))
	}
	sum = sum&0xffff + sum>>16
	be.PutUint16(f[24:], ^uint16(sum+sum>>16))
	be.PutUint16(f[34:], udpPort)
	be.PutUint16(f[36:], udpPort)
	be.PutUint16(f[38:], uint16(len(f)-34)) // no checksum, which IPv4 allows
	be.PutUint32(f[42:], number)
	return h.wire.Send(f)
}

// Got says how many packets with numbers from a range have come.
func (h *Host) Got(from, to uint32) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.received {
		if i >= from && i < to {
			n++
		}
	}
	return n
}

// Stream is packets that one host sends to another, one after the other.
type Stream struct {
	to    *Host
	first uint32 // number of the first one
	stop  chan struct{}
	done  sync.WaitGroup
	mu    sync.Mutex
	sent  []time.Time
}

// NewStream begins to send packets with numbers from first on.
func NewStream(from, to *Host, first uint32) *Stream {
	s := &Stream{to: to, first: first, stop: make(chan struct{})}
	s.done.Go(func() {
		for n := first; ; n++ {
			s.mu.Lock()
			s.sent = append(s.sent, time.Now())
			s.mu.Unlock()
			_ = from.Send(to.ip, n, 200) // a machine that is off takes none
			select {
			case <-s.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return s
}

// Close ends the sending.
func (s *Stream) Close() {
	close(s.stop)
	s.done.Wait()
}

// Lost says how many packets were sent in a time, and how many of them have not
// arrived, also not after some patience.
func (s *Stream) Lost(from, to time.Time, patience time.Duration) (lost, sent int) {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		lost, sent = 0, 0
		s.mu.Lock()
		s.to.mu.Lock()
		for i, at := range s.sent {
			if at.Before(from) || at.After(to) {
				continue
			}
			sent++
			if _, ok := s.to.received[s.first+uint32(i)]; !ok {
				lost++
			}
		}
		s.to.mu.Unlock()
		s.mu.Unlock()
		if lost == 0 || time.Now().After(deadline) {
			return lost, sent
		}
	}
}

// Quiet returns the longest time in which no packet has arrived.
func (s *Stream) Quiet(since time.Time) (from, to time.Time) {
	s.mu.Lock()
	n := len(s.sent)
	s.mu.Unlock()
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	last := since
	from, to = since, since
	for i := range n { // they arrive in order
		at, ok := s.to.received[s.first+uint32(i)]
		if !ok || at.Before(last) {
			continue
		}
		if at.Sub(last) > to.Sub(from) {
			from, to = last, at
		}
		last = at
	}
	return from, to
}
