package golden

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vita/forwarding/client"
	"vita/gen"
	"vita/mgmt/access"
	"vita/mgmt/datastore"
	"vita/mgmt/restconf"
	"vita/mgmt/state"
)

// management is a RESTCONF server whose gateway-state is that of one gateway at
// a time.
type management struct {
	url  string
	http *http.Client

	mu     sync.Mutex
	engine *client.Client
}

const password = "a password of the test"

type noKeys struct{}

func (noKeys) Counters() map[string]uint64 { return nil }

// unchanging is a forwarding plane that is never configured by way of the
// datastore.
type unchanging struct{}

func (unchanging) Prepare(context.Context, *gen.Vita, datastore.Journal) (datastore.Prepared, error) {
	return unchanging{}, nil
}
func (unchanging) Publish() {}
func (unchanging) Abort()   {}

func serveManagement(t *testing.T) *management {
	t.Helper()
	m, dir := new(management), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	store, err := datastore.Open(datastore.Options{Dir: dir, Applier: unchanging{}, State: func(root *gen.Vita, wants datastore.Wants) {
		if m.engine != nil {
			state.Fill(m.engine, noKeys{})(root, wants)
		}
	}})
	must(err)
	must(store.Start(t.Context()))
	users := access.NewUsers()
	hash, err := access.HashPassword(password)
	must(err)
	must(users.Add(access.User{Name: "reader", PasswordHash: hash}))
	cert, err := access.Certificate(dir)
	must(err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- restconf.New(restconf.Options{Datastore: store, Users: users, Certificate: cert}).Serve(ctx, ln)
	}()
	pem, err := os.ReadFile(filepath.Join(dir, "tls.crt"))
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	m.url, m.http = "https://"+ln.Addr().String(), &http.Client{Transport: tr}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// gatewayState reads an engine's gateway-state as any client does.
func (m *management) gatewayState(t *testing.T, engine *client.Client) map[string]any {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engine = engine
	defer func() { m.engine = nil }()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.url+"/restconf/data/vita-esp-gateway:gateway-state", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("reader", password)
	r.Header.Set("Accept", "application/yang-data+json")
	answer, err := m.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", answer.Status, err, body)
	}
	var tree map[string]any
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	if err := d.Decode(&tree); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return node(tree["vita-esp-gateway:gateway-state"])
}

// node returns an object with its members' names without their modules.
func node(v any) map[string]any {
	out := make(map[string]any)
	object, _ := v.(map[string]any)
	for name, v := range object {
		if _, after, ok := strings.Cut(name, ":"); ok {
			name = after
		}
		out[name] = v
	}
	return out
}

func list(v any) (out []map[string]any) {
	entries, _ := v.([]any)
	for _, e := range entries {
		out = append(out, node(e))
	}
	return out
}

// compareState checks that gateway-state, read over RESTCONF, has exactly the
// numbers of a case's counters.txt: each of them, and no other one that is not
// zero.
func (g *gateway) compareState(m *management, counters string) {
	g.t.Helper()
	have := make(map[string]string)
	top := m.gatewayState(g.t, g.client)
	for name, v := range top {
		for leaf, n := range node(v) {
			if n != "0" {
				have[name+"/"+leaf] = fmt.Sprint(n)
			}
		}
	}
	drops := func(prefix string, v any) {
		for _, d := range list(v) {
			if d["packets"] != "0" {
				have[fmt.Sprintf("%sdrop %s", prefix, d["reason"])] = fmt.Sprint(d["packets"])
			}
		}
	}
	drops("", top["drop"])
	errors := make(map[string]map[string]any) // of inbound SAs
	for _, sa := range list(top["inbound-sa"]) {
		errors[fmt.Sprint(sa["queue"], sa["spi"])] = node(sa["sa-state"])
	}
	for _, sa := range list(top["security-association"]) {
		key := fmt.Sprint(sa["queue"], sa["spi"])
		e := map[string]any{"rxerrors": "0", "protocol-errors": "0", "decrypt-errors": "0"}
		if sa["direction"] == "inbound" {
			e = errors[key]
			delete(errors, key)
		}
		prefix := fmt.Sprintf("sa %s %s", sa["direction"], sa["spi"])
		have[fmt.Sprintf("%s: seq %s, packets %s, bytes %s, rxerrors %s, protocol-errors %s, decrypt-errors",
			prefix, sa["sequence-number"], sa["packets"], sa["bytes"], e["rxerrors"], e["protocol-errors"])] = fmt.Sprint(e["decrypt-errors"])
		drops(prefix+" ", sa["drop"])
	}
	for key := range errors {
		g.t.Errorf("inbound-sa has %s, which is not a security-association", key)
	}
	for _, r := range list(top["route"]) {
		prefix := fmt.Sprintf("route %s", r["id"])
		have[fmt.Sprintf("%s: sent-packets %s, sent-bytes %s, received-packets %s, received-bytes",
			prefix, r["sent-packets"], r["sent-bytes"], r["received-packets"])] = fmt.Sprint(r["received-bytes"])
		drops(prefix+" ", r["drop"])
	}
	for line := range strings.Lines(counters) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "message ") || strings.HasPrefix(line, "neighbour ") {
			continue // no counter
		}
		at := strings.LastIndexByte(line, ' ')
		if n := have[line[:at]]; n != line[at+1:] {
			g.t.Errorf("gateway-state has %q for %s, want %s", n, line[:at], line[at+1:])
		}
		delete(have, line[:at])
	}
	for name, n := range have {
		g.t.Errorf("gateway-state has %s for %s, which is not in counters.txt", n, name)
	}
}
