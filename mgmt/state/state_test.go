package state

import (
	"reflect"
	"strings"
	"testing"

	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/forwarding/tables"
	"vita/gen"
	"vita/keying/keeper"
)

type source struct {
	n   client.Snapshot
	sas []client.SAInfo
}

func (s *source) Counters() *client.Snapshot { return &s.n }
func (s *source) SAs() []client.SAInfo       { return s.sas }
func (s *source) Engine() client.EngineInfo  { return client.EngineInfo{Tier: "generic"} }
func (s *source) Ports() []client.PortInfo {
	return []client.PortInfo{{Queue: 1, Name: "eth0", MTU: 1500}, {Queue: 1, Public: true, Name: "eth1", Driver: "afxdp", LinkUp: true}}
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
	Fill(s, keys{"negotiations-initiated": 3})(root)
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
	Fill(s, keys{})(root)
	g := root.GatewayState
	out := g.SecurityAssociation[gen.VitaEspGateway_GatewayState_SecurityAssociation_Key{Queue: 1, Direction: "outbound", Spi: 300}]
	in := g.SecurityAssociation[gen.VitaEspGateway_GatewayState_SecurityAssociation_Key{Queue: 1, Direction: "inbound", Spi: 300}]
	if *out.Packets != 7 || *out.Bytes != 700 || *out.SequenceNumber != 8 || *out.Route != "r" || *out.LastUse == 0 || in.LastUse != nil || in.Route != nil {
		t.Errorf("%+v %+v", out, in)
	}
	if w := g.Worker[1]; *w.Busy != 5 || *w.Idle != 6 || *w.WaitingMessages != 2 {
		t.Errorf("%+v", w)
	}
	if p := g.Port[gen.VitaEspGateway_GatewayState_Port_Key{Queue: 1, Side: "public"}]; *p.Driver != "afxdp" || !*p.LinkUp {
		t.Errorf("%+v", p)
	}
	if len(g.Drop) != drop.NumReasons || *g.Drop["esp-replay"].Packets != 0 || *g.CryptoTier != "generic" || len(g.Port) != 2 {
		t.Errorf("%d reasons, %d ports", len(g.Drop), len(g.Port))
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
