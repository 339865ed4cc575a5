package forwarding

import (
	"errors"
	"sync/atomic"

	"vita/asm/aesgcm"
	"vita/forwarding/drop"
	"vita/forwarding/esp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
	"vita/internal/pktbuf"
)

// Packet capture: a worker copies the packets that are asked for into a ring in
// shared memory, from which vitad takes them. While nothing is captured that
// costs a branch a batch at each point, and one for each dropped packet. A
// worker never waits for the ring: what does not fit is counted.

// capture is one worker's part in a capture. The control goroutine makes it;
// from then on it is the worker's.
type capture struct {
	tables.Capture
	ring    *tables.CaptureRing
	udpPort uint16 // of ESP in UDP; 0: none

	// origin is, by frame, the packet as it was received, for drops: they are
	// shown as they came, from the Ethernet header on. Zero: it is our own.
	origin []pktbuf.Packet
}

func newCapture(c *tables.Capture, w *worker) *capture {
	return &capture{Capture: *c, ring: w.mem.CaptureRing(w.slot), origin: make([]pktbuf.Packet, w.pool.Frames())}
}

// startCapture makes all workers capture. The caller holds e.mu.
func (e *Engine) startCapture(c *tables.Capture) error {
	if e.capture != nil {
		return errors.New("another capture is going on")
	}
	if c.Points == 0 || c.Points>>tables.NumPoints != 0 || c.Snap > tables.CaptureData || c.SrcBits > 128 || c.DstBits > 128 {
		return errors.New("malformed filter")
	}
	copied := *c
	e.capture = &copied
	for _, w := range e.workers {
		if w != nil {
			w.filter.Store(newCapture(e.capture, w))
			w.signal()
		}
	}
	return nil
}

// stopCapture returns when no worker captures any more. The caller holds e.mu.
func (e *Engine) stopCapture() {
	if e.capture == nil {
		return
	}
	e.capture = nil
	for _, w := range e.workers {
		if w != nil {
			w.filter.Store(nil)
			e.awaitTurn(w)
		}
	}
}

func (c *capture) at(p tables.Point) bool { return c.Points>>p&1 != 0 }

// captureRx notes how the n frames received begin, and captures them.
func (w *worker) captureRx(s *side, n int) {
	c := w.capture
	c.udpPort = w.a.tables.UDPPort
	for _, k := range w.rx[:n] {
		c.origin[k.Frame] = k
	}
	if !c.at(s.kind.rxPoint) {
		return
	}
	for _, k := range w.rx[:n] {
		c.take(s.kind.rxPoint, 0, false, w.pool.Bytes(k), int(k.Len), w.now, 0)
	}
}

// captureTx captures what is about to be handed to a port.
func (w *worker) captureTx(s *side) {
	if !w.capture.at(s.kind.txPoint) {
		return
	}
	for _, k := range s.tx[:s.n] {
		w.capture.take(s.kind.txPoint, 0, false, w.pool.Bytes(k), int(k.Len), w.now, 0)
	}
}

// captureOutbound captures the inner packets of the m ESP packets that are
// about to be sealed.
func (w *worker) captureOutbound(m int) {
	if !w.capture.at(tables.InnerOutbound) {
		return
	}
	for _, k := range w.fwd[:m] {
		b := w.pool.Bytes(k)
		w.capture.take(tables.InnerOutbound, 0, true, inner(b), 0, w.now, wire.ESP(b).SPI())
	}
}

// captureInbound captures inner packets that were opened, in front of which
// their ESP header still lies.
func (w *worker) captureInbound(packets []pktbuf.Packet) {
	if !w.capture.at(tables.InnerInbound) {
		return
	}
	for _, k := range packets {
		e := wire.ESP(w.pool.Bytes(k.Grow(esp.HeaderLen)))
		w.capture.take(tables.InnerInbound, 0, true, w.pool.Bytes(k), int(k.Len), w.now, e.SPI())
	}
}

// inner returns what is in a whole ESP packet that is not encrypted: an IP
// packet without what fills it up, where it is one.
func inner(b []byte) []byte {
	if len(b) < esp.HeaderLen+aesgcm.TagSize {
		return nil
	}
	b = b[esp.HeaderLen : len(b)-aesgcm.TagSize]
	switch {
	case len(b) >= wire.IPv4Len && b[0]>>4 == 4:
		b = b[:min(len(b), int(wire.Be16(b[2:])))]
	case len(b) >= wire.IPv6Len && b[0]>>4 == 6:
		b = b[:min(len(b), wire.IPv6Len+int(wire.Be16(b[4:])))]
	}
	return b
}

