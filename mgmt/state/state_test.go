package state

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/gen"
	"vita/internal/clock"
	"vita/keying/keeper"
	"vita/mgmt/datastore"
)

type source struct {
	n      client.Snapshot
	sas    []client.SAInfo
	routes []client.RouteInfo
}

func (s *source) Counters() *client.Snapshot { return &s.n }
func (s *source) SAs() []client.SAInfo       { return slices.Clone(s.sas) } // as the client, which makes them anew
func (s *source) Routes() []client.RouteInfo { return s.routes }
func (s *source) Engine() client.EngineInfo  { return client.EngineInfo{Tier: "generic"} }
func (s *source) Ports() []client.PortInfo {
	return []client.PortInfo{{Queue: 1, Name: "eth0", MTU: 1500, Fault: "it is broken", Resets: 2}, {Queue: 1, Public: true, Name: "eth1", Driver: "afxdp", LinkUp: true, Backlog: true, TxWaiting: 3}}
}

func (s *source) Neighbours() []client.NeighbourInfo {
	return []client.NeighbourInfo{
		{Link: tables.Link{Ifname: "eth0"}, IP: netip.MustParseAddr("10.0.0.2"), State: tables.NeighbourReachable, MAC: [6]byte{2, 0, 0, 0, 0, 0xa}, Confirmed: 1},
		{Link: tables.Link{PCI: "0c:00.1"}, Public: true, IP: netip.MustParseAddr("2001:db8::1"), State: tables.NeighbourIncomplete},
	}
}

type keys map[string]uint64

func (k keys) Counters() map[string]uint64 { return k }

func TestFill(t *testing.T) {
	s := &source{sas: []client.SAInfo{
		{Queue: 1, SPI: 300, Direction: client.Inbound, DecryptErrors: 4},
		{Queue: 1, SPI: 301, Direction: client.Outbound},
	}}
	s.n.Private.RxPackets, s.n.Public.TxBytes = 5, 6
	root := &gen.Vita{}
	Fill(s, keys{"negotiations-initiated": 3})(root, datastore.Everything)
	g := root.GatewayState
	if *g.PrivateInterface.Rxpackets != 5 || *g.PublicInterface.Txbytes != 6 || *g.KeyManager.NegotiationsInitiated != 3 {
		t.Fatalf("%+v %+v %+v", g.PrivateInterface, g.PublicInterface, g.KeyManager)
	}
	if len(g.InboundSa) != 1 {
		t.Fatalf("%d inbound SAs", len(g.InboundSa))
	}
	for k, sa := range g.InboundSa {
		if k.Spi != 300 || k.Queue != 1 || *sa.SaState.DecryptErrors != 4 {
			t.Fatalf("%+v %+v", k, sa.SaState)
		}
	}
}

// TestExtended looks at what the extension module adds.
func TestExtended(t *testing.T) {
	s := &source{sas: []client.SAInfo{
		{Queue: 1, SPI: 300, Direction: client.Inbound, Active: true},
		{Queue: 1, SPI: 300, Direction: client.Outbound, Route: "r", Packets: 7, Bytes: 700, Seq: 8, LastUsed: 1, Active: true},
	}}
	s.n.Workers = []client.Load{{Queue: 1, Busy: 5, Idle: 6, Waiting: 2}}
	root := &gen.Vita{}
	Fill(s, keys{})(root, datastore.Everything)
	g := root.GatewayState
	out := g.SecurityAssociation[gen.VitaEspGateway_GatewayState_SecurityAssociation_Key{Queue: 1, Direction: "outbound", Spi: 300}]
	in := g.SecurityAssociation[gen.VitaEspGateway_GatewayState_SecurityAssociation_Key{Queue: 1, Direction: "inbound", Spi: 300}]
	if *out.Packets != 7 || *out.Bytes != 700 || *out.SequenceNumber != 8 || *out.Route != "r" || *out.LastUse == 0 || in.LastUse != nil || in.Route != nil {
		t.Errorf("%+v %+v", out, in)
	}
	if w := g.Worker[1]; *w.Busy != 5 || *w.Idle != 6 || *w.WaitingMessages != 2 {
		t.Errorf("%+v", w)
	}
	if p := g.Port[gen.VitaEspGateway_GatewayState_Port_Key{Queue: 1, Side: "public"}]; *p.Driver != "afxdp" || !*p.LinkUp || *p.WaitingToReceive != 0 || *p.WaitingToSend != 3 || p.Fault != nil || *p.Resets != 0 {
		t.Errorf("%+v", p)
	}
	if p := g.Port[gen.VitaEspGateway_GatewayState_Port_Key{Queue: 1, Side: "private"}]; p.WaitingToReceive != nil || p.WaitingToSend != nil || *p.Fault != "it is broken" || *p.Resets != 2 {
		t.Errorf("a driver that cannot tell: %+v", p)
	}
	known := g.Neighbour[gen.VitaEspGateway_GatewayState_Neighbour_Key{Interface: "eth0", Ip: "10.0.0.2"}]
	if *known.Mac != "02:00:00:00:00:0a" || *known.State != "reachable" || *known.Age == 0 {
		t.Errorf("%+v", known)
	}
	unknown := g.Neighbour[gen.VitaEspGateway_GatewayState_Neighbour_Key{Interface: "0c:00.1", Ip: "2001:db8::1"}]
	if unknown.Mac != nil || *unknown.State != "incomplete" || unknown.Age != nil {
		t.Errorf("%+v", unknown)
	}
	if len(g.Drop) != drop.NumReasons || *g.Drop["esp-replay"].Packets != 0 || *g.CryptoTier != "generic" || len(g.Port) != 2 {
		t.Errorf("%d reasons, %d ports", len(g.Drop), len(g.Port))
	}
}

