package test

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// site is a gateway with a host behind it.
type site struct {
	*Machine
	options Options
	host    *Host
	admin   Admin
}

// alone starts a site whose cables lead nowhere, from a disk of its own, and
// configures it.
func alone(t *testing.T) *site {
	t.Helper()
	admin := NewAdmin(t)
	dir := disk(t, "raw")
	_, private, err := Cable(dir, "private", "virtio-net-pci", 2)
	if err != nil {
		t.Fatal(err)
	}
	_, public, err := Cable(dir, "public", "virtio-net-pci", 3)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{admin: admin, options: Options{
		Dir: dir, NICs: append(private, public...),
		OEM: []string{"vita.admin-key=" + admin.Line, "vita.admin-password=" + password},
	}}
	s.Machine = Start(t, s.options)
	s.Expect(t, `netconf ready`, bootTime)
	n := admin.Dial(t, s.SSH, bootTime)
	n.Configure(t, config(1, 2))
	n.Close()
	return s
}

// trial is how long an upgrade has here to prove good.
const trial = 60 * time.Second

// cards are the data plane's cards of a site: models of QEMU's, and how the
// configuration of TestBoot has to name them.
type cards struct {
	private, public string
	names           *strings.Replacer
}

var (
	ofKernel = cards{"virtio-net-pci", "virtio-net-pci", strings.NewReplacer()}
	// Cards that the engine drives past the kernel, through VFIO and the IOMMU.
	ofEngine = cards{"igb,addr=0x5", "virtio-net-pci-non-transitional,iommu_platform=on,addr=0x6", strings.NewReplacer(
		"<ifname>enp0s3</ifname>", "<pci>0000:00:05.0</pci>", "<ifname>enp0s4</ifname>", "<pci>0000:00:06.0</pci>")}
)

// sites makes two machines with a cable between their public cards, which boot
// at the same time.
func sites(t testing.TB, c cards, oem ...string) (both [2]*site) {
	t.Helper()
	cables := t.TempDir()
	var public [2][]string
	public[0], public[1] = Between(cables, "public", c.public, [2]byte{0x13, 0x23})
	for i := range both {
		n := string('1' + byte(i))
		admin := NewAdmin(t)
		wire, private, err := Cable(cables, "private"+n, c.private, byte(0x12+0x10*i))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = wire.Close() })
		host := NewHost(wire, byte(i+1), "192.168."+n+".254", "192.168."+n+".1")
		t.Cleanup(host.Close)
		both[i] = &site{admin: admin, host: host, options: Options{
			Dir: disk(t, "raw"), NICs: append(private, public[i]...), OEM: append([]string{
				"vita.admin-key=" + admin.Line, "vita.hostname=gw" + n, "vita.admin-password=" + password, "vita.trial-seconds=" + strconv.Itoa(int(trial.Seconds())),
			}, oem...),
		}}
		both[i].Machine = Start(t, both[i].options)
	}
	for i, s := range both {
		s.Expect(t, `netconf ready`, 2*bootTime)
		n := s.admin.Dial(t, s.SSH, bootTime)
		n.Configure(t, c.names.Replace(config(i+1, 2-i)))
		n.Close()
	}
	return both
}

// flow sends n packets from one host to the other, with numbers from first on,
// and returns how many have arrived.
func flow(t testing.TB, from, to *Host, first uint32, n int) int {
	t.Helper()
	for i := range n {
		if err := from.Send(to.ip, first+uint32(i), 64+(i*97)%1200); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline) && to.Got(first, first+uint32(n)) < n; time.Sleep(10 * time.Millisecond) {
		continue
	}
	return to.Got(first, first+uint32(n))
}

// untilFlows sends packets until one arrives.
func untilFlows(t testing.TB, from, to *Host, first uint32, patience time.Duration) {
	t.Helper()
	began := time.Now()
	for n := uint32(0); to.Got(first, first+1<<20) == 0; n++ {
		if time.Since(began) > patience {
			t.Fatalf("no packet has arrived after %s", patience)
		}
		_ = from.Send(to.ip, first+n, 100) // the machine may not be there yet
		time.Sleep(100 * time.Millisecond)
	}
}

// TestForward: two appliances whose engines drive their cards past the kernel,
// configured from outside, carry traffic between two hosts, both ways. The
// engines have huge pages and a processor of their own. After a power cut they do
// so again.
func TestForward(t *testing.T) {
	began := time.Now()
	both := sites(t, ofEngine, "vita.hugepages=32", "vita.cpus=1")
	a, b := both[0].host, both[1].host
	untilFlows(t, a, b, 1<<20, time.Minute)
	untilFlows(t, b, a, 2<<20, time.Minute)
	t.Logf("forwarding %.1f s after power on of both, configured from outside", time.Since(began).Seconds())
	const n = 500
	if got := flow(t, a, b, 1, n); got != n {
		t.Errorf("%d of %d packets have arrived", got, n)
	}
	if got := flow(t, b, a, 1, n); got != n {
		t.Errorf("%d of %d packets have arrived the other way", got, n)
	}
	for _, s := range both {
		state := s.must(t, "state")
		for _, driver := range []string{"igb", "virtio"} {
			if !strings.Contains(state, driver) {
				t.Errorf("no card is driven by %s:\n%s", driver, state)
			}
		}
		if said := s.Console(1 << 20); strings.Contains(said, "huge pages:") || strings.Contains(said, "processors 1:") {
			t.Errorf("the options are not as they should be:\n%s", said)
		}
	}

	// One that is configured forwards by itself.
	both[0].Kill()
	began = time.Now()
	both[0].Machine = Start(t, both[0].options)
	untilFlows(t, a, b, 3<<20, 2*time.Minute)
	t.Logf("forwarding %.1f s after power on of one that is configured, its peer up", time.Since(began).Seconds())
	untilFlows(t, b, a, 4<<20, time.Minute)
}
