package forwarding

import (
	"bytes"
	"testing"

	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/esp"
	"vita/forwarding/wire"
)

func TestPacketGoesOutAndComesBackIn(t *testing.T) {
	r := newRig(t)
	r.loopSAs()
	in := outFrame(100, 'x')
	if !r.private.Inject(in) {
		t.Fatal("not injected")
	}
	out := take(t, r.public, 1)[0]
	if bytes.Contains(out, []byte("xxxx")) {
		t.Fatal("the payload is readable outside")
	}
	eth := wire.Ethernet(out)
	if *eth.Dst() != testMAC || *eth.Src() != publicMAC || eth.Type() != wire.TypeIPv4 {
		t.Errorf("Ethernet header %x", out[:14])
	}
	p, check := wire.ParseIPv4(out[14:])
	if check != wire.Good || p.HeaderLen() != 20 || p[1] != 0 || wire.Be16(p[4:]) != 0 || !p.DF() || p.Fragment() || p.TTL() != 64 ||
		p.Protocol() != wire.ProtoESP || p.Src() != 0xcb007101 || p.Dst() != 0xcb007102 {
		t.Errorf("outer header %x", []byte(p[:20]))
	}
	if e := wire.ESP(p.Payload()); e.SPI() != 4711 || e.SeqLow() != 1 || len(e) != esp.Size(100) {
		t.Errorf("ESP of %d bytes: SPI %d, number %d", len(e), e.SPI(), e.SeqLow())
	}

	// Turned round, the packet's source is not behind the route.
	back := bytes.Clone(out)
	*(*[6]byte)(back[0:6]) = publicMAC
	wire.PutIPv4(back[14:], len(back)-14, true, 64, wire.ProtoESP, 0xcb007102, 0xcb007101)
	r.public.Inject(back)
	r.wantDrops(map[drop.Reason]uint64{drop.InboundPolicy: 1})
	if got := r.private.Drain(); len(got) != 0 {
		t.Fatalf("a packet from a foreign source came in: %x", got)
	}
	// And a second copy is a replay.
	r.public.Inject(back)
	r.wantDrops(map[drop.Reason]uint64{drop.InboundPolicy: 1, drop.ESPReplay: 1})
	sas := r.client.SAs()
	if len(sas) != 2 || sas[0].Direction != client.Outbound || !sas[0].Active || sas[0].Packets != 1 || sas[0].Bytes != 100 ||
		sas[0].Seq != 1 || sas[0].Route != "site2" || sas[1].Seq != 1 || sas[1].Packets != 1 || sas[1].DecryptErrors != 1 {
		t.Errorf("SAs: %+v", sas)
	}
}