// TestRoutesAndLifetimes looks at what is counted of routes and associations,
// and that the lists are made only for those who want them.
func TestRoutesAndLifetimes(t *testing.T) {
	now := clock.Mono()
	ms := int64(1e6)
	s := &source{
		routes: []client.RouteInfo{
			{Route: "a", SentPackets: 1, SentBytes: 2, ReceivedPackets: 3, ReceivedBytes: 4, LastUsed: now - 5000*ms, Drops: []client.Drop{{Reason: drop.OutboundTTL, Packets: 7}, {Reason: drop.ESPReplay, Packets: 8}}},
			{Route: "b", Moved: []client.Moved{{Queue: 3, Peer: netip.MustParseAddrPort("198.51.100.7:1000")}}},
		},
		sas: []client.SAInfo{
			{
				Queue: 1, SPI: 300, Direction: client.Outbound, Route: "a", Created: now - 1000*ms, Expires: now + 60000*ms,
				Packets: 10, MaxPackets: 100, Bytes: 2000, MaxBytes: 1000, Drops: []client.Drop{{Reason: drop.OutboundSAEnded, Packets: 1}, {Reason: drop.OutboundNoRoom, Packets: 2}},
			},
			{Queue: 1, SPI: 301, Direction: client.Inbound, Created: now - 1000*ms, Expires: now - 1},
		},
	}
	root := &gen.Vita{}
	Fill(s, keys{})(root, datastore.Everything)
	g := root.GatewayState
	a, b := g.Route["a"], g.Route["b"]
	if len(g.Route) != 2 || *a.SentPackets != 1 || *a.SentBytes != 2 || *a.ReceivedPackets != 3 || *a.ReceivedBytes != 4 ||
		*a.LastUse < 5000 || *a.LastUse > 60000 || *b.SentPackets != 0 || b.LastUse != nil || b.Drop != nil {
		t.Errorf("%+v %+v", a, b)
	}
	if len(a.Drop) != 2 || *a.Drop["outbound-ttl"].Packets != 7 || *a.Drop["esp-replay"].Packets != 8 || *a.Drop["esp-replay"].Reason != "esp-replay" {
		t.Errorf("%+v", a.Drop)
	}
	if m := b.MovedPeer[3]; len(b.MovedPeer) != 1 || *m.Address != "198.51.100.7" || *m.Port != 1000 || a.MovedPeer != nil {
		t.Errorf("%+v", m)
	}
	out := g.SecurityAssociation[gen.VitaEspGateway_GatewayState_SecurityAssociation_Key{Queue: 1, Direction: "outbound", Spi: 300}]
	if *out.Age < 1000 || *out.TimeLeft > 60000 || *out.TimeLeft < 30000 || *out.PacketLimit != 100 || *out.PacketsLeft != 90 ||
		*out.ByteLimit != 1000 || *out.BytesLeft != 0 || len(out.Drop) != 2 || *out.Drop["outbound-no-room"].Packets != 2 {
		t.Errorf("%+v", out)
	}
	in := g.SecurityAssociation[gen.VitaEspGateway_GatewayState_SecurityAssociation_Key{Queue: 1, Direction: "inbound", Spi: 301}]
	if *in.TimeLeft != 0 || in.PacketLimit != nil || in.ByteLimit != nil || in.Drop != nil {
		t.Errorf("%+v", in)
	}
	for _, c := range []struct {
		wants                   string
		routes, sas, neighbours int
	}{{"route", 2, 0, 0}, {"security-association", 0, 2, 0}, {"inbound-sa", 0, 2, 0}, {"neighbour", 0, 0, len(s.Neighbours())}, {"drop", 0, 0, 0}} {
		root := &gen.Vita{}
		Fill(s, keys{})(root, func(child string) bool { return child == c.wants })
		if g := root.GatewayState; len(g.Route) != c.routes || len(g.SecurityAssociation) != c.sas || len(g.Neighbour) != c.neighbours {
			t.Errorf("who wants %s gets %d routes, %d associations and %d neighbours", c.wants, len(g.Route), len(g.SecurityAssociation), len(g.Neighbour))
		}
	}
}

// TestEveryLeafHasASource demands that each counter of the model comes from
// somewhere, and that each counter we have is in the model.
func TestEveryLeafHasASource(t *testing.T) {
	have := map[string]bool{}
	for c := range tables.Counter(tables.NumCounters) {
		have[c.Path()] = true
	}
	for _, side := range []string{"private-interface", "public-interface"} {
		stats := reflect.TypeFor[client.Stats]()
		for field := range stats.Fields() {
			if field.IsExported() {
				have["gateway-state/"+side+"/"+strings.ToLower(field.Name)] = true
			}
		}
	}
	for name := range keeper.New(keeper.Options{}).Counters() {
		have["gateway-state/key-manager/"+name] = true
	}
	for path := range places {
		if !have[path] {
			t.Errorf("%s is in the model and counted nowhere", path)
		}
	}
	for path := range have {
		if _, ok := places[path]; !ok {
			t.Errorf("%s is counted and not in the model", path)
		}
	}
}
