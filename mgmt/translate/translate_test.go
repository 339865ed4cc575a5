package translate

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"vita/forwarding/client"
	"vita/forwarding/tables"
	"vita/gen"
	"vita/keying/keeper"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/internal/yangenc"
)

// tree returns the configuration that an XML fragment describes.
func tree(t testing.TB, fragment string) *gen.Vita {
	t.Helper()
	doc := `<config xmlns="vita:esp-gateway">` + fragment + `</config>`
	x, err := xmltree.Parse([]byte(doc), xmltree.Limits{Bytes: 1 << 20, Depth: 64})
	if err != nil {
		t.Fatal(err)
	}
	e, err := yangenc.DecodeXML(x)
	if err != nil {
		t.Fatal(err)
	}
	root := &gen.Vita{}
	if _, err := edit.Apply(root, e, edit.Merge); err != nil {
		t.Fatal(err)
	}
	return root
}

const (
	key   = "00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1F"
	sides = `<private-interface4><ifname>eth0</ifname><ip>10.0.0.1</ip><nexthop-ip>10.0.0.2</nexthop-ip><mac>02:00:00:00:00:01</mac></private-interface4>
 <public-interface4><ip>203.0.113.9</ip><pci>0c:00.1</pci><nexthop-ip>203.0.113.1</nexthop-ip><prefix-length xmlns="vita:esp-gateway-ext">24</prefix-length><queue>2</queue><device-queue>3</device-queue><nat-ip>198.51.100.9</nat-ip></public-interface4>
 <public-interface4><ip>203.0.113.5</ip><ifname>eth1</ifname><nexthop-ip>203.0.113.1</nexthop-ip></public-interface4>`
	site = `<route4><id>site1</id><net>10.1.2.3/16</net><spi>1001</spi><preshared-key>` + key + `</preshared-key>
 <gateway><ip>192.0.2.2</ip><queue>2</queue></gateway><gateway><ip>192.0.2.1</ip></gateway></route4>`
)

