// Package scenario is the product's main job from end to end: two gateways are
// configured by real clients, agree on keys, carry the traffic of two hosts
// encrypted, change keys and routes, and survive the death of their control
// process. The demo prints it and an end-to-end test demands it.
package scenario

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"vita/test/lab"
)

//go:embed netconf.py
var netconfClient []byte

// Result is what was seen. The names are those of build/demo.json.
type Result struct {
	PingSent                 int     `json:"ping_sent"`
	PingReceived             int     `json:"ping_received"`
	TracerouteHops           int     `json:"traceroute_hops"`
	TCPGbps                  float64 `json:"tcp_gbps"`
	Rekeys                   int     `json:"rekeys"`
	LostDuringRekey          int     `json:"lost_during_rekey"`
	LostDuringCommit         int     `json:"lost_during_commit"`
	LostDuringControlRestart int     `json:"lost_during_control_restart"`
	WirePlaintextPackets     int     `json:"wire_plaintext_packets"`

	WirePackets    int               `json:"wire_packets"`
	WireESPPackets int               `json:"wire_esp_packets"`
	Hops           []string          `json:"hops"`
	Counters       map[string]uint64 `json:"counters"`
	Seconds        float64           `json:"seconds"`
}

// Failures lists what is not as it must be.
func (r *Result) Failures() []string {
	var f []string
	check := func(ok bool, format string, a ...any) {
		if !ok {
			f = append(f, fmt.Sprintf(format, a...))
		}
	}
	check(r.PingSent > 0 && r.PingReceived == r.PingSent, "%d of %d pings answered", r.PingReceived, r.PingSent)
	check(r.TracerouteHops == 3, "traceroute shows %d hops %v, want both gateways and the host", r.TracerouteHops, r.Hops)
	check(r.TCPGbps > 0, "no TCP transfer")
	check(r.Rekeys > 0, "no rekey happened")
	check(r.LostDuringRekey == 0, "%d packets lost during a rekey", r.LostDuringRekey)
	check(r.LostDuringCommit == 0, "%d packets lost during a commit", r.LostDuringCommit)
	check(r.LostDuringControlRestart == 0, "%d packets lost during the control process's restart", r.LostDuringControlRestart)
	check(r.WireESPPackets > 0, "no ESP on the wire")
	check(r.WirePlaintextPackets == 0, "%d packets readable on the wire", r.WirePlaintextPackets)
	return f
}

// Options shapes a run.
type Options struct {
	Build string                        // folder with vitad, vita-engine and vitactl
	Say   func(format string, a ...any) // progress, a line a step
}

// psk and psk2 are the keys of the two routes. They live as long as the lab.
const (
	psk  = "7d1b4c2f9e8a6053b1c4d7e0f3a2958c6b4d1e0f2a3c5b7d9e8f0a1b2c3d4e5f"
	psk2 = "00112233445566778899aabbccddeeff0f1e2d3c4b5a69788796a5b4c3d2e1f0"
)

// run carries one scenario's state.
type run struct {
	Options
	l    *lab.Lab
	a, b *lab.Gateway
	res  *Result
}

// Run builds a lab, plays the scenario and takes the lab down.
func Run(ctx context.Context, o Options) (res *Result, err error) {
	started := time.Now()
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	r := &run{Options: o, res: &Result{}}
	o.Say("building the network: host-a, gw-a, wire, gw-b, host-b")
	if r.l, err = lab.New(ctx); err != nil {
		return nil, err
	}
	defer r.l.Close()
	defer func() {
		if err != nil {
			for _, g := range []*lab.Gateway{r.a, r.b} {
				if g != nil && g.Vitad() != nil {
					err = fmt.Errorf("%w\n--- %s\n%s", err, g.Host, g.Vitad().Tail(15))
				}
			}
		}
	}()
	for _, step := range []func(context.Context) error{
		r.startGateways, r.configure, r.waitForKeys, r.watchWire(r.traffic),
	} {
		if err := step(ctx); err != nil {
			return r.res, err
		}
	}
	r.res.Seconds = time.Since(started).Seconds()
	return r.res, nil
}

