package forwarding

import (
	"bytes"
	"slices"
	"testing"

	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/forwarding/wire"
)

// tagged puts a tag with the given control information into a frame.
func tagged(f []byte, tci uint16) []byte {
	return slices.Concat(f[:12], []byte{0x81, 0, byte(tci >> 8), byte(tci)}, f[12:])
}

// newTaggedRig is newRig with both interfaces in VLANs: 10 and 4094.
func newTaggedRig(t testing.TB) *rig {
	t.Helper()
	r := newRig(t)
	r.spec.Private.VLAN, r.spec.Public[0].VLAN = 10, 4094
	r.apply()
	return r
}

// TestVLAN: what comes in a VLAN is what comes without one, and goes out in the
// other side's.
func TestVLAN(t *testing.T) {
	plain, r := newRig(t), newTaggedRig(t)
	p := newRemote(t, 4711)
	ping := frame{dst: privateMAC, src: "10.1.0.7", to: "10.1.0.254", proto: 1, payload: echoRequest(30)}.bytes()
	expired := frame{dst: privateMAC, src: "10.1.0.7", to: "10.2.0.9", ttl: 1, proto: 17, payload: make([]byte, 30)}.bytes()
	arp := arpFrame(wire.ARPRequest, 0x0a0100fe)
	fromPrivate := [][]byte{outFrame(1438, 'x'), ping, expired, arp}
	fromPublic := [][]byte{p.packet(inFrame(100)), frame{dst: publicMAC, src: "203.0.113.2", to: "203.0.113.1", proto: 1, payload: echoRequest(8)}.bytes()}
	var want, got [2][][]byte
	for i, g := range []*rig{plain, r} {
		g.loopSAs()
		private, public := fromPrivate, fromPublic
		if i == 1 {
			private, public = nil, nil
			for _, f := range fromPrivate {
				private = append(private, tagged(f, 0xe00a)) // whatever the priority
			}
			for _, f := range fromPublic {
				public = append(public, tagged(f, 4094))
			}
		}
		for _, f := range private {
			g.private.Inject(f)
			g.settle() // one at a time, so that the order is the same
		}
		for _, f := range public {
			g.public.Inject(f)
			g.settle()
		}
		out := [2][][]byte{g.private.Drain(), g.public.Drain()}
		if i == 0 {
			want = out
		} else {
			got = out
		}
	}
	for side, tci := range []uint16{10, 4094} {
		if len(want[side]) < 2 || len(got[side]) != len(want[side]) {
			t.Fatalf("side %d: %d frames in a VLAN, %d without", side, len(got[side]), len(want[side]))
		}
		for i := range want[side] {
			if !bytes.Equal(got[side][i], tagged(want[side][i], tci)) {
				t.Errorf("side %d, frame %d:\n%x\nwithout a VLAN\n%x", side, i, got[side][i], want[side][i])
			}
		}
	}
	r.wantDrops(map[drop.Reason]uint64{drop.OutboundTTL: 1})
}

// TestOtherVLANs: at either side, frames that are not in its VLAN have no effect.
func TestOtherVLANs(t *testing.T) {
	p := newRemote(t, 4711)
	in, out := p.packet(inFrame(100)), outFrame(100, 'x')
	cut := out[:12]
	cut = append(slices.Clone(cut), 0x81, 0, 0, 10)
	for name, c := range map[string]struct {
		vlan    bool
		public  bool
		frame   []byte
		reason  drop.Reason // what it is dropped for
		arrives bool
	}{
		"without a tag":         {vlan: true, frame: out, reason: drop.PrivateVLAN},
		"of another":            {vlan: true, frame: tagged(out, 11), reason: drop.PrivateVLAN},
		"of the other side's":   {vlan: true, frame: tagged(out, 4094), reason: drop.PrivateVLAN},
		"with a priority alone": {vlan: true, frame: tagged(out, 0xa000), reason: drop.PrivateVLAN},
		"with two tags":         {vlan: true, frame: tagged(tagged(out, 10), 10), reason: drop.PrivateEthertype},
		"cut":                   {vlan: true, frame: cut, reason: drop.PrivateVLAN},
		"in it":                 {vlan: true, frame: tagged(out, 10), arrives: true},
		"tagged":                {frame: tagged(out, 10), reason: drop.PrivateVLAN},
		"priority":              {frame: tagged(out, 0xe000), arrives: true},
		"two priorities":        {frame: tagged(tagged(out, 0), 0), reason: drop.PrivateVLAN},
		"cut tag":               {frame: cut, reason: drop.PrivateVLAN},
		"public, without a tag": {vlan: true, public: true, frame: in, reason: drop.PublicVLAN},
		"public, of another":    {vlan: true, public: true, frame: tagged(in, 10), reason: drop.PublicVLAN},
		"public, in it":         {vlan: true, public: true, frame: tagged(in, 4094), arrives: true},
		"public, tagged":        {public: true, frame: tagged(in, 4094), reason: drop.PublicVLAN},
		"public, priority":      {public: true, frame: tagged(in, 0), arrives: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if c.vlan {
				r = newTaggedRig(t)
			}
			r.loopSAs()
			from, to := r.private, r.public
			if c.public {
				from, to = to, from
			}
			if !from.Inject(c.frame) {
				t.Fatal("the frame does not fit the wire")
			}
			want := map[drop.Reason]uint64{}
			if !c.arrives {
				want[c.reason] = 1
			}
			r.wantDrops(want)
			if n := len(to.Drain()); (n == 1) != c.arrives {
				t.Errorf("%d packets arrived", n)
			}
			if n := len(from.Drain()); n != 0 {
				t.Errorf("%d answers", n)
			}
		})
	}
}

