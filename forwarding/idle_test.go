package forwarding

import (
	"testing"
	"time"

	"vita/asm/aesgcm"
	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/esp"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// TestDummies: a peer that nothing is sent to for a while gets packets of the
// largest size, which it drops as dummies; and none while something is sent.
func TestDummies(t *testing.T) {
	for name, u := range map[string]*tables.UDP{"plain": nil, "in UDP": {Keepalive: 1}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.spec.Dummies = 3
			r.spec.Routes[0].UDP = u
			r.apply()
			out, _ := r.loopSAs()
			w, goOn := r.still()
			e := &w.mem.SAs[tables.SAIndex(uint32(out))]
			start := e.Created
			w.now, w.sync, w.tick = start, start+1<<60, 0
			header := wire.IPv4Len
			if u != nil {
				header += wire.UDPLen
			}
			var dummies [][]byte
			keepalives := 0
			step := func(until time.Duration) {
				t.Helper()
				for w.now < start+int64(until) {
					w.now += int64(tickEvery)
					w.lookAfter()
					w.send(&w.a.public)
					for _, f := range r.public.Drain() {
						if len(f) == 14+header+1 {
							keepalives++
							continue
						}
						dummies = append(dummies, f)
					}
				}
			}
			step(2990 * time.Millisecond)
			if len(dummies) != 0 {
				t.Errorf("%d dummies before their time", len(dummies))
			}
			step(10500 * time.Millisecond)
			if len(dummies) < 2 || len(dummies) > 3 || e.Packets != uint64(len(dummies)) || e.Bytes != 0 {
				t.Errorf("%d dummies within 10.5 s, %d packets, %d bytes counted", len(dummies), e.Packets, e.Bytes)
			}
			if (keepalives == 0) != (u == nil) {
				t.Errorf("%d keepalives", keepalives)
			}
			n := len(dummies)
			e.LastUsed = w.now // a packet
			step(time.Duration(w.now-start) + 2900*time.Millisecond)
			if len(dummies) != n {
				t.Errorf("%d dummies too soon after a packet", len(dummies)-n)
			}

			size := esp.Size(esp.MaxInner(1500, header))
			key := newRemote(t, 4711).key
			for i, f := range dummies {
				p, check := wire.ParseIPv4(f[14:])
				if check != wire.Good || len(p) != header+size {
					t.Fatalf("dummy %d of %d bytes, want %d", i, len(p), header+size)
				}
				b := append([]byte(nil), p[header:]...)
				batch := new(esp.Batch)
				batch.Decapsulate(&key, uint64(i+1), b)
				batch.Open()
				payload, next, ok := esp.Trim(b)
				if !batch.OK(0) || !ok || next != wire.ProtoNone || len(payload) != size-esp.HeaderLen-aesgcm.TagSize-esp.TrailerLen-int(b[len(b)-aesgcm.TagSize-2]) {
					t.Errorf("dummy %d: next header %d, %d bytes", i, next, len(payload))
				}
				// Its receiver knows it for what it is.
				copy(f, publicMAC[:])
				copy(f[26:], []byte{203, 0, 113, 2, 203, 0, 113, 1})
				r.public.Inject(f)
			}
			goOn()
			r.wantDrops(map[drop.Reason]uint64{drop.ESPDummy: uint64(len(dummies))})
			r.private.Drain()
		})
	}
}

// TestNoDummies: none is sent without an SA, after the end of one, or where none
// are wanted.
func TestNoDummies(t *testing.T) {
	for name, c := range map[string]struct {
		interval uint16
		sa       *client.SA
	}{
		"off":      {0, &client.SA{Direction: client.Outbound, SPI: 4711}},
		"no SA":    {1, nil},
		"ended SA": {1, &client.SA{Direction: client.Outbound, SPI: 4711, MaxPackets: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.spec.Dummies = c.interval
			r.apply()
			if c.sa != nil {
				ref := r.install(*c.sa)
				r.engine.mem.SAs[tables.SAIndex(uint32(ref))].Packets = c.sa.MaxPackets
			}
			w, goOn := r.still()
			free := w.pool.Available()
			w.now += 2 * second
			w.sync, w.tick = w.now+1<<60, 0
			w.lookAfter()
			w.send(&w.a.public)
			if n := len(r.public.Drain()); n != 0 || w.pool.Available() != free {
				t.Errorf("%d frames, %d buffers of %d", n, w.pool.Available(), free)
			}
			goOn()
			r.wantDrops(nil)
		})
	}
}
