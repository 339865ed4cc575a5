// Package translate turns a configuration into what the forwarding plane and
// the key exchange take, and applies it to both. Of all of mgmt, only this
// package and mgmt/state know that they exist; a change of the model's schema
// changes nothing below here.
package translate

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"vita/forwarding/tables"
	"vita/gen"
	"vita/keying/keeper"
	"vita/mgmt/internal/rpcerr"
)

// Defaults of the model, for leaves that are not set.
const (
	defaultNegotiationTTL = 5
	defaultSATTL          = 600
	defaultQueue          = 1
	defaultKeepalive      = 20
)

const (
	module = "vita-esp-gateway"
	ext    = module + "-ext:" // in front of a node of the extension module
)

// invalid is the error of a value that the model accepts and the gateway does
// not. path is relative to the root, with keys.
func invalid(path, format string, a ...any) error {
	return &rpcerr.Error{
		Type: "application", Tag: "operation-failed", Path: "/" + module + ":" + path,
		Message: fmt.Sprintf(format, a...),
	}
}

// route is a route of either family.
type route struct {
	spi      *uint32
	net, psk *string
	further  []string // nets
	udp      *gen.VitaEspGateway_Route4_UdpEncapsulation
	gateways []gateway // by address
}

type gateway struct {
	key   string
	ip    *string
	queue *uint16
}

// private is the private interface of either family, and what it has of the
// other one.
type private struct {
	pci, ifname, mac        *string
	ip, nexthop, nexthopMAC *string
	otherIP, otherNextHop   *string
	otherNextHopMAC         *string
	vlan                    *uint16
}

// model is the part of the configuration that exists once for each family.
// Public interfaces of both families have the same leaves.
type model struct {
	root    *gen.Vita
	digit   string   // of the nodes' names: the tunnels' family
	other   string   // the other one
	private *private // nil: none
	public  map[string]*gen.VitaEspGateway_PublicInterface4
}

// family returns the family that the configuration uses; the model's choice
// lets it be only one.
func family(root *gen.Vita) model {
	if root.PrivateInterface6 == nil && len(root.PublicInterface6) == 0 && len(root.Route6) == 0 {
		m := model{root: root, digit: "4", other: "6", public: root.PublicInterface4}
		if p := root.PrivateInterface4; p != nil {
			m.private = &private{p.Pci, p.Ifname, p.Mac, p.Ip, p.NexthopIp, p.NexthopMac, p.Ip6, p.NexthopIp6, p.NexthopMac6, p.Vlan}
		}
		return m
	}
	m := model{root: root, digit: "6", other: "4", public: map[string]*gen.VitaEspGateway_PublicInterface4{}}
	if p := root.PrivateInterface6; p != nil {
		m.private = &private{p.Pci, p.Ifname, p.Mac, p.Ip, p.NexthopIp, p.NexthopMac, p.Ip4, p.NexthopIp4, p.NexthopMac4, p.Vlan}
	}
	for key, p := range root.PublicInterface6 {
		m.public[key] = (*gen.VitaEspGateway_PublicInterface4)(p)
	}
	return m
}

// routes returns the ids of all routes, in order.
func (m *model) routes() []string {
	if m.digit == "4" {
		return sorted(m.root.Route4)
	}
	return sorted(m.root.Route6)
}

// route returns a route, if it is there.
func (m *model) route(id string) (s route, ok bool) {
	if m.digit == "4" {
		r := m.root.Route4[id]
		if r == nil {
			return s, false
		}
		s = route{spi: r.Spi, net: r.Net, psk: r.PresharedKey, further: sorted(r.FurtherNet), udp: r.UdpEncapsulation}
		for _, key := range sorted(r.Gateway) {
			s.gateways = append(s.gateways, gateway{key, r.Gateway[key].Ip, r.Gateway[key].Queue})
		}
		return s, true
	}
	r := m.root.Route6[id]
	if r == nil {
		return s, false
	}
	s = route{spi: r.Spi, net: r.Net, psk: r.PresharedKey, further: sorted(r.FurtherNet), udp: (*gen.VitaEspGateway_Route4_UdpEncapsulation)(r.UdpEncapsulation)}
	for _, key := range sorted(r.Gateway) {
		s.gateways = append(s.gateways, gateway{key, r.Gateway[key].Ip, r.Gateway[key].Queue})
	}
	return s, true
}

func (m *model) routePath(id string) string { return fmt.Sprintf("route%s[id='%s']", m.digit, id) }

