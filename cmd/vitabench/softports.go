package main

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"vita/asm/cksum"
	"vita/drivers"
	"vita/internal/pktbuf"
)

// The two ports of a worker, in memory that the worker alone touches. The
// private one makes packets as fast as they are taken; what the public one is
// given it turns round, as if the peer had sent it, without a copy.

const (
	ringSize   = 512  // frames between public Tx and Rx
	windowSize = 8192 // packets of a window for the fastest rate
	benchMTU   = 1800
)

var publicMAC, privateMAC = [6]byte{2, 0, 0, 0, 9, 2}, [6]byte{2, 0, 0, 0, 9, 1}

// traffic says what packets there are.
type traffic struct {
	v6       bool
	sizes    []int // of frames, in turn
	routes   int
	outbound bool // the public port forgets what it is given
	inbound  bool // the public port keeps what it is given, and turns it round later; see replay.go
}

// loop is what the ports of a worker share.
type loop struct {
	traffic
	pool      *pktbuf.Pool
	random    uint64
	next      int
	templates [][frameHead]byte
	ring      [ringSize]pktbuf.Packet
	head      int
	tail      int

	// Written by the worker, read by others.
	packets, bytes, maxGap, minWindow atomic.Int64
	fresh                             atomic.Bool // forget the gap and the window

	last, windowStart time.Time
	windowCount       int64

	kept replay
}

// loops are made when the first port of a worker is opened.
type loops struct {
	sync.Mutex
	traffic
	byPool map[*pktbuf.Pool]*loop
}

func (l *loops) open(c drivers.Config) (drivers.Port, error) {
	l.Lock()
	defer l.Unlock()
	lp := l.byPool[c.Pool]
	if lp == nil {
		lp = &loop{traffic: l.traffic, pool: c.Pool, random: uint64(len(l.byPool))*0x9e3779b97f4a7c15 + 1}
		for _, n := range l.sizes {
			lp.templates = append(lp.templates, lp.template(n))
		}
		l.byPool[c.Pool] = lp
	}
	if c.Ifname == "private" {
		return &privatePort{lp}, nil
	}
	return &publicPort{lp}, nil
}

// ipAt is where the IP header begins in a frame.
const ipAt = 14

// frameHead is how much of a frame is written.
const frameHead = 64

// template makes the headers of a frame of n bytes, for route 0.
func (l *loop) template(n int) (f [frameHead]byte) {
	copy(f[:], privateMAC[:])
	ip := f[ipAt:]
	if l.v6 {
		f[12], f[13] = 0x86, 0xdd
		ip[0], ip[6], ip[7] = 0x60, 59, 64 // no next header
		binary.BigEndian.PutUint16(ip[4:], uint16(n-ipAt-40))
		ip[8], ip[23], ip[24], ip[39] = 0xfd, 1, 0xfd, 2
		return f
	}
	f[12] = 8
	ip[0], ip[8], ip[9] = 0x45, 64, 200
	binary.BigEndian.PutUint16(ip[2:], uint16(n-ipAt))
	ip[12], ip[15], ip[16], ip[19] = 10, 1, 10, 2
	binary.BigEndian.PutUint16(ip[10:], cksum.Sum(ip[:20], 0))
	return f
}

// make writes the headers of the next packet, from and to a random route.
func (l *loop) make(f *[frameHead]byte, template *[frameHead]byte) {
	*f = *template
	if l.routes == 1 {
		return
	}
	l.random ^= l.random << 13
	l.random ^= l.random >> 7
	l.random ^= l.random << 17
	route := uint32(l.random >> 32 * uint64(l.routes) >> 32)
	ip := f[ipAt:]
	if l.v6 {
		binary.BigEndian.PutUint32(ip[12:], route)
		binary.BigEndian.PutUint32(ip[28:], route)
		return
	}
	binary.BigEndian.PutUint32(ip[12:], 10<<24+route<<4+1)
	binary.BigEndian.PutUint32(ip[16:], 10<<24+route<<4+2)
	ip4 := (*[20]byte)(ip)
	sum := uint32(^binary.BigEndian.Uint16(template[ipAt+10:])) + 2*(route>>12+route<<4&0xffff) // both addresses
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(ip4[10:], ^uint16(sum+sum>>16))
}