func (r *run) startGateways(ctx context.Context) (err error) {
	r.Say("starting vitad and vita-engine on both gateways")
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if r.a, err = r.l.NewGateway(ctx, lab.GwA, r.Build); err != nil {
		return err
	}
	if err = r.a.Start(ctx); err != nil {
		return err
	}
	if r.b, err = r.l.NewGateway(ctx, lab.GwB, r.Build); err != nil {
		return err
	}
	return r.b.Start(ctx)
}

const configA = `<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">
  <private-interface4 xmlns="vita:esp-gateway">
    <ifname>` + lab.PrivIf + `</ifname><ip>` + lab.PrivAIP + `</ip><nexthop-ip>` + lab.HostAIP + `</nexthop-ip>
  </private-interface4>
  <public-interface4 xmlns="vita:esp-gateway">
    <ip>` + lab.PubAIP + `</ip><ifname>` + lab.PubIf + `</ifname><nexthop-ip>` + lab.PubBIP + `</nexthop-ip>
  </public-interface4>
  <route4 xmlns="vita:esp-gateway">
    <id>site_b</id><net>10.10.2.0/24</net><spi>1001</spi><preshared-key>` + psk + `</preshared-key>
    <gateway><ip>` + lab.PubBIP + `</ip></gateway>
  </route4>
  <negotiation-ttl xmlns="vita:esp-gateway">1</negotiation-ttl>
  <sa-ttl xmlns="vita:esp-gateway">12</sa-ttl>
</config>`

const routeA2 = `<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">
  <route4 xmlns="vita:esp-gateway">
    <id>site_c</id><net>10.10.3.0/24</net><spi>1002</spi><preshared-key>` + psk2 + `</preshared-key>
    <gateway><ip>` + lab.PubBIP + `</ip></gateway>
  </route4>
</config>`

const configB = `{"ietf-restconf:data": {
  "vita-esp-gateway:private-interface4": {"ifname": "` + lab.PrivIf + `", "ip": "` + lab.PrivBIP + `", "nexthop-ip": "` + lab.HostBIP + `"},
  "vita-esp-gateway:public-interface4": [{"ip": "` + lab.PubBIP + `", "ifname": "` + lab.PubIf + `", "nexthop-ip": "` + lab.PubAIP + `"}],
  "vita-esp-gateway:route4": [{"id": "site_a", "net": "10.10.1.0/24", "spi": 1001, "preshared-key": "` + psk + `",
    "gateway": [{"ip": "` + lab.PubAIP + `"}]}],
  "vita-esp-gateway:negotiation-ttl": 1,
  "vita-esp-gateway:sa-ttl": 12
}}`

func (r *run) configure(ctx context.Context) error {
	r.Say("configuring gw-a over NETCONF with ncclient")
	if err := r.netconf(ctx, configA); err != nil {
		return err
	}
	r.Say("configuring gw-b over RESTCONF with curl")
	status, body, err := r.b.Curl(ctx, "PATCH", "", "", configB)
	if err != nil {
		return err
	}
	if status != "204" {
		return fmt.Errorf("curl: PATCH /restconf/data: status %s: %s", status, body)
	}
	return nil
}

// netconf sends a configuration to gw-a by ncclient.
func (r *run) netconf(ctx context.Context, config string) error {
	script := filepath.Join(r.l.Dir, "netconf.py")
	if err := os.WriteFile(script, netconfClient, 0o600); err != nil {
		return err
	}
	key, err := r.l.KeyFile()
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "ip", "netns", "exec", r.l.NS(lab.GwA), "/usr/bin/python3", script,
		"--port", lab.NETCONFPort, "--user", lab.Admin, "--key", key)
	c.Stdin = strings.NewReader(config)
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("ncclient: %w: %s", err, out)
	}
	if !strings.Contains(string(out), "<id>site_b</id>") || strings.Contains(string(out), psk) {
		return fmt.Errorf("ncclient: get-config gives back %s", out)
	}
	return nil
}

