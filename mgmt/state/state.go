// Package state fills the model's gateway-state from the engine's counters and
// the keeper's. Like mgmt/translate it stands between the model and the rest:
// nothing else of mgmt knows where a counter comes from.
package state

import (
	"fmt"
	"reflect"
	"strings"

	"vita/forwarding/client"
	"vita/forwarding/tables"
	"vita/gen"
	"vita/internal/clock"
	"vita/mgmt/datastore"
)

// Source is where the counters come from: *client.Client.
type Source interface {
	Counters() *client.Snapshot
	SAs() []client.SAInfo
	Routes() []client.RouteInfo
	Ports() []client.PortInfo
	Neighbours() []client.NeighbourInfo
	Engine() client.EngineInfo
}

// KeySource is where the key exchange's counters come from, by the names of
// the leaves in gateway-state/key-manager: *keeper.Keeper.
type KeySource interface {
	Counters() map[string]uint64
}

// place is where a leaf lies: the field of a container and that of a counter
// in it.
type place struct{ container, leaf int }

// places finds all counters below gateway-state by their path.
var places = findPlaces()

func findPlaces() map[string]place {
	m := map[string]place{}
	t := reflect.TypeFor[gen.VitaEspGateway_GatewayState]()
	for i := range t.NumField() {
		c := t.Field(i)
		if c.Type.Kind() != reflect.Pointer || c.Type.Elem().Kind() != reflect.Struct {
			continue // a list, or a leaf
		}
		for j := range c.Type.Elem().NumField() {
			f := c.Type.Elem().Field(j)
			if f.Type == reflect.TypeFor[*uint64]() {
				m["gateway-state/"+c.Tag.Get("path")+"/"+f.Tag.Get("path")] = place{i, j}
			}
		}
	}
	return m
}

// set stores a counter's value; it reports false for a path that the model
// does not have.
func set(g *gen.VitaEspGateway_GatewayState, path string, v uint64) bool {
	p, ok := places[path]
	if !ok {
		return false
	}
	c := reflect.ValueOf(g).Elem().Field(p.container)
	if c.IsNil() {
		c.Set(reflect.New(c.Type().Elem()))
	}
	c.Elem().Field(p.leaf).Set(reflect.ValueOf(&v))
	return true
}

// Fill returns a function that sets a tree's gateway-state to what the sources
// say at that moment. Lists with an entry for each route, association or
// neighbour are made only where they are wanted; the rest costs little.
func Fill(engine Source, keys KeySource) datastore.State {
	return func(root *gen.Vita, wants datastore.Wants) {
		g := &gen.VitaEspGateway_GatewayState{}
		root.GatewayState = g
		n := engine.Counters()
		for c := range tables.Counter(tables.NumCounters) {
			set(g, c.Path(), n.Get(c))
		}
		interfaceStats(g, "private-interface", n.Private)
		interfaceStats(g, "public-interface", n.Public)
		for name, v := range keys.Counters() {
			set(g, "gateway-state/key-manager/"+name, v)
		}
		now := clock.Mono()
		if wants("inbound-sa") || wants("security-association") {
			associations(g, engine.SAs(), now)
		}
		if wants("route") {
			routes(g, engine.Routes(), now)
		}
		extended(g, n, engine)
		if wants("neighbour") {
			for _, e := range engine.Neighbours() {
				neighbour(g, e, now)
			}
		}
	}
}

// interfaceStats sets the 13 counters of one side; the leaves' names are the
// fields' in lower case.
func interfaceStats(g *gen.VitaEspGateway_GatewayState, side string, s client.Stats) {
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue // padding
		}
		set(g, fmt.Sprintf("gateway-state/%s/%s", side, strings.ToLower(v.Type().Field(i).Name)), v.Field(i).Uint())
	}
}

func inboundSA(g *gen.VitaEspGateway_GatewayState, sa *client.SAInfo) {
	if g.InboundSa == nil {
		g.InboundSa = map[gen.VitaEspGateway_GatewayState_InboundSa_Key]*gen.VitaEspGateway_GatewayState_InboundSa{}
	}
	g.InboundSa[gen.VitaEspGateway_GatewayState_InboundSa_Key{Queue: sa.Queue, Spi: sa.SPI}] = &gen.VitaEspGateway_GatewayState_InboundSa{
		Queue: &sa.Queue,
		Spi:   &sa.SPI,
		SaState: &gen.VitaEspGateway_GatewayState_InboundSa_SaState{
			Rxerrors:       &sa.RxErrors,
			ProtocolErrors: &sa.ProtocolErrors,
			DecryptErrors:  &sa.DecryptErrors,
		},
	}
}