// TestVLANChanges: an interface goes into a VLAN and comes out of it while the
// gateway runs, and SAs stay.
func TestVLANChanges(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	for _, vlan := range []uint16{0, 7, 8, 0} {
		r.spec.Public[0].VLAN = vlan
		r.apply()
		r.private.Inject(outFrame(100, 'x'))
		f := take(t, r.public, 1)[0]
		if vlan == 0 && wire.Be16(f[12:]) != wire.TypeIPv4 || vlan != 0 && (wire.Be16(f[12:]) != wire.TypeVLAN || wire.Be16(f[14:]) != vlan) {
			t.Errorf("in VLAN %d: % x", vlan, f[:18])
		}
	}
	r.spec.Public[0].VLAN = tables.MaxVLAN + 1
	if _, err := r.client.Prepare(r.ctx, &r.spec); err == nil {
		t.Error("VLAN 4095 is accepted")
	}
}

// TestVLANDoesNotAllocate: neither taking tags off nor putting them in.
func TestVLANDoesNotAllocate(t *testing.T) {
	r := newTaggedRig(t)
	r.loopSAs()
	w, goOn := r.still()
	defer goOn()
	out, other := tagged(outFrame(60, 'x'), 10), tagged(outFrame(60, 'x'), 11)
	n := testing.AllocsPerRun(100, func() {
		r.private.Inject(out)
		r.private.Inject(other)
		w.turn()
	})
	if n != 0 && !raceDetector {
		t.Errorf("%v allocations a turn, want 0", n)
	}
}

// FuzzTags puts frames of any bytes, with and without tags, into sides in and in
// no VLAN: buffers stay whole and good traffic passes.
func FuzzTags(f *testing.F) {
	f.Add(uint16(10), []byte{8, 0, 0x45}, false)
	f.Add(uint16(0), []byte{0x81, 0, 0, 0, 0x81, 0}, true)
	f.Add(uint16(10), []byte{}, true)
	f.Add(uint16(4094), []byte{0x86, 0xdd}, false)
	r := newRig(f)
	r.spec.Private.VLAN = 10
	r.apply()
	r.install(client.SA{Direction: client.Outbound, SPI: 4711})
	w, goOn := r.still()
	f.Cleanup(goOn)
	free := w.pool.Available()
	f.Fuzz(func(t *testing.T, tci uint16, rest []byte, public bool) {
		end, mac := r.private, privateMAC
		if public {
			end, mac = r.public, publicMAC
		}
		head := append(slices.Clone(mac[:]), testMAC[:]...)
		end.Inject(append(slices.Clone(head), rest...))
		end.Inject(append(append(head, 0x81, 0, byte(tci>>8), byte(tci)), rest...))
		r.private.Inject(tagged(outFrame(60, 'x'), 10))
		for w.turn() > 0 {
		}
		if n := len(r.public.Drain()); n < 1 || n > 3 {
			t.Fatalf("%d frames came out", n)
		}
		r.private.Drain()
		if w.pool.Available() != free {
			t.Fatalf("%d buffers are missing", free-w.pool.Available())
		}
		for e := w.mem.ToControl(w.slot).Next(); e != nil; e = w.mem.ToControl(w.slot).Next() {
			w.mem.ToControl(w.slot).Release()
		}
	})
}
