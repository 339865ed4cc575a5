package netconf

import (
	"bytes"
	"context"
	"encoding/xml"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vita/gen"
	"vita/internal/appliance"
	"vita/mgmt/datastore"
	"vita/mgmt/host"
	"vita/mgmt/notify"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "record the replies of the conversations anew")

// nothing is a forwarding plane that takes every configuration, except one
// with an interface named "missing0".
type nothing struct{}

func (nothing) Prepare(_ context.Context, root *gen.Vita, _ datastore.Journal) (datastore.Prepared, error) {
	if p := root.PrivateInterface4; p != nil && p.Ifname != nil && *p.Ifname == "missing0" {
		return nil, fmt.Errorf("interface missing0: no such interface")
	}
	return nothing{}, nil
}
func (nothing) Publish() {}
func (nothing) Abort()   {}

func newServer(t testing.TB) *Server { return newServerWith(t, false, false) }

// newServerWith can have a startup datastore, and can be that of an appliance.
func newServerWith(t testing.TB, startup, isAppliance bool) *Server {
	t.Helper()
	events := notify.New(0)
	var init appliance.Client
	if isAppliance {
		init.Socket = "nobody listens"
	}
	d, err := datastore.Open(datastore.Options{Startup: startup, Dir: t.TempDir(), Applier: nothing{}, Events: notify.Configuration{Hub: events}, Followers: host.New(init, slog.New(slog.DiscardHandler)).Followers(), State: func(root *gen.Vita, _ datastore.Wants) {
		n := uint64(7)
		root.GatewayState = &gen.VitaEspGateway_GatewayState{
			PrivateRouter: &gen.VitaEspGateway_GatewayState_PrivateRouter{RouteErrors: &n},
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return New(Options{Datastore: d, Events: events, HostKey: testHostKey(t)})
}

// peer is the client's end of a session.
type peer struct {
	t    testing.TB
	f    *framer
	c    net.Conn
	next int
}

const hello10 = `<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities><capability>urn:ietf:params:netconf:base:1.0</capability></capabilities></hello>`

const hello11 = `<hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities><capability>urn:ietf:params:netconf:base:1.0</capability><capability>urn:ietf:params:netconf:base:1.1</capability></capabilities></hello>`

func (s *Server) dial(t testing.TB, hello string) *peer {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		s.serveSession(context.Background(), theirs, "tester", "192.0.2.1:1")
	}()
	t.Cleanup(func() { ours.Close(); <-done })
	p := &peer{t: t, f: newFramer(ours, 1<<20), c: ours}
	if _, err := p.f.read(); err != nil {
		t.Fatal(err)
	}
	if err := p.f.write([]byte(hello)); err != nil {
		t.Fatal(err)
	}
	p.f.chunked = hello == hello11
	return p
}

// raw sends a whole message and returns the whole answer.
func (p *peer) raw(msg string) string {
	p.t.Helper()
	if err := p.f.write([]byte(msg)); err != nil {
		return "session closed"
	}
	answer, err := p.f.read()
	if err != nil {
		return "session closed"
	}
	return string(answer)
}

// rpc sends one operation and returns what is inside the rpc-reply.
func (p *peer) rpc(op string) string {
	p.t.Helper()
	p.next++
	answer := p.raw(fmt.Sprintf(`<rpc message-id="%d" xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">%s</rpc>`, p.next, op))
	head := fmt.Sprintf(`<rpc-reply xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" message-id="%d">`, p.next)
	inside, ok := strings.CutPrefix(answer, head)
	inside, ok2 := strings.CutSuffix(inside, "</rpc-reply>")
	if !ok || !ok2 {
		return answer
	}
	return inside
}

var betweenTags = regexp.MustCompile(`>\s+<`)

// indent lays XML out a line an element, so that differences can be read.
func indent(s string) string {
	s = betweenTags.ReplaceAllString(strings.TrimSpace(s), "><")
	dec := xml.NewDecoder(strings.NewReader(s))
	var b strings.Builder
	depth, text := 0, false
	for {
		start := dec.InputOffset()
		tok, err := dec.RawToken()
		if err != nil {
			break
		}
		raw := s[start:dec.InputOffset()]
		switch tok.(type) {
		case xml.StartElement:
			if b.Len() > 0 {
				b.WriteString("\n" + strings.Repeat("  ", depth))
			}
			b.WriteString(raw)
			depth++
			text = true
		case xml.EndElement:
			depth--
			if raw == "" { // the second half of a self-closed element
				text = false
				continue
			}
			if !text {
				b.WriteString("\n" + strings.Repeat("  ", depth))
			}
			b.WriteString(raw)
			text = false
		default:
			b.WriteString(raw)
		}
	}
	return b.String() + "\n"
}

// TestConversations plays testdata/*.txtar: a file "a" or "b" is an operation
// sent on that session ("a.raw" a whole message), the file "reply" after it is
// what comes back. -update records the replies. Where the comment says "With a
// startup datastore." there is one, where it says "An appliance." it is one.
func TestConversations(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no conversation found: %v", err)
	}
	for _, file := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			script, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := newServerWith(t, bytes.Contains(script.Comment, []byte("With a startup datastore.")), bytes.Contains(script.Comment, []byte("An appliance.")))
			peers := map[string]*peer{}
			out := &txtar.Archive{Comment: script.Comment}
			for i := 0; i < len(script.Files); i++ {
				f := script.Files[i]
				name, raw := strings.CutSuffix(f.Name, ".raw")
				p := peers[name]
				if p == nil {
					p = s.dial(t, hello11)
					peers[name] = p
				}
				var got string
				if raw {
					got = p.raw(strings.TrimSpace(string(f.Data)))
				} else {
					got = p.rpc(strings.TrimSpace(string(f.Data)))
				}
				got = indent(got)
				out.Files = append(out.Files, f, txtar.File{Name: "reply", Data: []byte(got)})
				want := ""
				if i+1 < len(script.Files) && script.Files[i+1].Name == "reply" {
					i++
					want = string(script.Files[i].Data)
				}
				if got != want && !*update {
					t.Errorf("%s:\n%s\nreply:\n%s\nwant:\n%s", f.Name, f.Data, got, want)
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(out), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func FuzzSession(f *testing.F) {
	for _, op := range []string{
		"<get/>", "<commit/>", "<close-session/>", `<get-config><source><running/></source></get-config>`,
		`<edit-config><target><candidate/></target><config><mtu xmlns="vita:esp-gateway">1440</mtu></config></edit-config>`,
	} {
		f.Add([]byte(`<rpc message-id="1" xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">` + op + `</rpc>`))
	}
	s := newServer(f)
	n := &session{server: s, ch: nil, f: newFramer(pipe{&bytes.Buffer{}, &bytes.Buffer{}}, 1<<20), ds: &datastore.Session{ID: 1}}
	n.f.chunked = true
	f.Fuzz(func(t *testing.T, msg []byte) {
		reply, err := n.answer(t.Context(), msg)
		if err != nil {
			t.Fatalf("a chunked session ends without a reply: %v", err)
		}
		d := xml.NewDecoder(bytes.NewReader(reply))
		for {
			if _, err := d.Token(); err != nil {
				if err.Error() != "EOF" {
					t.Fatalf("reply is no XML: %v: %q", err, reply)
				}
				return
			}
		}
	})
}