func TestSpec(t *testing.T) {
	got, err := Spec(tree(t, sides+site+`<mtu>1440</mtu><tfc>true</tfc><protocol-port>304</protocol-port>`))
	if err != nil {
		t.Fatal(err)
	}
	ip := netip.MustParseAddr
	want := &tables.Spec{
		MTU: 1440, TFC: true, ProtocolPort: 304, ReplayWindow: tables.DefaultReplayWindow,
		Private: &tables.Interface{Link: tables.Link{Ifname: "eth0"}, MAC: [6]byte{2, 0, 0, 0, 0, 1}, IP: ip("10.0.0.1"), NextHop: ip("10.0.0.2")},
		Public: []tables.PublicInterface{
			{Interface: tables.Interface{Link: tables.Link{Ifname: "eth1"}, IP: ip("203.0.113.5"), NextHop: ip("203.0.113.1")}, Queue: 1},
			{
				Interface: tables.Interface{Link: tables.Link{PCI: "0c:00.1"}, IP: ip("203.0.113.9"), NextHop: ip("203.0.113.1")},
				Queue:     2, DeviceQueue: 3, NATIP: ip("198.51.100.9"), PrefixLen: 24,
			},
		},
		Routes: []tables.Route{{
			ID: "site1", SPI: 1001, Nets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
			Gateways: []tables.Gateway{{Queue: 1, IP: ip("192.0.2.1")}, {Queue: 2, IP: ip("192.0.2.2")}},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// TestUDPEncapsulation: a route of either family can have it.
func TestUDPEncapsulation(t *testing.T) {
	const (
		on  = `<udp-encapsulation xmlns="vita:esp-gateway-ext"><enabled>true</enabled>%s</udp-encapsulation>`
		esp = `<esp xmlns="vita:esp-gateway-ext"><udp-port>%s</udp-port></esp>`
	)
	for _, family := range [][2]string{{sides, site}, {sides6, site6}} {
		for _, c := range []struct {
			udp, more string
			want      *tables.UDP
			port      uint16
		}{
			{"", "", nil, 0},
			{`<udp-encapsulation xmlns="vita:esp-gateway-ext"><port>9</port></udp-encapsulation>`, "", nil, 0},
			{fmt.Sprintf(on, ""), "", &tables.UDP{Port: 4500, Keepalive: 20}, 0},
			{fmt.Sprintf(on, "<port>4501</port><keepalive>0</keepalive><peer-moves>true</peer-moves>"), fmt.Sprintf(esp, "4499"), &tables.UDP{Port: 4501, Moves: true}, 4499},
		} {
			doc := regexp.MustCompile(`</route[46]>`).ReplaceAllStringFunc(family[1], func(end string) string { return c.udp + end })
			s, err := Spec(tree(t, family[0]+doc+c.more))
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Routes[0].UDP; !reflect.DeepEqual(got, c.want) || s.UDPPort != c.port {
				t.Errorf("%s: %+v, own port %d", c.udp, got, s.UDPPort)
			}
		}
	}
	_, err := Spec(tree(t, sides+strings.Replace(site, "</route4>", fmt.Sprintf(on, "")+"</route4>", 1)+`<protocol-port>4500</protocol-port>`))
	if e, ok := errors.AsType[*rpcerr.Error](err); !ok || e.Path != "/vita-esp-gateway-ext:esp/udp-port" || !strings.Contains(e.Message, "site1") {
		t.Errorf("one port for two purposes: %v", err)
	}
}

// TestVLANs: each interface has its own, of either family.
func TestVLANs(t *testing.T) {
	const vlan = `<vlan xmlns="vita:esp-gateway-ext">%d</vlan>`
	for _, sides := range []string{sides, sides6} {
		n := 0
		doc := regexp.MustCompile(`</(private|public)-interface[46]>`).ReplaceAllStringFunc(sides, func(end string) string {
			n++
			return fmt.Sprintf(vlan, 100+n) + end
		})
		s, err := Spec(tree(t, doc))
		if err != nil {
			t.Fatal(err)
		}
		if s.Private.VLAN != 101 || s.Public[0].VLAN != 103 || s.Public[1].VLAN != 102 {
			t.Errorf("VLANs %d, %d and %d", s.Private.VLAN, s.Public[0].VLAN, s.Public[1].VLAN)
		}
	}
}

const (
	sides6 = `<private-interface6><ifname>eth0</ifname><ip>2001:db8:1::1</ip><nexthop-ip>2001:db8:1::2</nexthop-ip></private-interface6>
 <public-interface6><ip>2001:db8:f::9</ip><pci>0c:00.1</pci><nexthop-ip>fe80::1</nexthop-ip><prefix-length xmlns="vita:esp-gateway-ext">64</prefix-length><queue>2</queue><nat-ip>2001:db8:e::9</nat-ip></public-interface6>
 <public-interface6><ip>2001:db8:f::5</ip><ifname>eth1</ifname><nexthop-ip>fe80::1</nexthop-ip></public-interface6>`
	site6 = `<route6><id>site1</id><net>2001:db8:2::7/48</net><spi>1001</spi><preshared-key>` + key + `</preshared-key>
 <gateway><ip>2001:db8:d::2</ip><queue>2</queue></gateway><gateway><ip>2001:db8:d::1</ip></gateway></route6>`
)

func TestIPv6(t *testing.T) {
	root := tree(t, sides6+site6)
	got, err := Spec(root)
	if err != nil {
		t.Fatal(err)
	}
	ip := netip.MustParseAddr
	want := &tables.Spec{
		MTU: tables.DefaultMTU, ProtocolPort: tables.DefaultProtocolPort, ReplayWindow: tables.DefaultReplayWindow,
		Private: &tables.Interface{Link: tables.Link{Ifname: "eth0"}, IP: ip("2001:db8:1::1"), NextHop: ip("2001:db8:1::2")},
		Public: []tables.PublicInterface{
			{Interface: tables.Interface{Link: tables.Link{Ifname: "eth1"}, IP: ip("2001:db8:f::5"), NextHop: ip("fe80::1")}, Queue: 1},
			{
				Interface: tables.Interface{Link: tables.Link{PCI: "0c:00.1"}, IP: ip("2001:db8:f::9"), NextHop: ip("fe80::1")},
				Queue:     2, NATIP: ip("2001:db8:e::9"), PrefixLen: 64,
			},
		},
		Routes: []tables.Route{{
			ID: "site1", SPI: 1001, Nets: []netip.Prefix{netip.MustParsePrefix("2001:db8:2::/48")},
			Gateways: []tables.Gateway{{Queue: 1, IP: ip("2001:db8:d::1")}, {Queue: 2, IP: ip("2001:db8:d::2")}},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
	k, err := Keying(root, got)
	if err != nil {
		t.Fatal(err)
	}
	local := map[uint16]netip.Addr{1: ip("2001:db8:f::5"), 2: ip("2001:db8:e::9")}
	if !reflect.DeepEqual(k.Local, local) || len(k.Routes) != 1 || k.Routes[0].PSK[31] != 0x1f {
		t.Fatalf("%+v", k)
	}
	var e *rpcerr.Error
	err = engineError(got, &client.PortError{Link: tables.Link{Ifname: "eth1"}, Err: client.ErrBusy})
	if !errors.As(err, &e) || e.Path != "/vita-esp-gateway:public-interface6[ip='2001:db8:f::5']/ifname" {
		t.Errorf("%+v", err)
	}
}

// What a private interface and a route get for the other family.
const (
	extNS  = ` xmlns="vita:esp-gateway-ext">`
	inside = `<ip6` + extNS + `2001:db8:1::1</ip6><nexthop-ip6` + extNS + `fe80::2</nexthop-ip6><nexthop-mac6` + extNS + `02:00:00:00:00:06</nexthop-mac6>`
	nets   = `<further-net` + extNS + `<net>2001:DB8:2::7/48</net></further-net><further-net` + extNS + `<net>172.16.5.5/12</net></further-net><further-net` + extNS + `<net>::/0</net></further-net>`

	inside6 = `<ip4` + extNS + `10.0.0.1</ip4><nexthop-ip4` + extNS + `10.0.0.2</nexthop-ip4>`
	nets6   = `<further-net` + extNS + `<net>0.0.0.0/0</net></further-net>`
)

// in puts a fragment at the end of an element, of which there is one.
func in(doc, element, fragment string) string {
	return strings.Replace(doc, "</"+element+">", fragment+"</"+element+">", 1)
}

var (
	bothSides  = in(sides, "private-interface4", inside)
	bothSides6 = in(sides6, "private-interface6", inside6)
)

func TestBothFamilies(t *testing.T) {
	ip := netip.MustParseAddr
	for xml, want := range map[string]struct {
		private tables.Interface
		nets    string
	}{
		bothSides + in(site, "route4", nets): {
			tables.Interface{
				Link: tables.Link{Ifname: "eth0"}, MAC: [6]byte{2, 0, 0, 0, 0, 1}, IP: ip("10.0.0.1"), NextHop: ip("10.0.0.2"),
				OtherIP: ip("2001:db8:1::1"), OtherNextHop: ip("fe80::2"), OtherNextHopMAC: [6]byte{2, 0, 0, 0, 0, 6},
			},
			"[10.1.0.0/16 172.16.0.0/12 2001:db8:2::/48 ::/0]",
		},
		bothSides6 + in(site6, "route6", nets6): {
			tables.Interface{
				Link: tables.Link{Ifname: "eth0"}, IP: ip("2001:db8:1::1"), NextHop: ip("2001:db8:1::2"),
				OtherIP: ip("10.0.0.1"), OtherNextHop: ip("10.0.0.2"),
			},
			"[2001:db8:2::/48 0.0.0.0/0]",
		},
	} {
		got, err := Spec(tree(t, xml))
		if err != nil {
			t.Fatal(err)
		}
		if *got.Private != want.private || fmt.Sprint(got.Routes[0].Nets) != want.nets {
			t.Errorf("%+v %v\nwant %+v", *got.Private, got.Routes[0].Nets, want)
		}
	}
}

func TestKeying(t *testing.T) {
	root := tree(t, sides+site+`<negotiation-ttl>2</negotiation-ttl><sa-ttl>60</sa-ttl><data-plane>true</data-plane>
 <outbound-sa><spi>300</spi><route>site1</route><aead>aes-gcm-16-icv</aead><key>000102030405060708090a0b0c0d0e0f</key><salt>a0a1a2a3</salt></outbound-sa>`)
	s, err := Spec(root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Keying(root, s)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Routes) != 1 || got.Routes[0].PSK[31] != 0x1f || got.Routes[0].SPI != 1001 {
		t.Fatalf("routes %+v", got.Routes)
	}
	if got.NegotiationTTL != 2*time.Second || got.SATTL != time.Minute || !got.DataPlane {
		t.Fatalf("%+v", got)
	}
	want := map[uint16]netip.Addr{1: netip.MustParseAddr("203.0.113.5"), 2: netip.MustParseAddr("198.51.100.9")}
	if !reflect.DeepEqual(got.Local, want) {
		t.Fatalf("local addresses %v, want %v: nat-ip is how the peers see us", got.Local, want)
	}
	sa := keeper.StaticSA{
		Route: "site1", SPI: 300, Queue: 1,
		Key: [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, Salt: [4]byte{0xa0, 0xa1, 0xa2, 0xa3},
	}
	if len(got.Outbound) != 1 || got.Outbound[0] != sa {
		t.Fatalf("outbound %+v", got.Outbound)
	}
}

// TestAES256: the second half of a key makes it one for AES-256, either way; a
// half that says nothing is refused, without being named.
func TestAES256(t *testing.T) {
	static := func(list, rest string) string {
		return `<data-plane>true</data-plane><` + list + `><spi>300</spi><route>site1</route><aead>aes-gcm-16-icv</aead><key>000102030405060708090a0b0c0d0e0f</key>` +
			`<salt>a0a1a2a3</salt><key-rest xmlns="vita:esp-gateway-ext">` + rest + `</key-rest></` + list + `>`
	}
	keys := func(list, rest string) (keeper.Config, error) {
		t.Helper()
		root := tree(t, sides+site+static(list, rest))
		s, err := Spec(root)
		if err != nil {
			t.Fatal(err)
		}
		return Keying(root, s)
	}
	const rest = "10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1F"
	out, err := keys("outbound-sa", rest)
	in, err2 := keys("inbound-sa", rest)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	for _, sa := range append(out.Outbound, in.Inbound...) {
		if sa.Key[15] != 15 || sa.Rest[0] != 16 || sa.Rest[15] != 31 {
			t.Errorf("%+v", sa)
		}
	}
	_, err = keys("outbound-sa", strings.Repeat("00", 16))
	if e, ok := errors.AsType[*rpcerr.Error](err); !ok || e.Path != "/vita-esp-gateway:outbound-sa[spi='300'][queue='1']/vita-esp-gateway-ext:key-rest" || strings.Contains(err.Error(), "0000") {
		t.Errorf("a half of zeros: %v", err)
	}
}

func TestESP(t *testing.T) {
	for _, c := range []struct {
		xml  string
		want tables.Spec
	}{
		{``, tables.Spec{ReplayWindow: 128}},
		{`<replay-window>4096</replay-window><resynchronise>true</resynchronise>`, tables.Spec{ReplayWindow: 4096, Resync: true}},
		{`<ecn>true</ecn><dscp>46</dscp><df>copy</df>`, tables.Spec{ReplayWindow: 128, ECN: true, DSCP: 46, DF: tables.DFCopy}},
		{`<dummy-interval>5</dummy-interval><udp-port>4501</udp-port>`, tables.Spec{ReplayWindow: 128, Dummies: 5, UDPPort: 4501}},
		{`<dscp>copy</dscp><df>clear</df>`, tables.Spec{ReplayWindow: 128, CopyDSCP: true, DF: tables.DFClear}},
		{`<dscp>63</dscp><df>set</df><fragment>true</fragment>`, tables.Spec{ReplayWindow: 128, DSCP: 63, Fragment: true}},
	} {
		c.want.MTU, c.want.ProtocolPort = tables.DefaultMTU, tables.DefaultProtocolPort
		got, err := Spec(tree(t, `<esp xmlns="vita:esp-gateway-ext">`+c.xml+`</esp>`))
		if err != nil || !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%s: %+v %v, want %+v", c.xml, got, err, c.want)
		}
	}
}

func TestNothingConfigured(t *testing.T) {
	s, err := Spec(&gen.Vita{})
	if err != nil || s.Private != nil || len(s.Public) != 0 || len(s.Routes) != 0 {
		t.Fatalf("%+v %v", s, err)
	}
	if s.MTU != tables.DefaultMTU || s.ProtocolPort != tables.DefaultProtocolPort {
		t.Fatalf("%+v", s)
	}
}

// TestRefusals has values that the model takes and the gateway cannot: each
// error names the path, and none names a secret.
func TestRefusals(t *testing.T) {
	for _, c := range []struct{ path, fragment string }{
		{"/vita-esp-gateway:private-interface4/mac", strings.Replace(sides, "02:00:00:00:00:01", "01:00:5e:00:00:01", 1)},
		{"/vita-esp-gateway:private-interface4/ip", strings.Replace(sides, "10.0.0.1", "224.0.0.1", 1)},
		{"/vita-esp-gateway:private-interface4/nexthop-ip", strings.Replace(sides, "10.0.0.2", "255.255.255.255", 1)},
		{"/vita-esp-gateway:public-interface4[ip='203.0.113.9']/nat-ip", strings.Replace(sides, "198.51.100.9", "0.0.0.0", 1)},
		{"/vita-esp-gateway:route4[id='site1']/gateway[ip='239.1.1.1']/ip", sides + strings.Replace(site, "192.0.2.1", "239.1.1.1", 1)},
		{"/vita-esp-gateway:private-interface4/vita-esp-gateway-ext:ip6", in(sides, "private-interface4", strings.Replace(inside, "2001:db8:1::1", "ff02::1", 1))},
		{"/vita-esp-gateway:private-interface4/vita-esp-gateway-ext:nexthop-ip6", in(sides, "private-interface4", strings.Replace(inside, "fe80::2", "::ffff:10.0.0.1", 1))},
		{"/vita-esp-gateway:private-interface4/vita-esp-gateway-ext:nexthop-mac6", in(sides, "private-interface4", strings.Replace(inside, "02:00:00:00:00:06", "03:00:00:00:00:06", 1))},
		{"/vita-esp-gateway:private-interface6/vita-esp-gateway-ext:ip4", in(sides6, "private-interface6", strings.Replace(inside6, "10.0.0.1", "255.255.255.255", 1))},
		// Nets of the other family without an address of it; a net that a route
		// has already, by another spelling too; one that is of no family.
		{"/vita-esp-gateway:route4[id='site1']/vita-esp-gateway-ext:further-net[net='2001:db8:2::/48']/net", sides + in(site, "route4", nets)},
		{"/vita-esp-gateway:route6[id='site1']/vita-esp-gateway-ext:further-net[net='0.0.0.0/0']/net", sides6 + in(site6, "route6", nets6)},
		{"/vita-esp-gateway:route4[id='site1']/vita-esp-gateway-ext:further-net[net='10.1.0.0/16']/net", bothSides + in(site, "route4", strings.Replace(nets, "172.16.5.5/12", "10.1.9.9/16", 1))},
		{"/vita-esp-gateway:route4[id='site2']/net", bothSides + in(site, "route4", nets) + strings.NewReplacer("site1", "site2", "10.1.2.3/16", "172.16.0.0/12").Replace(site)},
		{"/vita-esp-gateway:route4[id='site1']/vita-esp-gateway-ext:further-net[net='::ffff:0.0.0.0/96']/net", bothSides + in(site, "route4", strings.Replace(nets, "::/0", "::ffff:0.0.0.0/96", 1))},
		{"/vita-esp-gateway:private-interface6/nexthop-ip", strings.Replace(sides6, "2001:db8:1::2", "ff02::1", 1)},
		{"/vita-esp-gateway:public-interface6[ip='2001:db8:f::9']/nat-ip", strings.Replace(sides6, "2001:db8:e::9", "::", 1)},
		{"/vita-esp-gateway:route6[id='site1']/net", sides6 + strings.Replace(site6, "2001:db8:2::7/48", "::ffff:10.0.0.0/104", 1)},
	} {
		_, err := Spec(tree(t, c.fragment))
		var e *rpcerr.Error
		if !errors.As(err, &e) || e.Path != c.path || e.Message == "" {
			t.Errorf("%s: %+v", c.path, err)
		}
	}
}

func TestSecretsAreNotInErrors(t *testing.T) {
	bad := "0011zz"
	err := secret("route4[id='a']/preshared-key", &bad, make([]byte, 3))
	if err == nil || strings.Contains(err.Error(), bad) {
		t.Fatalf("%v", err)
	}
}

func TestEngineErrorsGetAPath(t *testing.T) {
	s, err := Spec(tree(t, sides+site))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		link      tables.Link
		cause     error
		path, tag string
	}{
		{tables.Link{Ifname: "eth0"}, client.ErrNoInterface, "/vita-esp-gateway:private-interface4/ifname", "operation-failed"},
		{tables.Link{PCI: "0c:00.1"}, client.ErrBusy, "/vita-esp-gateway:public-interface4[ip='203.0.113.9']/pci", "resource-denied"},
	} {
		var e *rpcerr.Error
		if err := engineError(s, &client.PortError{Link: c.link, Err: c.cause}); !errors.As(err, &e) || e.Path != c.path || e.Tag != c.tag {
			t.Errorf("%v: %+v", c.link, e)
		}
	}
}