// waitForKeys returns once both gateways send by keys that they negotiated.
func (r *run) waitForKeys(ctx context.Context) error {
	r.Say("waiting for the key exchange")
	deadline := time.Now().Add(30 * time.Second)
	for {
		if _, err := r.l.Run(ctx, lab.HostA, "ping", "-n", "-q", "-c", "1", "-W", "1", lab.HostBIP); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.New("no packet came through within 30 s")
		}
	}
}

// ping sends n echo requests from host-a, one each interval, counts them, and
// returns how many were lost.
func (r *run) ping(ctx context.Context, n int, interval time.Duration) (lost int, err error) {
	if lost, err = r.l.Ping(ctx, lab.HostA, lab.HostBIP, n, interval); err == nil {
		r.res.PingSent += n
		r.res.PingReceived += n - lost
	}
	return lost, err
}

// during pings every 10 ms for the given time while act happens, and returns
// what was lost.
func (r *run) during(ctx context.Context, span time.Duration, act func() error) (lost int, err error) {
	done := make(chan error, 1)
	go func() {
		var err error
		lost, err = r.ping(ctx, int(span/(10*time.Millisecond)), 10*time.Millisecond)
		done <- err
	}()
	time.Sleep(500 * time.Millisecond) // traffic flows before the act begins
	acted := act()
	err = errors.Join(acted, <-done)
	return lost, err
}

func (r *run) traffic(ctx context.Context) (err error) {
	r.Say("ping, traceroute and a TCP transfer from host-a to host-b")
	if _, err := r.ping(ctx, 50, 20*time.Millisecond); err != nil {
		return err
	}
	if err := r.traceroute(ctx); err != nil {
		return err
	}
	if err := r.tcp(ctx); err != nil {
		return err
	}

	r.Say("rekeys under traffic (sa-ttl 12 s)")
	before, err := r.counter(ctx, "keypairs-negotiated")
	if err != nil {
		return err
	}
	if r.res.LostDuringRekey, err = r.during(ctx, 16*time.Second, func() error { return nil }); err != nil {
		return err
	}
	after, err := r.counter(ctx, "keypairs-negotiated")
	if err != nil {
		return err
	}
	r.res.Rekeys = int(after - before)

	r.Say("a route added under traffic, on both gateways")
	r.res.LostDuringCommit, err = r.during(ctx, 5*time.Second, func() error { return r.addRoute(ctx) })
	if err != nil {
		return err
	}
	if err := r.newRouteWorks(ctx); err != nil {
		return err
	}

	r.Say("kill -9 of gw-a's vitad under traffic, and its restart")
	r.res.LostDuringControlRestart, err = r.during(ctx, 6*time.Second, func() error {
		r.a.Vitad().Kill()
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		return r.a.Start(ctx)
	})
	if err != nil {
		return err
	}
	return r.readCounters(ctx)
}

var hopLine = regexp.MustCompile(`(?m)^\s*\d+\s+(\S+)`)

func (r *run) traceroute(ctx context.Context) error {
	out, err := r.l.Run(ctx, lab.HostA, "traceroute", "-n", "-q", "1", "-w", "4", "-m", "6", lab.HostBIP)
	if err != nil {
		return err
	}
	for _, m := range hopLine.FindAllStringSubmatch(out, -1) {
		r.res.Hops = append(r.res.Hops, m[1])
	}
	want := []string{lab.PrivAIP, lab.PrivBIP, lab.HostBIP}
	if strings.Join(r.res.Hops, " ") == strings.Join(want, " ") {
		r.res.TracerouteHops = len(want)
	}
	return nil
}

