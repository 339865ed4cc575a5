package vfio

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	appliance "vita/appliance-image/test"
	"vita/test/qemu"
	"vita/test/qemu/guest"
)

// gateway is a machine that runs vitad and vita-engine on two cards of its own.
type gateway struct {
	*qemu.VM
	n    int // 1 or 2
	host *appliance.Host
}

const (
	privateSlot, publicSlot = "08", "04"
	password                = "open sesame in a guest"
)

// programs builds what a gateway runs.
func programs(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	files := make(map[string]string)
	for _, n := range []string{"vitad", "vita-engine", "vitactl"} {
		files["/bin/"+n] = filepath.Join(dir, n)
		build := exec.Command("go", "build", "-trimpath", "-o", dir, "vita/cmd/"+n)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", n, err, out)
		}
	}
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"/etc/hosts": "127.0.0.1 localhost\n", "/key.pub": string(ssh.MarshalAuthorizedKey(key)), "/password": password + "\n",
	} {
		files[name] = filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(files[name], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func boot(t *testing.T, n int, files map[string]string) *gateway {
	t.Helper()
	card := func(model, slot string, last byte) qemu.NIC {
		return qemu.NIC{Model: model, MAC: [6]byte{0x52, 0x54, 0, 0, byte(n), last}, Args: "addr=" + slot + ".0"}
	}
	g := &gateway{n: n, VM: qemu.Start(t, qemu.Options{
		Init: "vita/test/qemu/guest/init", Modules: append([]string{"igb", "e1000e"}, modules...), Programs: []string{"ip"}, Memory: 1024, Append: "intel_iommu=on", Args: iommu,
		Files: files, NICs: []qemu.NIC{card("igb", privateSlot, 1), card("e1000e", publicSlot, 2)},
	})}
	g.host = appliance.NewHost(g.Wires[0], byte(n), fmt.Sprintf("192.168.%d.254", n), fmt.Sprintf("192.168.%d.1", n))
	t.Cleanup(g.host.Close)
	return g
}

// run runs a program in the guest, which must end well.
func (g *gateway) run(t *testing.T, args ...string) string {
	t.Helper()
	var r guest.Result
	if err := g.Call("Guest.Run", guest.Command{Args: args}, &r); err != nil {
		t.Fatal(err)
	}
	if r.Error != "" {
		t.Fatalf("%v: %s\n%s\n%s", args, r.Error, r.Output, g.log())
	}
	return r.Output
}

func (g *gateway) log() string {
	var b []byte
	_ = g.Call("Guest.ReadFile", "/tmp/vitad.log", &b) // there may be none yet
	return string(b[max(0, len(b)-4000):])
}

func (g *gateway) vitactl(t *testing.T, args ...string) string {
	t.Helper()
	return g.run(t, append([]string{"/bin/vitactl", "--ca", "/tmp/state/tls.crt", "--user", "admin", "--password-file", "/password"}, args...)...)
}

// start starts the gateway's programs and configures it.
func (g *gateway) start(t *testing.T) {
	t.Helper()
	g.run(t, "/bin/ip", "link", "set", "lo", "up")
	g.run(t, "/bin/vitad", "init", "--state-dir", "/tmp/state", "--admin", "admin", "--ssh-key", "/key.pub", "--password-file", "/password")
	if err := g.Call("Guest.Start", guest.Daemon{Log: "/tmp/vitad.log", Args: []string{
		"/bin/vitad", "run", "--state-dir", "/tmp/state", "--netconf", "127.0.0.1:830", "--restconf", "127.0.0.1:443",
	}}, new(struct{})); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); !strings.Contains(g.log(), "ready"); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("vitad is not ready:\n%s", g.log())
		}
	}
	g.configure(t)
}

// configure names the gateway's cards, and the other gateway.
func (g *gateway) configure(t *testing.T) {
	t.Helper()
	other := 3 - g.n
	g.vitactl(t, "set",
		"/private-interface4/pci", "00:"+privateSlot+".0", "/private-interface4/ip", fmt.Sprintf("192.168.%d.1", g.n),
		"/private-interface4/nexthop-ip", fmt.Sprintf("192.168.%d.254", g.n),
		fmt.Sprintf("/public-interface4[ip=203.0.113.%d]/pci", g.n), "0000:00:"+publicSlot+".0",
		fmt.Sprintf("/public-interface4[ip=203.0.113.%d]/nexthop-ip", g.n), fmt.Sprintf("203.0.113.%d", other),
		"/route4[id=far]/net", fmt.Sprintf("192.168.%d.0/24", other), "/route4[id=far]/spi", "1001",
		"/route4[id=far]/preshared-key", strings.Repeat("5a", 32),
		fmt.Sprintf("/route4[id=far]/gateway[ip=203.0.113.%d]/ip", other), fmt.Sprintf("203.0.113.%d", other),
		"/negotiation-ttl", "2", "/sa-ttl", "15", "/mtu", "1400")
	g.vitactl(t, "commit")
}

// forget takes it all out of the configuration again.
func (g *gateway) forget(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/route4[id=far]", fmt.Sprintf("/public-interface4[ip=203.0.113.%d]", g.n), "/private-interface4"} {
		g.vitactl(t, "delete", path)
	}
	g.vitactl(t, "commit")
}

// relay carries frames between two cables, and counts what they are.
type relay struct {
	mu                          sync.Mutex
	esp, exchange, arp, strange int
}

func (r *relay) run(stop <-chan struct{}, from, to *qemu.Wire) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
		}
		for _, f := range from.Drain() {
			r.count(f)
			_ = to.Send(f) // the machine may have ended
		}
	}
}