// captureDrop captures a dropped packet: as it was received, if it was not yet
// decrypted, else the inner packet.
func (w *worker) captureDrop(k pktbuf.Packet, r drop.Reason) {
	c := w.capture
	if !c.at(tables.Dropped) || c.Reasons != [2]uint64{} && c.Reasons[r>>6&1]>>(r&63)&1 == 0 {
		return
	}
	b := w.pool.Bytes(k)
	origin := c.origin[k.Frame]
	switch r {
	case drop.OutboundTxFull, drop.InboundTxFull: // a whole frame
		c.take(tables.Dropped, r, false, b, len(b), w.now, 0)
	case drop.ESPTooShort, drop.ESPNoSA, drop.ESPSAEnded:
		c.take(tables.Dropped, r, false, w.pool.Bytes(origin), int(origin.Len), w.now, 0)
	case drop.ESPReplay, drop.ESPAuthentication:
		// What follows the header was decrypted in place, and must not be used.
		length := int(origin.Len)
		origin.Len = min(origin.Len, k.Off-origin.Off+esp.HeaderLen)
		c.take(tables.Dropped, r, false, w.pool.Bytes(origin), length, w.now, 0)
	case drop.ESPTrailer, drop.ESPDummy, drop.InboundProtocol, drop.InboundMalformed, drop.InboundChecksum,
		drop.InboundMartian, drop.InboundCongestion: // authentic, still behind the ESP header
		c.take(tables.Dropped, r, true, inner(b), 0, w.now, wire.ESP(b).SPI())
	case drop.InboundPolicy, drop.InboundTTL, drop.InboundTooBig, drop.InboundNoNextHop,
		drop.InboundLocalProtocol, drop.InboundLocalNextHeader, drop.InboundICMP, drop.InboundICMP6: // in front of which it lies
		c.take(tables.Dropped, r, true, b, len(b), w.now, wire.ESP(w.pool.Bytes(k.Grow(esp.HeaderLen))).SPI())
	default:
		deep := int(k.Off) - int(origin.Off) // into the frame as received
		if origin.Len == 0 || deep < 0 || deep > wire.EthernetLen {
			c.take(tables.Dropped, r, true, b, len(b), w.now, 0) // our own, or out of a tunnel
			return
		}
		c.take(tables.Dropped, r, false, w.pool.Bytes(origin), int(origin.Len), w.now, 0)
	}
}

// take puts a packet into the ring if the filter lets it through. Length is
// that of the whole packet, if it is more than b. Spi is that of the SA of an
// inner packet, or 0.
func (c *capture) take(p tables.Point, r drop.Reason, raw bool, b []byte, length int, now int64, spi uint32) {
	if !c.match(raw, b, spi) {
		return
	}
	e := c.ring.Free()
	if e == nil {
		atomic.StoreUint64(&c.ring.Missed, atomic.LoadUint64(&c.ring.Missed)+1)
		return
	}
	e.Time, e.Length = now, uint16(max(length, len(b)))
	e.Point, e.Reason, e.Raw = p, uint8(r), bit(raw)
	e.Kept = uint16(copy(e.Data[:c.Snap], b))
	c.ring.Commit()
}

// match evaluates the filter. Whatever the bytes are, it stays within them.
func (c *capture) match(raw bool, b []byte, spi uint32) bool {
	if c.Family == 0 && c.HasProto == 0 && c.HasSPI == 0 && c.SrcBits == 0 && c.DstBits == 0 {
		return true
	}
	if !raw {
		at := wire.EthernetLen
		for len(b) >= at && wire.Be16(b[at-2:]) == wire.TypeVLAN {
			at += wire.VLANLen
		}
		if len(b) < at || wire.Be16(b[at-2:]) != wire.TypeIPv4 && wire.Be16(b[at-2:]) != wire.TypeIPv6 {
			return false
		}
		b = b[at:]
	}
	var proto uint8
	var src, dst, payload []byte
	var family uint8
	switch {
	case len(b) >= wire.IPv4Len && b[0]>>4 == 4:
		family, proto, src, dst, payload = 4, b[9], b[12:16], b[16:20], b[min(len(b), int(b[0]&15)*4):]
	case len(b) >= wire.IPv6Len && b[0]>>4 == 6:
		family, proto, src, dst, payload = 6, b[6], b[8:24], b[24:40], b[wire.IPv6Len:]
	default:
		return false
	}
	if c.HasSPI != 0 {
		if spi == 0 {
			spi = c.spiOf(proto, payload)
		}
		if spi != c.SPI {
			return false
		}
	}
	return (c.Family == 0 || c.Family == family) && (c.HasProto == 0 || c.Proto == proto) &&
		agree(src, &c.Src, c.SrcBits) && agree(dst, &c.Dst, c.DstBits)
}

// spiOf returns the SPI of a packet of ESP, be it in UDP, or 0.
func (c *capture) spiOf(proto uint8, payload []byte) uint32 {
	if proto == wire.ProtoUDP && c.udpPort != 0 && len(payload) > wire.UDPLen &&
		(wire.UDP(payload).SrcPort() == c.udpPort || wire.UDP(payload).DstPort() == c.udpPort) {
		proto, payload = wire.ProtoESP, payload[wire.UDPLen:]
	}
	if proto != wire.ProtoESP || len(payload) < wire.ESPLen {
		return 0
	}
	return wire.ESP(payload).SPI()
}

// agree reports whether the first bits of an address are those of want. An
// address too short for them does not agree.
func agree(a []byte, want *[16]byte, bits uint8) bool {
	if int(bits) > 8*len(a) {
		return false
	}
	whole := int(bits / 8)
	for i := range whole {
		if a[i] != want[i] {
			return false
		}
	}
	rest := bits % 8
	return rest == 0 || (a[whole]^want[whole])>>(8-rest) == 0
}