func (r *run) tcp(ctx context.Context) error {
	server, err := r.l.Start(lab.HostB, "iperf3", nil, "iperf3", "-s", "-1")
	if err != nil {
		return err
	}
	defer server.Stop(time.Second)
	for try := 0; ; try++ { // the server needs a moment to listen
		r.res.TCPGbps, err = r.iperf(ctx)
		if err == nil || try == 25 || ctx.Err() != nil {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// iperf runs the client once and returns the rate at which the server
// received. With -J the client may exit with 0 although it failed; its report
// then says why.
func (r *run) iperf(ctx context.Context) (gbps float64, err error) {
	out, err := r.l.Run(ctx, lab.HostA, "iperf3", "-c", lab.HostBIP, "-t", "3", "-J", "--connect-timeout", "1000")
	if err != nil {
		return 0, err
	}
	var report struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return 0, fmt.Errorf("iperf3: %w", err)
	}
	if report.Error != "" {
		return 0, fmt.Errorf("iperf3: %s", report.Error)
	}
	return report.End.Received.Rate / 1e9, nil
}

func (r *run) addRoute(ctx context.Context) error {
	if err := r.netconf(ctx, routeA2); err != nil {
		return err
	}
	// gw-b takes the second net of its own side as source of a second route.
	status, body, err := r.b.Curl(ctx, "POST", "", "", `{"vita-esp-gateway:route4": [{"id": "site_a2", "net": "10.10.4.0/24",
		"spi": 1002, "preshared-key": "`+psk2+`", "gateway": [{"ip": "`+lab.PubAIP+`"}]}]}`)
	if err != nil {
		return err
	}
	if status != "201" {
		return fmt.Errorf("curl: POST /restconf/data: status %s: %s", status, body)
	}
	return nil
}

// newRouteWorks pings through the route that was added, from the address that
// lies in its net.
func (r *run) newRouteWorks(ctx context.Context) error {
	const from = "10.10.4.2"
	if _, err := r.l.Run(ctx, lab.HostA, "ip", "addr", "replace", from+"/32", "dev", "lo"); err != nil {
		return err
	}
	deadline := time.Now().Add(15 * time.Second)
	for {
		out, _ := r.l.Run(ctx, lab.HostA, "ping", "-n", "-q", "-c", "3", "-i", "0.05", "-W", "1", "-I", from, lab.HostBIP2)
		if strings.Contains(out, " 3 received") {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("the added route does not work: %s", out)
		}
	}
}

// counter reads one counter of gw-a's key manager.
func (r *run) counter(ctx context.Context, leaf string) (uint64, error) {
	out, err := r.a.Vitactl(ctx, "state", "/gateway-state/key-manager/"+leaf, "--json")
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`"(\d+)"`).FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("counter %s: %s", leaf, out)
	}
	return strconv.ParseUint(m[1], 10, 64)
}

// readCounters keeps some of gw-a's counters for the table.
func (r *run) readCounters(ctx context.Context) error {
	_, body, err := r.a.Curl(ctx, "GET", "/vita-esp-gateway:gateway-state", "", "")
	if err != nil {
		return err
	}
	var state struct {
		State map[string]json.RawMessage `json:"vita-esp-gateway:gateway-state"`
	}
	if err := json.Unmarshal([]byte(body), &state); err != nil {
		return fmt.Errorf("gateway-state: %w: %s", err, body)
	}
	r.res.Counters = map[string]uint64{}
	for _, c := range []string{"private-interface", "public-interface", "private-router", "public-router", "key-manager"} {
		var leaves map[string]string
		if err := json.Unmarshal(state.State[c], &leaves); err != nil {
			return fmt.Errorf("gateway-state/%s: %w: %s", c, err, state.State[c])
		}
		for leaf, v := range leaves {
			n, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				return fmt.Errorf("gateway-state/%s/%s: %w", c, leaf, err)
			}
			if n > 0 {
				r.res.Counters[c+"/"+leaf] = n
			}
		}
	}
	return nil
}
