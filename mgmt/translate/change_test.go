package translate

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"vita/asm/lpm"
	"vita/drivers/memory"
	"vita/forwarding"
	"vita/forwarding/client"
	"vita/forwarding/forwardingtest"
	"vita/forwarding/tables"
	"vita/gen"
	"vita/internal/arena"
	"vita/keying/keeper"
	"vita/keying/ske"
	"vita/mgmt/datastore"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/internal/yangenc"
)

// gatewayUnderChange is a datastore with an engine behind it.
type gatewayUnderChange struct {
	t       testing.TB
	store   *datastore.Datastore
	engine  *client.Client
	applier *Applier
	keys    *keeper.Keeper
	alice   *datastore.Session
}

func newGateway(t testing.TB) *gatewayUnderChange {
	t.Helper()
	for _, name := range []string{"mem:lan", "mem:wan"} {
		w, err := memory.NewWire(name, name+"-far", memory.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.Close() })
	}
	g := &gatewayUnderChange{t: t, alice: &datastore.Session{ID: 1, User: "alice"}}
	g.engine = forwardingtest.Start(t, forwarding.Options{Registry: forwardingtest.Memory(), Announcements: -1, MaxRoutes: 600, MaxSAs: 256})
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	g.keys = keeper.New(keeper.Options{Engine: g.engine, Protocol: ske.Protocol{}})
	g.applier = NewApplier(g.engine, g.keys, log)
	var err error
	if g.store, err = datastore.Open(datastore.Options{Dir: t.TempDir(), Applier: g.applier}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.applier.Wait()
		if err := g.store.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := g.store.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

// commit edits and commits; where it fails the candidate is discarded.
func (g *gatewayUnderChange) commit(fragment string) error {
	g.t.Helper()
	doc := `<config xmlns="vita:esp-gateway" xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0">` + fragment + `</config>`
	x, err := xmltree.Parse([]byte(doc), xmltree.Limits{Bytes: 1 << 20, Depth: 64})
	if err != nil {
		g.t.Fatal(err)
	}
	e, err := yangenc.DecodeXML(x)
	if err != nil {
		g.t.Fatal(err)
	}
	err = g.store.Edit(g.t.Context(), g.alice, datastore.Candidate, e, datastore.EditOptions{Default: edit.Merge})
	if err == nil {
		err = g.store.Commit(g.t.Context(), g.alice)
	}
	if err != nil {
		if err := g.store.Discard(g.alice); err != nil {
			g.t.Fatal(err)
		}
	}
	return err
}

// same compares the live tables with new ones of the running configuration.
func (g *gatewayUnderChange) same() {
	g.t.Helper()
	var spec *tables.Spec
	if err := g.store.Read(datastore.Running, nil, func(root *gen.Vita) (err error) {
		spec, err = Spec(root)
		return err
	}); err != nil {
		g.t.Fatal(err)
	}
	mem := make([][64]byte, 1<<18)
	if err := tables.Build(flat(mem), spec, nil, 1, 600); err != nil {
		g.t.Fatal(err)
	}
	fresh, err := tables.Open(flat(mem))
	if err != nil {
		g.t.Fatal(err)
	}
	live := g.engine.Live()
	if live.Count() != fresh.Count() || len(g.engine.Routes()) != fresh.Count() || live.MTU != fresh.MTU || live.UDPPort != fresh.UDPPort {
		g.t.Fatalf("%d routes, %d listed, MTU %d, port %d; anew %d, %d, %d", live.Count(), len(g.engine.Routes()), live.MTU, live.UDPPort, fresh.Count(), fresh.MTU, fresh.UDPPort)
	}
	of := func(t *tables.Tables, a netip.Addr) string {
		out, b := []uint32{0}, a.As4()
		t.LPM.Lookup(out, []uint32{uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])})
		if out[0] == lpm.Miss {
			return ""
		}
		return t.RouteID(int(out[0]))
	}
	for i := range spec.Routes {
		r := &spec.Routes[i]
		a, b := live.RouteSlot(r.ID), fresh.RouteSlot(r.ID)
		if a < 0 || live.Routes[a].SPI != r.SPI {
			g.t.Fatalf("route %s in slot %d", r.ID, a)
		}
		x, y := live.Peer(uint32(a), 0), fresh.Peer(uint32(b), 0)
		if x.Hop, y.Hop = 0, 0; x != y {
			g.t.Fatalf("route %s: %+v, anew %+v", r.ID, x, y)
		}
		for _, n := range r.Nets {
			for _, addr := range []netip.Addr{n.Addr(), n.Addr().Next(), n.Addr().Prev()} {
				if addr.IsValid() && of(live, addr) != of(fresh, addr) {
					g.t.Fatalf("%v goes to %q, anew to %q", addr, of(live, addr), of(fresh, addr))
				}
			}
		}
	}
}