func (r *relay) count(f []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch kind := binary.BigEndian.Uint16(f[12:]); {
	case kind == 0x0806:
		r.arp++
	case kind == 0x0800 && f[23] == 50:
		r.esp++
	case kind == 0x0800 && f[23] == 17 && binary.BigEndian.Uint16(f[36:]) == 303:
		r.exchange++
	default:
		r.strange++
	}
}

// TestGateways: two gateways, each with a private 82576 and a public 82574 that
// the engine drives through VFIO, carry packets between two hosts, encrypted,
// over changes of keys, and give their cards back at the end.
func TestGateways(t *testing.T) {
	files := programs(t)
	var g [2]*gateway
	for i := range g {
		g[i] = boot(t, i+1, files)
	}
	var r relay
	stop := make(chan struct{})
	var done sync.WaitGroup
	for i := range g {
		done.Go(func() { r.run(stop, g[i].Wires[1], g[1-i].Wires[1]) })
	}
	t.Cleanup(func() { close(stop); done.Wait() })

	out := g[0].run(t, "/bin/vitactl", "devices")
	t.Log("\n" + out)
	for _, want := range []string{"82576", "82574L", "yes, by igb", "yes, by e1000e"} {
		if !strings.Contains(out, want) {
			t.Errorf("vitactl devices does not say %q", want)
		}
	}
	for i := range g {
		g[i].start(t)
	}
	a, b := g[0].host, g[1].host
	addresses := [2]netip.Addr{netip.MustParseAddr("192.168.1.254"), netip.MustParseAddr("192.168.2.254")}
	exchange := func(from uint32) { // until something arrives both ways
		t.Helper()
		for n := uint32(0); b.Got(from, from+1<<20) == 0 || a.Got(from, from+1<<20) == 0; n++ {
			if n > 300 {
				t.Fatalf("nothing arrives: %+v\n%s\n%s\n%s", &r, g[0].log(), g[1].log(), g[0].vitactl(t, "state"))
			}
			_ = a.Send(addresses[1], from+n, 100)
			_ = b.Send(addresses[0], from+n, 100)
			time.Sleep(200 * time.Millisecond)
		}
	}
	exchange(1 << 30)
	// Traffic both ways for longer than an SA lives.
	const packets, life = 3000, 15 * time.Second
	began := time.Now()
	sent := uint32(0)
	for ; sent < packets || time.Since(began) < life+5*time.Second; sent++ {
		size := 20 + int(sent*37%1340)
		if err := a.Send(addresses[1], 1+sent, size); err != nil {
			t.Fatal(err)
		}
		if err := b.Send(addresses[0], 1+sent, size); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Millisecond)
	}
	arrived := func() (toB, toA int) { return b.Got(1, 1+sent), a.Got(1, 1+sent) }
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if toB, toA := arrived(); toB == int(sent) && toA == int(sent) {
			break
		}
	}
	toB, toA := arrived()
	t.Logf("%d and %d of %d packets in %.1f s; wire: %d ESP, %d key exchange, %d ARP", toB, toA, sent, time.Since(began).Seconds(), r.esp, r.exchange, r.arp)
	if toB != int(sent) || toA != int(sent) {
		t.Errorf("%d and %d of %d packets have arrived\n%s", toB, toA, sent, g[0].vitactl(t, "state"))
	}
	r.mu.Lock()
	if r.strange != 0 || r.esp < 2*int(sent) || r.exchange < 8 { // four messages make an SA pair, and there were two
		t.Errorf("on the wire between the gateways: %d ESP, %d key exchange, %d ARP, %d others", r.esp, r.exchange, r.arp, r.strange)
	}
	r.mu.Unlock()
	state := g[0].vitactl(t, "state")
	for _, want := range []string{"igb", "e1000e"} {
		if !strings.Contains(state, want) {
			t.Errorf("state does not name the driver %s:\n%s", want, state)
		}
	}
	asked(t, g[1])
	exchange(2 << 30)
	// Without a configuration the cards go back to Linux.
	g[0].forget(t)
	g[0].awaitDevices(t, "82574L e1000e eth", "82576 igb eth")
}

// asked has the kernel ask for a card, which waits for it. The other one stays,
// and the configuration can be changed. When the card has been taken out of the
// configuration and is named again, it is back.
func asked(t *testing.T, g *gateway) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		done <- g.Call("Guest.WriteFile", guest.File{Name: "/sys/bus/pci/drivers/vfio-pci/unbind", Data: []byte("0000:00:" + privateSlot + ".0")}, new(struct{}))
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("unbind: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("the kernel still waits for the card\n%s", g.log())
	}
	g.awaitDevices(t, "82574L vfio-pci", "82576 igb eth")
	if log := g.log(); !strings.Contains(log, "device given back to the system") || strings.Contains(log, "close port") {
		t.Errorf("the log is:\n%s", log)
	}
	g.vitactl(t, "set", "/mtu", "1390")
	g.vitactl(t, "commit")
	g.awaitDevices(t, "82576 igb eth")
	g.forget(t)
	g.configure(t)
	g.awaitDevices(t, "82574L vfio-pci", "82576 vfio-pci")
}

// awaitDevices waits until the list of devices says something.
func (g *gateway) awaitDevices(t *testing.T, want ...string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		out := strings.Join(strings.Fields(g.run(t, "/bin/vitactl", "devices")), " ")
		missing := slices.DeleteFunc(slices.Clone(want), func(w string) bool { return strings.Contains(out, w) })
		if len(missing) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("vitactl devices does not say %q: %s\n%s", missing, out, g.log())
		}
	}
}
