package forwarding

import (
	"bytes"
	"testing"

	"vita/asm/cksum"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/wire"
)

// TestFragments puts together again what was sent in pieces.
func TestFragments(t *testing.T) {
	r := newRig(t)
	r.spec.MTU, r.spec.Fragment = 300, true
	r.apply()
	r.install(client.SA{Direction: client.Outbound, SPI: 4711})
	p := newRemote(t, 4711)
	for _, c := range []struct {
		n      int
		flags  uint16 // and offset, of the packet itself
		pieces int
	}{
		{301, 0, 2}, {20 + 280, 0, 1}, {20 + 2*280, 0, 2}, {20 + 2*280 + 1, 0, 3}, {1400, 0, 5}, {1400, 0x2000 | 7, 5}, {1399, 100, 5}, {1000, 0x1fff - 122, 4},
	} {
		payload := make([]byte, c.n-wire.IPv4Len)
		for i := range payload {
			payload[i] = byte(i * 7 / 3)
		}
		f := frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", proto: 200, payload: payload}.bytes()
		f = changed(f, func(b []byte) { wire.PutBe16(b[20:], c.flags); b[18], b[19] = 0xab, 0xcd })
		r.private.Inject(f)
		var got []byte
		for i, out := range take(t, r.public, c.pieces) {
			q, check := wire.ParseIPv4(throughTunnel(t, p, out))
			if check != wire.Good || len(q) > 300 || q.TTL() != 63 || wire.Be16(q[4:]) != 0xabcd || q.Protocol() != 200 ||
				q.SrcBytes() != addr("10.1.0.7").As4() || q.DstBytes() != addr("10.2.0.9").As4() || !cksum.Valid(q[:20], 0) {
				t.Fatalf("piece %d of %d bytes: %x", i, c.n, []byte(q[:20]))
			}
			more := i < c.pieces-1 || c.flags&0x2000 != 0
			if at := int(wire.Be16(q[6:])&0x1fff) - int(c.flags&0x1fff); at*8 != len(got) || q[6]&0x20 != 0 != more {
				t.Fatalf("piece %d of %d bytes lies at %d, want %d; flags %#x", i, c.n, at*8, len(got), q[6])
			}
			got = append(got, q.Payload()...)
		}
		if !bytes.Equal(got, payload) {
			t.Errorf("%d bytes do not come together again", c.n)
		}
	}
	// What would end beyond the largest packet is dropped.
	f := frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", proto: 200, payload: make([]byte, 980)}.bytes()
	r.private.Inject(changed(f, func(b []byte) { wire.PutBe16(b[20:], 0x1fff-121) }))
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundTooBig: 1})
}
