// Package peer is what the guest's programs do beside Linux's ESP: they send
// and receive datagrams and pings whose every byte is known at the other end.
package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Pattern is the payload number seq, of n bytes. Any two differ.
func Pattern(seq uint32, n int) []byte {
	b := make([]byte, n+4)
	x := seq*2654435761 + 1
	binary.BigEndian.PutUint32(b, seq)
	for i := 4; i < n; i++ {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b[:n]
}

// Peer is the guest's service.
type Peer struct {
	mu       sync.Mutex
	sockets  map[netip.AddrPort]int
	received []Datagram
}

// Burst is a number of datagrams to be sent.
type Burst struct {
	From, To netip.AddrPort
	TOS, TTL int // 0: as the kernel has it
	DF       bool
	First    uint32 // number of the first payload
	Sizes    []int  // of the payloads, one after another
	Times    int    // how often all sizes are gone through; default 1
}

// Sent says what became of a burst.
type Sent struct {
	Errors []ICMPError // that came back within the burst's wait
}

// ICMPError is what an ICMP error has told a sender.
type ICMPError struct {
	Type, Code uint8
	From       netip.Addr
	MTU        uint32
}

// Send sends datagrams.
func (*Peer) Send(b Burst, s *Sent) error {
	fd, err := socket(b.From)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	v4 := b.From.Addr().Is4()
	options := []struct{ on4, level4, name4, level6, name6, value int }{
		{1, unix.IPPROTO_IP, unix.IP_TOS, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, b.TOS},
		{b.TTL, unix.IPPROTO_IP, unix.IP_TTL, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, b.TTL},
		{1, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, discover(b.DF)},
		{1, unix.IPPROTO_IP, unix.IP_RECVERR, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1},
	}
	for _, o := range options {
		if o.on4 == 0 {
			continue
		}
		level, name := o.level6, o.name6
		if v4 {
			level, name = o.level4, o.name4
		}
		if err := unix.SetsockoptInt(fd, level, name, o.value); err != nil {
			return fmt.Errorf("option %d/%d: %w", level, name, err)
		}
	}
	seq := b.First
	for range max(b.Times, 1) {
		for _, n := range b.Sizes {
			if err := send(fd, Pattern(seq, n), b.To); err != nil {
				return err
			}
			seq++
		}
	}
	if b.TTL == 1 { // somebody will tell
		s.Errors, err = icmpErrors(fd, len(b.Sizes))
	}
	return err
}

func discover(df bool) int {
	if df {
		return unix.IP_PMTUDISC_PROBE // whatever the kernel thinks of the path
	}
	return unix.IP_PMTUDISC_DONT
}

func socket(local netip.AddrPort) (int, error) {
	family := unix.AF_INET6
	if local.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, sockaddr(local)); err != nil {
		return 0, errors.Join(fmt.Errorf("bind %s: %w", local, err), unix.Close(fd))
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// send sends a datagram. An error that an earlier one has met is taken from the
// socket, not from this one.
func send(fd int, payload []byte, to netip.AddrPort) error {
	var err error
	for range 3 {
		if err = unix.Sendto(fd, payload, 0, sockaddr(to)); err == nil || errors.Is(err, unix.EMSGSIZE) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%d bytes to %s: %w", len(payload), to, err)
	}
	return nil
}

// icmpErrors waits for n errors, but not long.
func icmpErrors(fd, n int) (out []ICMPError, err error) {
	for deadline := time.Now().Add(5 * time.Second); len(out) < n && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		oob := make([]byte, 512)
		_, oobn, _, _, err := unix.Recvmsg(fd, make([]byte, 2048), oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return out, err
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return out, err
		}
		for _, m := range messages {
			// struct sock_extended_err: errno u32, origin, type, code, pad,
			// info u32, data u32; the offender's sockaddr follows.
			if m.Header.Type != unix.IP_RECVERR && m.Header.Type != unix.IPV6_RECVERR || len(m.Data) < 24 {
				continue
			}
			e := ICMPError{Type: m.Data[5], Code: m.Data[6], MTU: binary.NativeEndian.Uint32(m.Data[8:])}
			switch binary.NativeEndian.Uint16(m.Data[16:]) {
			case unix.AF_INET:
				e.From = netip.AddrFrom4([4]byte(m.Data[20:]))
			case unix.AF_INET6:
				e.From = netip.AddrFrom16([16]byte(m.Data[24:]))
			}
			out = append(out, e)
		}
	}
	return out, nil
}

// Datagram is what a socket has received.
type Datagram struct {
	From     netip.AddrPort
	TOS, TTL int
	Payload  []byte
}

// Listen opens a socket, if it is not open, whose datagrams Received returns.
func (p *Peer) Listen(local netip.AddrPort, _ *struct{}) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.sockets[local]; ok {
		return nil
	}
	fd, err := socket(local)
	if err != nil {
		return err
	}
	level, tos, ttl := unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, unix.IPV6_RECVHOPLIMIT
	if local.Addr().Is4() {
		level, tos, ttl = unix.IPPROTO_IP, unix.IP_RECVTOS, unix.IP_RECVTTL
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, level, tos, 1), unix.SetsockoptInt(fd, level, ttl, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
	)
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if p.sockets == nil {
		p.sockets = make(map[netip.AddrPort]int)
	}
	p.sockets[local] = fd
	go p.read(fd)
	return nil
}