// done counts packets that have been all the way.
func (l *loop) done(n, bytes int) {
	l.packets.Store(l.packets.Load() + int64(n))
	l.bytes.Store(l.bytes.Load() + int64(bytes))
	now := time.Now()
	if l.fresh.Swap(false) {
		l.maxGap.Store(0)
		l.minWindow.Store(0)
		l.last, l.windowStart, l.windowCount = now, now, 0
	}
	l.maxGap.Store(max(l.maxGap.Load(), int64(now.Sub(l.last))))
	l.last = now
	if l.inbound {
		return
	}
	if l.windowCount += int64(n); l.windowCount >= windowSize {
		l.fastest(int64(now.Sub(l.windowStart)) * 1000 / l.windowCount)
		l.windowStart, l.windowCount = now, 0
	}
}

// fastest notes the time a packet took in a window, in picoseconds.
func (l *loop) fastest(ps int64) {
	if m := l.minWindow.Load(); m == 0 || ps < m {
		l.minWindow.Store(ps)
	}
}

// slow reports whether a worker has not done a whole window yet.
func (l *loops) slow() bool {
	for _, w := range l.byPool {
		if w.minWindow.Load() == 0 {
			return true
		}
	}
	return false
}

type privatePort struct{ *loop }

func (p *privatePort) Flush()       {}
func (p *privatePort) Sync()        {}
func (p *privatePort) Fd() int      { return -1 }
func (p *privatePort) Close() error { return nil }

func (p *privatePort) Info() drivers.Info {
	return drivers.Info{Driver: "bench", Name: "private", MAC: privateMAC, MTU: benchMTU, Queues: 1, LinkUp: true}
}

func (p *privatePort) Rx(b []pktbuf.Packet) int {
	if p.inbound && p.replaying() {
		return 0
	}
	if p.tail-p.head > ringSize-2*len(b) {
		return 0
	}
	for i := range b {
		k, ok := p.pool.Get()
		if !ok {
			return i
		}
		if p.next++; p.next >= len(p.sizes) {
			p.next = 0
		}
		k.Len = uint16(p.sizes[p.next])
		p.make(p.pool.Head(k), &p.templates[p.next])
		b[i] = k
	}
	return len(b)
}

func (p *privatePort) Tx(b []pktbuf.Packet) int {
	bytes := 0
	for _, k := range b {
		bytes += int(k.Len)
	}
	p.pool.PutBatch(b)
	p.done(len(b), bytes)
	return len(b)
}

type publicPort struct{ *loop }

func (p *publicPort) Flush() {}
func (p *publicPort) Sync()  {}
func (p *publicPort) Fd() int {
	return -1
}

func (p *publicPort) Close() error {
	for ; p.head != p.tail; p.head++ {
		p.pool.Put(p.ring[p.head%ringSize])
	}
	return nil
}

func (p *publicPort) Info() drivers.Info {
	return drivers.Info{Driver: "bench", Name: "public", MAC: publicMAC, MTU: benchMTU, Queues: 1, LinkUp: true}
}

func (p *publicPort) Rx(b []pktbuf.Packet) int {
	if p.inbound {
		return p.replay(b)
	}
	n := min(len(b), p.tail-p.head)
	for i := range n {
		b[i] = p.ring[p.head%ringSize]
		p.head++
	}
	return n
}

func (p *publicPort) Tx(b []pktbuf.Packet) int {
	if p.outbound {
		bytes := 0
		for _, k := range b {
			bytes += int(k.Len)
		}
		p.pool.PutBatch(b)
		p.done(len(b), bytes)
		return len(b)
	}
	if p.inbound {
		for _, k := range b {
			f := p.pool.Bytes(k)
			p.turnRound(f)
			p.keep(f)
		}
		p.pool.PutBatch(b)
		return len(b)
	}
	n := min(len(b), ringSize-(p.tail-p.head))
	for _, k := range b[:n] {
		p.turnRound(p.pool.Bytes(k))
		p.ring[p.tail%ringSize] = k
		p.tail++
	}
	return n
}

// turnRound makes of a frame one that the peer might have sent.
func (l *loop) turnRound(f []byte) {
	*(*[6]byte)(f) = publicMAC
	if l.v6 {
		src, dst := (*[16]byte)(f[ipAt+8:]), (*[16]byte)(f[ipAt+24:])
		*src, *dst = *dst, *src
	} else {
		src, dst := (*[4]byte)(f[ipAt+12:]), (*[4]byte)(f[ipAt+16:])
		*src, *dst = *dst, *src
	}
}