func benchKey(n int) string { return fmt.Sprintf("%064x", n) }

const interfaces = `<private-interface4><ifname>mem:lan</ifname><ip>10.0.0.1</ip><nexthop-ip>10.0.0.2</nexthop-ip></private-interface4>
 <public-interface4><ip>192.0.2.1</ip><ifname>mem:wan</ifname><nexthop-ip>192.0.2.2</nexthop-ip></public-interface4>`

// TestCommitsAnswerLikeNewTables commits at random: routes come, change and go,
// some commits are refused, some are about more than routes or about many.
func TestCommitsAnswerLikeNewTables(t *testing.T) {
	g := newGateway(t)
	if err := g.commit(interfaces); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(51, 52))
	route := func(n int) string {
		udp := ""
		if r.IntN(40) == 0 {
			udp = `<udp-encapsulation xmlns="vita:esp-gateway-ext"><enabled>true</enabled></udp-encapsulation>`
		}
		op := ""
		if r.IntN(2) == 0 {
			op = ` nc:operation="replace"`
		}
		return fmt.Sprintf(`<route4%s><id>r%d</id><net>10.%d.%d.0/24</net><spi>%d</spi><preshared-key>%s</preshared-key><gateway><ip>203.0.113.%d</ip></gateway>%s</route4>`,
			op, n, r.IntN(3), r.IntN(100), 1000+n, benchKey(2*n+r.IntN(2)), 1+r.IntN(3), udp)
	}
	refused, inPlace, anew := 0, 0, 0
	for i := range 300 {
		var b strings.Builder
		edits := 1 + r.IntN(3)
		if i%60 == 59 {
			edits = mostChanged + 20 // more than are changed one by one
		}
		for k, used := 0, map[int]bool{}; k < edits; k++ {
			n := r.IntN(25)
			if edits > 3 {
				n = 100 + k
			}
			if used[n] {
				continue
			}
			used[n] = true
			switch {
			case edits > 3 && i%120 == 59:
				fmt.Fprintf(&b, `<route4><id>r%d</id><net>10.77.%d.%d/32</net><spi>%d</spi><preshared-key>%s</preshared-key><gateway><ip>203.0.113.1</ip></gateway></route4>`, n, n/256, n%256, 5000+n, benchKey(5000+n))
			case edits > 3 || r.IntN(3) == 0:
				fmt.Fprintf(&b, `<route4 nc:operation="remove"><id>r%d</id></route4>`, n)
			default:
				b.WriteString(route(n))
			}
		}
		if r.IntN(25) == 0 {
			fmt.Fprintf(&b, "<mtu>%d</mtu>", 1300+i)
		}
		generation := g.engine.Live().Generation
		err := g.commit(b.String())
		switch _, known := errors.AsType[*rpcerr.Error](err); {
		case err != nil && !known && !strings.Contains(err.Error(), "must be different"):
			t.Fatal(err)
		case err != nil:
			refused++
		case g.engine.Live().Generation == generation:
			inPlace++
		default:
			anew++
		}
		g.applier.Wait()
		g.same()
	}
	t.Logf("%d commits in place, %d by new tables, %d refused", inPlace, anew, refused)
	if inPlace < 100 || anew < 5 || refused < 10 {
		t.Errorf("%d commits in place, %d by new tables, %d refused", inPlace, anew, refused)
	}
}

// TestNetOfAnotherRouteIsRefused names the net's path, and tells whose it is.
func TestNetOfAnotherRouteIsRefused(t *testing.T) {
	g := newGateway(t)
	other := func(id string, n int, more string) string {
		return fmt.Sprintf(`<route4><id>%s</id><net>10.%d.0.0/16</net><spi>%d</spi><preshared-key>%s</preshared-key><gateway><ip>203.0.113.1</ip></gateway>%s</route4>`, id, n, 1000+n, benchKey(n), more)
	}
	further := `<further-net xmlns="vita:esp-gateway-ext"><net>10.1.0.0/16</net></further-net>`
	if err := errors.Join(g.commit(interfaces), g.commit(other("one", 1, ""))); err != nil {
		t.Fatal(err)
	}
	err := g.commit(other("two", 2, further))
	e, ok := errors.AsType[*rpcerr.Error](err)
	if !ok || e.Path != "/vita-esp-gateway:route4[id='two']/vita-esp-gateway-ext:further-net[net='10.1.0.0/16']/net" || !strings.Contains(e.Message, `belongs to route "one"`) {
		t.Fatalf("%v", err)
	}
	g.same()
	if err := g.commit(`<route4 nc:operation="remove"><id>one</id></route4>` + other("two", 2, further)); err != nil {
		t.Fatal(err)
	}
	g.applier.Wait()
	g.same()
}

// flat returns the bytes of cache lines.
func flat(lines [][64]byte) []byte {
	return arena.Raw((*[1 << 18][64]byte)(lines))
}