func (p *Peer) read(fd int) {
	buf, oob := make([]byte, 1<<16), make([]byte, 512)
	for {
		n, oobn, _, from, err := unix.Recvmsg(fd, buf, oob, 0)
		if err != nil {
			fmt.Println("peer: receive:", err)
			return
		}
		d := Datagram{Payload: bytes.Clone(buf[:n])}
		switch a := from.(type) {
		case *unix.SockaddrInet4:
			d.From = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
		case *unix.SockaddrInet6:
			d.From = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			fmt.Println("peer: control message:", err)
		}
		for _, m := range messages {
			v4, v6 := m.Header.Level == unix.IPPROTO_IP, m.Header.Level == unix.IPPROTO_IPV6
			switch {
			case v4 && m.Header.Type == unix.IP_TOS:
				d.TOS = int(m.Data[0])
			case v6 && m.Header.Type == unix.IPV6_TCLASS:
				d.TOS = int(binary.NativeEndian.Uint32(m.Data))
			case v4 && m.Header.Type == unix.IP_TTL, v6 && m.Header.Type == unix.IPV6_HOPLIMIT:
				d.TTL = int(binary.NativeEndian.Uint32(m.Data))
			}
		}
		p.mu.Lock()
		p.received = append(p.received, d)
		p.mu.Unlock()
	}
}

// Received waits until n datagrams have come, but not long, and takes all.
func (p *Peer) Received(n int, out *[]Datagram) error {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		if len(p.received) >= n || time.Now().After(deadline) {
			*out, p.received = p.received, nil
			p.mu.Unlock()
			return nil
		}
		p.mu.Unlock()
	}
}

// Encapsulate makes the kernel take UDP datagrams to a port for ESP (RFC 3948).
func (p *Peer) Encapsulate(local netip.AddrPort, _ *struct{}) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.sockets[local]; ok {
		return nil
	}
	fd, err := socket(local)
	if err != nil {
		return err
	}
	const udpEncap, espInUDP = 100, 2 // UDP_ENCAP, UDP_ENCAP_ESPINUDP
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_UDP, udpEncap, espInUDP); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if p.sockets == nil {
		p.sockets = make(map[netip.AddrPort]int)
	}
	p.sockets[local] = fd
	return nil
}

// Echo is a number of pings.
type Echo struct {
	From, To netip.Addr
	ID       uint16
	Sizes    []int // of their payloads
}

// Ping sends echo requests one after the other, each when the reply to the one
// before has come, and checks the replies.
func (*Peer) Ping(e Echo, _ *struct{}) error {
	network, request, reply := "ip6:ipv6-icmp", byte(128), byte(129)
	if e.From.Is4() {
		network, request, reply = "ip4:icmp", 8, 0
	}
	conn, err := net.ListenPacket(network, e.From.String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	buf := make([]byte, 1<<16)
	for i, size := range e.Sizes {
		m := make([]byte, 8, 8+size)
		m[0] = request
		binary.BigEndian.PutUint16(m[4:], e.ID)
		binary.BigEndian.PutUint16(m[6:], uint16(i))
		m = append(m, Pattern(uint32(i), size)...)
		if e.From.Is4() { // for IPv6 the kernel does it
			binary.BigEndian.PutUint16(m[2:], checksum(m))
		}
		if _, err := conn.WriteTo(m, &net.IPAddr{IP: e.To.AsSlice()}); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		for {
			n, from, err := conn.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("no reply to ping %d, of %d bytes", i, size)
			}
			if err != nil {
				return err
			}
			if n < 8 || buf[0] != reply || binary.BigEndian.Uint16(buf[4:]) != e.ID {
				continue // for others
			}
			if from.String() != e.To.String() || !bytes.Equal(buf[4:n], m[4:]) {
				return fmt.Errorf("reply to ping %d from %s is not its request", i, from)
			}
			break
		}
	}
	return nil
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