// Spec returns the forwarding plane's share of a configuration.
func Spec(root *gen.Vita) (*tables.Spec, error) {
	m := family(root)
	s := &tables.Spec{
		MTU:          or(root.Mtu, tables.DefaultMTU),
		TFC:          or(root.Tfc, false),
		ProtocolPort: or(root.ProtocolPort, tables.DefaultProtocolPort),
	}
	outer(s, root.Esp)
	if p := m.private; p != nil && p.ip != nil {
		path := "private-interface" + m.digit
		i, err := m.iface(path, p.pci, p.ifname, p.mac, p.nexthopMAC, p.ip, p.nexthop)
		if err != nil {
			return nil, err
		}
		if err := m.otherFamily(path+"/"+ext, p, &i); err != nil {
			return nil, err
		}
		i.VLAN = or(p.vlan, 0)
		s.Private = &i
	}
	for _, key := range sorted(m.public) {
		p := m.public[key]
		path := fmt.Sprintf("public-interface%s[ip='%s']", m.digit, key)
		i, err := m.iface(path, p.Pci, p.Ifname, p.Mac, p.NexthopMac, p.Ip, p.NexthopIp)
		if err != nil {
			return nil, err
		}
		i.VLAN = or(p.Vlan, 0)
		pub := tables.PublicInterface{Interface: i, Queue: or(p.Queue, defaultQueue), DeviceQueue: or(p.DeviceQueue, 0), PrefixLen: or(p.PrefixLength, 0)}
		if p.NatIp != nil {
			if pub.NATIP, err = m.addr(path+"/nat-ip", p.NatIp); err != nil {
				return nil, err
			}
		}
		s.Public = append(s.Public, pub)
	}
	if s.Private == nil && len(s.Public) > 0 {
		return nil, invalid("public-interface"+m.digit, "public interfaces need a private-interface%s to serve", m.digit)
	}
	if s.Private != nil && len(s.Public) == 0 {
		// Nothing can be forwarded before there is the other side.
		s.Private = nil
	}
	ids := m.routes()
	if len(ids) > 0 {
		s.Routes = make([]tables.Route, 0, len(ids))
	}
	owners := make(map[netip.Prefix]string, len(ids))
	for _, id := range ids {
		r, _ := m.route(id)
		t, err := m.tunnel(s, id, r)
		if err != nil {
			return nil, err
		}
		for _, n := range t.Nets {
			if owner, taken := owners[n]; taken {
				return nil, m.netTaken(id, r, t.Nets, n, owner)
			}
			owners[n] = id
		}
		s.Routes = append(s.Routes, t)
	}
	if err := s.Validate(); err != nil {
		return nil, &rpcerr.Error{Type: "application", Tag: "operation-failed", Message: err.Error()}
	}
	return s, nil
}

// tunnel returns the forwarding plane's share of a route. S has the rest of the
// gateway.
func (m *model) tunnel(s *tables.Spec, id string, r route) (t tables.Route, err error) {
	path := m.routePath(id)
	t = tables.Route{ID: id, SPI: or(r.spi, 0)}
	if t.Nets, err = m.nets(path, r); err != nil {
		return t, err
	}
	for i, n := range t.Nets {
		if slices.Contains(t.Nets[:i], n) {
			return t, invalid(netPath(path, r, i), "%s belongs to route %q already", n, id)
		}
	}
	if t.Gateways, err = m.gateways(path, r); err != nil {
		return t, err
	}
	if u := r.udp; u != nil && or(u.Enabled, false) {
		if cmp.Or(s.UDPPort, tables.DefaultUDPPort) == s.ProtocolPort {
			return t, &rpcerr.Error{
				Type: "application", Tag: "operation-failed", Path: "/" + ext + "esp/udp-port",
				Message: fmt.Sprintf("port %d is protocol-port already: ESP in UDP, which route %q asks for, needs another", s.ProtocolPort, id),
			}
		}
		t.UDP = &tables.UDP{Port: or(u.Port, tables.DefaultUDPPort), Keepalive: or(u.Keepalive, defaultKeepalive), Moves: or(u.PeerMoves, false)}
	}
	return t, nil
}

// netTaken is the error of a net that belongs to another route. Nets are those
// of r.
func (m *model) netTaken(id string, r route, nets []netip.Prefix, n netip.Prefix, owner string) error {
	return invalid(netPath(m.routePath(id), r, max(slices.Index(nets, n), 0)), "%s belongs to route %q already", n, owner)
}

// keyed returns the key exchange's share of a route.
func (m *model) keyed(t *tables.Route, psk *string) (keeper.Route, error) {
	k := keeper.Route{ID: t.ID, SPI: t.SPI, Gateways: t.Gateways}
	return k, secret(m.routePath(t.ID)+"/preshared-key", psk, k.PSK[:])
}

