package state

import (
	"net"
	"time"

	"vita/forwarding/client"
	"vita/forwarding/drop"
	"vita/gen"
)

// What the extension module adds to gateway-state.

// associations fills in both lists of associations: the model's and ours.
func associations(g *gen.VitaEspGateway_GatewayState, sas []client.SAInfo, now int64) {
	g.SecurityAssociation = make(map[gen.VitaEspGateway_GatewayState_SecurityAssociation_Key]*gen.VitaEspGateway_GatewayState_SecurityAssociation, len(sas))
	for i := range sas {
		sa := &sas[i]
		if sa.Direction == client.Inbound {
			inboundSA(g, sa)
		}
		association(g, sa, now)
	}
}

func association(g *gen.VitaEspGateway_GatewayState, sa *client.SAInfo, now int64) {
	direction := "inbound"
	if sa.Direction == client.Outbound {
		direction = "outbound"
	}
	e := &gen.VitaEspGateway_GatewayState_SecurityAssociation{
		Queue: &sa.Queue, Direction: &direction, Spi: &sa.SPI,
		Active: &sa.Active, Packets: &sa.Packets, Bytes: &sa.Bytes, SequenceNumber: &sa.Seq,
		Age: millis(now - sa.Created),
	}
	if sa.LastUsed != 0 {
		e.LastUse = millis(now - sa.LastUsed)
	}
	if sa.Route != "" {
		e.Route = &sa.Route
	}
	if sa.Expires != 0 {
		e.TimeLeft = millis(sa.Expires - now)
	}
	if sa.MaxPackets != 0 {
		e.PacketLimit, e.PacketsLeft = &sa.MaxPackets, left(sa.MaxPackets, sa.Packets)
	}
	if sa.MaxBytes != 0 {
		e.ByteLimit, e.BytesLeft = &sa.MaxBytes, left(sa.MaxBytes, sa.Bytes)
	}
	for _, d := range sa.Drops {
		if e.Drop == nil {
			e.Drop = map[string]*gen.VitaEspGateway_GatewayState_SecurityAssociation_Drop{}
		}
		name := d.Reason.String()
		e.Drop[name] = &gen.VitaEspGateway_GatewayState_SecurityAssociation_Drop{Reason: &name, Packets: &d.Packets}
	}
	g.SecurityAssociation[gen.VitaEspGateway_GatewayState_SecurityAssociation_Key{Queue: sa.Queue, Direction: direction, Spi: sa.SPI}] = e
}

// millis returns a time that was or will be, in milliseconds.
func millis(d int64) *uint64 {
	ms := uint64(max(d, 0)) / uint64(time.Millisecond)
	return &ms
}

func left(limit, used uint64) *uint64 {
	n := limit - min(limit, used)
	return &n
}

// routes fills in what was counted of each route.
func routes(g *gen.VitaEspGateway_GatewayState, all []client.RouteInfo, now int64) {
	g.Route = make(map[string]*gen.VitaEspGateway_GatewayState_Route, len(all))
	for i := range all {
		r := &all[i]
		e := &gen.VitaEspGateway_GatewayState_Route{
			Id: &r.Route, SentPackets: &r.SentPackets, SentBytes: &r.SentBytes,
			ReceivedPackets: &r.ReceivedPackets, ReceivedBytes: &r.ReceivedBytes,
		}
		if r.LastUsed != 0 {
			e.LastUse = millis(now - r.LastUsed)
		}
		for _, d := range r.Drops {
			if e.Drop == nil {
				e.Drop = map[string]*gen.VitaEspGateway_GatewayState_Route_Drop{}
			}
			name := d.Reason.String()
			e.Drop[name] = &gen.VitaEspGateway_GatewayState_Route_Drop{Reason: &name, Packets: &d.Packets}
		}
		for _, m := range r.Moved {
			if e.MovedPeer == nil {
				e.MovedPeer = map[uint16]*gen.VitaEspGateway_GatewayState_Route_MovedPeer{}
			}
			address, port := m.Peer.Addr().String(), m.Peer.Port()
			e.MovedPeer[m.Queue] = &gen.VitaEspGateway_GatewayState_Route_MovedPeer{Queue: &m.Queue, Address: &address, Port: &port}
		}
		g.Route[r.Route] = e
	}
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
		mtu, queues, resets := uint32(p.MTU), uint32(p.Queues), uint32(p.Resets)
		port := &gen.VitaEspGateway_GatewayState_Port{
			Queue: &p.Queue, Side: &side, Name: &p.Name, Driver: &p.Driver,
			Mtu: &mtu, DeviceQueues: &queues, ZeroCopy: &p.ZeroCopy, LinkUp: &p.LinkUp,
			Resets: &resets,
		}
		if p.Fault != "" {
			port.Fault = &p.Fault
		}
		if p.Backlog {
			rx, tx := uint32(p.RxWaiting), uint32(p.TxWaiting)
			port.WaitingToReceive, port.WaitingToSend = &rx, &tx
		}
		g.Port[gen.VitaEspGateway_GatewayState_Port_Key{Queue: p.Queue, Side: side}] = port
	}
	if tier := engine.Engine().Tier; tier != "" {
		g.CryptoTier = &tier
	}
}

func neighbour(g *gen.VitaEspGateway_GatewayState, n client.NeighbourInfo, now int64) {
	link, ip, state := n.Link.String(), n.IP.String(), n.State.String()
	e := &gen.VitaEspGateway_GatewayState_Neighbour{Interface: &link, Ip: &ip, State: &state}
	if n.MAC != [6]byte{} {
		mac := net.HardwareAddr(n.MAC[:]).String()
		e.Mac = &mac
	}
	if n.Confirmed != 0 {
		age := uint64(max(now-n.Confirmed, 0)) / uint64(time.Millisecond)
		e.Age = &age
	}
	if g.Neighbour == nil {
		g.Neighbour = map[gen.VitaEspGateway_GatewayState_Neighbour_Key]*gen.VitaEspGateway_GatewayState_Neighbour{}
	}
	g.Neighbour[gen.VitaEspGateway_GatewayState_Neighbour_Key{Interface: link, Ip: ip}] = e
}
