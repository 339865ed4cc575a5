package golden

import (
	"fmt"
	"reflect"
	"strings"

	"vita/gen"
	"vita/mgmt/datastore"
	"vita/mgmt/state"
)

type noKeys struct{}

func (noKeys) Counters() map[string]uint64 { return nil }

// compareState checks that gateway-state, as the management plane fills it,
// has exactly the numbers of a case's counters.txt: each of them, and no other
// one that is not zero.
func (g *gateway) compareState(counters string) {
	g.t.Helper()
	root := &gen.Vita{}
	state.Fill(g.client, noKeys{})(root, datastore.Everything)
	have := map[string]uint64{}
	v := reflect.ValueOf(root.GatewayState).Elem()
	for i := range v.NumField() {
		c, name := v.Field(i), v.Type().Field(i).Tag.Get("path")
		if c.Kind() != reflect.Pointer || c.IsNil() || c.Elem().Kind() != reflect.Struct {
			continue
		}
		for j := range c.Elem().NumField() {
			if p, ok := reflect.TypeAssert[*uint64](c.Elem().Field(j)); ok && p != nil && *p != 0 {
				have[name+"/"+c.Elem().Type().Field(j).Tag.Get("path")] = *p
			}
		}
	}
	for reason, d := range root.GatewayState.Drop {
		if *d.Packets != 0 {
			have["drop "+reason] = *d.Packets
		}
	}
	for key, sa := range root.GatewayState.SecurityAssociation {
		e := gen.VitaEspGateway_GatewayState_InboundSa_SaState{Rxerrors: new(uint64), ProtocolErrors: new(uint64), DecryptErrors: new(uint64)}
		if key.Direction == "inbound" {
			e = *root.GatewayState.InboundSa[gen.VitaEspGateway_GatewayState_InboundSa_Key{Queue: key.Queue, Spi: key.Spi}].SaState
		}
		have[fmt.Sprintf("sa %s %d: seq %d, packets %d, bytes %d, rxerrors %d, protocol-errors %d, decrypt-errors",
			key.Direction, key.Spi, *sa.SequenceNumber, *sa.Packets, *sa.Bytes, *e.Rxerrors, *e.ProtocolErrors)] = *e.DecryptErrors
		for reason, d := range sa.Drop {
			have[fmt.Sprintf("sa %s %d drop %s", key.Direction, key.Spi, reason)] = *d.Packets
		}
	}
	for id, r := range root.GatewayState.Route {
		have[fmt.Sprintf("route %s: sent-packets %d, sent-bytes %d, received-packets %d, received-bytes", id, *r.SentPackets, *r.SentBytes, *r.ReceivedPackets)] = *r.ReceivedBytes
		for reason, d := range r.Drop {
			have[fmt.Sprintf("route %s drop %s", id, reason)] = *d.Packets
		}
	}
	for line := range strings.Lines(counters) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "message ") || strings.HasPrefix(line, "neighbour ") {
			continue // no counter
		}
		at := strings.LastIndexByte(line, ' ')
		if n, ok := have[line[:at]]; !ok || fmt.Sprint(n) != line[at+1:] {
			g.t.Errorf("gateway-state has %d for %s, want %s", n, line[:at], line[at+1:])
		}
		delete(have, line[:at])
	}
	for name, n := range have {
		g.t.Errorf("gateway-state has %d for %s, which is not in counters.txt", n, name)
	}
}