// outer fills in what the extension module's container esp says.
func outer(s *tables.Spec, e *gen.VitaEspGatewayExt_Esp) {
	s.ReplayWindow = tables.DefaultReplayWindow
	if e == nil {
		return
	}
	s.ReplayWindow = or(e.ReplayWindow, tables.DefaultReplayWindow)
	s.UDPPort, s.Dummies = or(e.UdpPort, 0), or(e.DummyInterval, 0)
	s.Resync, s.ECN, s.Fragment = or(e.Resynchronise, false), or(e.Ecn, false), or(e.Fragment, false)
	if s.CopyDSCP = or(e.Dscp, "0") == "copy"; !s.CopyDSCP {
		n, _ := strconv.ParseUint(or(e.Dscp, "0"), 10, 6) // the model's pattern lets 0 to 63 through
		s.DSCP = uint8(n)
	}
	switch or(e.Df, "set") {
	case "clear":
		s.DF = tables.DFClear
	case "copy":
		s.DF = tables.DFCopy
	}
}

func (m *model) iface(path string, pci, ifname, mac, nexthopMAC, ip, nexthop *string) (i tables.Interface, err error) {
	i.Link = tables.Link{PCI: or(pci, ""), Ifname: or(ifname, "")}
	if i.MAC, err = hardware(path+"/mac", mac); err != nil {
		return i, err
	}
	if i.NextHopMAC, err = hardware(path+"/nexthop-mac", nexthopMAC); err != nil {
		return i, err
	}
	if i.IP, err = m.addr(path+"/ip", ip); err != nil {
		return i, err
	}
	i.NextHop, err = m.addr(path+"/nexthop-ip", nexthop)
	return i, err
}

// otherFamily fills in what the private interface has of the other family.
func (m *model) otherFamily(path string, p *private, i *tables.Interface) (err error) {
	if p.otherIP == nil && p.otherNextHop == nil { // otherwise the model demands both
		return nil
	}
	if i.OtherNextHopMAC, err = hardware(path+"nexthop-mac"+m.other, p.otherNextHopMAC); err != nil {
		return err
	}
	o := model{digit: m.other}
	if i.OtherIP, err = o.addr(path+"ip"+m.other, p.otherIP); err != nil {
		return err
	}
	i.OtherNextHop, err = o.addr(path+"nexthop-ip"+m.other, p.otherNextHop)
	return err
}

// nets returns a route's net and further ones.
func (m *model) nets(path string, r route) ([]netip.Prefix, error) {
	first, err := m.prefix(path+"/net", r.net)
	if err != nil {
		return nil, err
	}
	nets := append(make([]netip.Prefix, 0, 1+len(r.further)), first)
	for i, text := range r.further {
		p, err := netip.ParsePrefix(text)
		o := model{digit: m.other}
		switch {
		case err != nil || !m.has(p.Addr()) && !o.has(p.Addr()):
			return nil, invalid(netPath(path, r, i+1), "%q is no network of IPv4 or IPv6", text)
		case !m.has(p.Addr()) && (m.private == nil || m.private.otherIP == nil):
			return nil, invalid(netPath(path, r, i+1), "a net of IPv%s needs private-interface%s to have ip%s and nexthop-ip%s",
				m.other, m.digit, m.other, m.other)
		}
		nets = append(nets, p.Masked())
	}
	return nets, nil
}

// netPath returns the path of the i-th of a route's nets.
func netPath(path string, r route, i int) string {
	if i == 0 {
		return path + "/net"
	}
	return fmt.Sprintf("%s/%sfurther-net[net='%s']/net", path, ext, r.further[i-1])
}

func (m *model) gateways(path string, r route) ([]tables.Gateway, error) {
	var gws []tables.Gateway
	for _, g := range r.gateways {
		ip, err := m.addr(fmt.Sprintf("%s/gateway[ip='%s']/ip", path, g.key), g.ip)
		if err != nil {
			return nil, err
		}
		gws = append(gws, tables.Gateway{Queue: or(g.queue, defaultQueue), IP: ip})
	}
	return gws, nil
}

