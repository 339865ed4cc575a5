package state

import (
	"time"

	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/gen"
)

// What the extension module adds to gateway-state.

func association(g *gen.VitaEspGateway_GatewayState, sa client.SAInfo, now int64) {
	direction := "inbound"
	if sa.Direction == client.Outbound {
		direction = "outbound"
	}
	e := &gen.VitaEspGateway_GatewayState_SecurityAssociation{
		Queue: &sa.Queue, Direction: &direction, Spi: &sa.SPI,
		Active: &sa.Active, Packets: &sa.Packets, Bytes: &sa.Bytes, SequenceNumber: &sa.Seq,
	}
	if sa.Route != "" {
		e.Route = &sa.Route
	}
	if sa.LastUsed != 0 {
		age := uint64(max(now-sa.LastUsed, 0)) / uint64(time.Millisecond)
		e.LastUse = &age
	}
	if g.SecurityAssociation == nil {
		g.SecurityAssociation = map[gen.VitaEspGateway_GatewayState_SecurityAssociation_Key]*gen.VitaEspGateway_GatewayState_SecurityAssociation{}
	}
	g.SecurityAssociation[gen.VitaEspGateway_GatewayState_SecurityAssociation_Key{Queue: sa.Queue, Direction: direction, Spi: sa.SPI}] = e
}

// extended fills in all that does not belong to an association.
func extended(g *gen.VitaEspGateway_GatewayState, n *client.Snapshot, engine Source) {
	g.Drop = map[string]*gen.VitaEspGateway_GatewayState_Drop{}
	for r := range drop.Reason(drop.NumReasons) {
		name, packets := r.String(), n.Drops(r)
		g.Drop[name] = &gen.VitaEspGateway_GatewayState_Drop{Reason: &name, Packets: &packets}
	}
	g.Worker = map[uint16]*gen.VitaEspGateway_GatewayState_Worker{}
	for _, w := range n.Workers {
		waiting := uint32(w.Waiting)
		g.Worker[w.Queue] = &gen.VitaEspGateway_GatewayState_Worker{Queue: &w.Queue, Busy: &w.Busy, Idle: &w.Idle, WaitingMessages: &waiting}
	}
	g.Port = map[gen.VitaEspGateway_GatewayState_Port_Key]*gen.VitaEspGateway_GatewayState_Port{}
	for _, p := range engine.Ports() {
		side := "private"
		if p.Public {
			side = "public"
		}
		mtu, queues := uint32(p.MTU), uint32(p.Queues)
		g.Port[gen.VitaEspGateway_GatewayState_Port_Key{Queue: p.Queue, Side: side}] = &gen.VitaEspGateway_GatewayState_Port{
			Queue: &p.Queue, Side: &side, Name: &p.Name, Driver: &p.Driver,
			Mtu: &mtu, DeviceQueues: &queues, ZeroCopy: &p.ZeroCopy, LinkUp: &p.LinkUp,
		}
	}
	if tier := engine.Engine().Tier; tier != "" {
		g.CryptoTier = &tier
	}
}