// Keying returns the key exchange's share of a configuration that Spec has
// accepted.
func Keying(root *gen.Vita, s *tables.Spec) (keeper.Config, error) {
	c := keeper.Config{
		Local:          map[uint16]netip.Addr{},
		NegotiationTTL: time.Duration(or(root.NegotiationTtl, defaultNegotiationTTL)) * time.Second,
		SATTL:          time.Duration(or(root.SaTtl, defaultSATTL)) * time.Second,
		Port:           s.ProtocolPort,
		DataPlane:      or(root.DataPlane, false),
	}
	for _, p := range s.Public {
		c.Local[p.Queue] = p.IP
		if p.NATIP.IsValid() {
			c.Local[p.Queue] = p.NATIP
		}
	}
	m := family(root)
	for i := range s.Routes {
		r, _ := m.route(s.Routes[i].ID)
		k, err := m.keyed(&s.Routes[i], r.psk)
		if err != nil {
			return c, err
		}
		c.Routes = append(c.Routes, k)
	}
	for _, key := range sortedFunc(root.OutboundSa, func(a, b gen.VitaEspGateway_OutboundSa_Key) int {
		return compareSA(a.Spi, a.Queue, b.Spi, b.Queue)
	}) {
		sa := root.OutboundSa[key]
		k, err := staticSA(fmt.Sprintf("outbound-sa[spi='%d'][queue='%d']", key.Spi, key.Queue), key.Spi, key.Queue, sa.Route, sa.Key, sa.KeyRest, sa.Salt)
		if err != nil {
			return c, err
		}
		c.Outbound = append(c.Outbound, k)
	}
	for _, key := range sortedFunc(root.InboundSa, func(a, b gen.VitaEspGateway_InboundSa_Key) int {
		return compareSA(a.Spi, a.Queue, b.Spi, b.Queue)
	}) {
		sa := root.InboundSa[key]
		k, err := staticSA(fmt.Sprintf("inbound-sa[spi='%d'][queue='%d']", key.Spi, key.Queue), key.Spi, key.Queue, sa.Route, sa.Key, sa.KeyRest, sa.Salt)
		if err != nil {
			return c, err
		}
		c.Inbound = append(c.Inbound, k)
	}
	return c, nil
}

func compareSA(aSPI uint32, aQueue uint16, bSPI uint32, bQueue uint16) int {
	if aSPI != bSPI {
		return int(int64(aSPI) - int64(bSPI))
	}
	return int(aQueue) - int(bQueue)
}

func staticSA(path string, spi uint32, queue uint16, route, key, rest, salt *string) (sa keeper.StaticSA, err error) {
	sa.Route, sa.SPI, sa.Queue = or(route, ""), spi, queue
	if err = secret(path+"/key", key, sa.Key[:]); err != nil {
		return sa, err
	}
	if rest != nil {
		if err = secret(path+"/"+ext+"key-rest", rest, sa.Rest[:]); err != nil {
			return sa, err
		}
		if sa.Rest == [16]byte{} { // which stands for none
			return sa, invalid(path+"/"+ext+"key-rest", "is zero: leave it out for AES-128, or take half of a fresh key of 32 bytes")
		}
	}
	return sa, secret(path+"/salt", salt, sa.Salt[:])
}

// secret reads hexadecimal with optional white space into dst. Its errors
// never carry the value.
func secret(path string, v *string, dst []byte) error {
	text := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n\f\v", r) {
			return -1
		}
		return r
	}, or(v, ""))
	if len(text) != 2*len(dst) {
		return invalid(path, "want %d bytes in hexadecimal", len(dst))
	}
	if _, err := hex.Decode(dst, []byte(text)); err != nil {
		return invalid(path, "is not hexadecimal")
	}
	return nil
}

func hardware(path string, v *string) (mac [6]byte, err error) {
	if v == nil {
		return mac, nil
	}
	m, err := net.ParseMAC(*v)
	if err != nil || len(m) != 6 {
		return mac, invalid(path, "%q is not a MAC address of 6 bytes", *v)
	}
	if m[0]&1 != 0 {
		return mac, invalid(path, "%s is a group address: an interface needs an individual one", *v)
	}
	return [6]byte(m), nil
}

func (m *model) addr(path string, v *string) (netip.Addr, error) {
	a, err := netip.ParseAddr(or(v, ""))
	if err != nil || !m.has(a) {
		return a, invalid(path, "%q is not an IPv%s address", or(v, ""), m.digit)
	}
	if a.IsMulticast() || a.IsUnspecified() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return a, invalid(path, "%s is no address of one host", a)
	}
	return a, nil
}

// has reports whether an address is of the family. An IPv4 address mapped into
// IPv6 is of neither: no packet carries it.
func (m *model) has(a netip.Addr) bool {
	return a.Is4() == (m.digit == "4") && !a.Is4In6() && a.Zone() == ""
}

func (m *model) prefix(path string, v *string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(or(v, ""))
	if err != nil || !m.has(p.Addr()) {
		return p, invalid(path, "%q is not an IPv%s prefix", or(v, ""), m.digit)
	}
	return p.Masked(), nil
}

func or[T any](v *T, def T) T {
	if v == nil {
		return def
	}
	return *v
}

func sorted[V any](m map[string]V) []string {
	return sortedFunc(m, strings.Compare)
}

func sortedFunc[K comparable, V any](m map[K]V, cmp func(a, b K) int) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, cmp)
	return keys
}
