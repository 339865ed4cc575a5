package test

import (
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var imageDir = flag.String("image", "../../build/image", "folder with the image, as make image leaves it")

// bootTime is what a start may take here, where all is interpreted and other
// tests may run beside.
const bootTime = 90 * time.Second

// disk copies the image for a machine.
func disk(t testing.TB, format string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := copyFile(filepath.Join(*imageDir, "vita."+format), filepath.Join(dir, "disk."+format)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// config is that of a site, with a tunnel to another one. Its cards are named by
// their places: the private one comes behind the management interface.
func config(site, other int) string {
	return fmt.Sprintf(`
<private-interface4 xmlns="vita:esp-gateway"><ifname>enp0s3</ifname><ip>192.168.%[1]d.1</ip><nexthop-ip>192.168.%[1]d.254</nexthop-ip></private-interface4>
<public-interface4 xmlns="vita:esp-gateway"><ip>203.0.113.%[1]d</ip><ifname>enp0s4</ifname><nexthop-ip>203.0.113.%[2]d</nexthop-ip></public-interface4>
<route4 xmlns="vita:esp-gateway"><id>site%[2]d</id><net>192.168.%[2]d.0/24</net><spi>1001</spi><preshared-key>%[3]s</preshared-key>
<gateway><ip>203.0.113.%[2]d</ip></gateway></route4>`, site, other, strings.Repeat("ab", 32))
}

// TestBoot: from the firmware to a gateway that is configured from outside, and
// whose state is there after a restart. Its log goes to a server, and the machine
// itself is configured from outside.
func TestBoot(t *testing.T) {
	admin := NewAdmin(t)
	dir := disk(t, "qcow2")
	_, private, err := Cable(dir, "private", "virtio-net-pci", 2)
	if err != nil {
		t.Fatal(err)
	}
	_, public, err := Cable(dir, "public", "e1000e", 3)
	if err != nil {
		t.Fatal(err)
	}
	syslog := newLogs(t)
	o := Options{Dir: dir, Disk: "disk.qcow2", Format: "qcow2", NICs: append(private, public...), OEM: []string{"vita.admin-key=" + admin.Line, "vita.hostname=gw1", "vita.syslog=10.0.2.2:" + syslog.port}}
	began := time.Now()
	m := Start(t, o)
	printed := m.Expect(t, `administrator admin, host key (\S+)\s`, bootTime)[1]
	after := m.Expect(t, `netconf ready: enp\S+ 10\.0\.2\.15 .*, (\S+) s after the kernel's start`, bootTime)[1]
	seconds, err := strconv.ParseFloat(after, 64)
	t.Logf("netconf ready %s s after the kernel's start, %.1f s after power on", after, time.Since(began).Seconds())
	if err != nil || seconds > 40 {
		t.Errorf("ready after %s s, %v", after, err)
	}
	n := admin.Dial(t, m.SSH, bootTime)
	if n.Host != printed {
		t.Errorf("host key %s, on the console %s", n.Host, printed)
	}
	n.Configure(t, config(1, 2))
	n.Close()
	const head = `^<\d+>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z gw1 %s - - - \x{feff}`
	for source, text := range map[string]string{"kernel": "Linux version 6", "init": "netconf ready", "vitad": "", "vita-engine": ""} {
		syslog.expect(t, fmt.Sprintf(head, source)+text)
	}
	t.Log(m.Timeline(t))
	m.Type(t, "status")
	used, err := strconv.Atoi(m.Expect(t, `memory: (\d+) MiB in use of \d+\s`, 10*time.Second)[1])
	if err != nil || used > 250*1000*1000>>20 {
		t.Errorf("%d MiB of memory are in use, %v", used, err)
	}
	t.Logf("%d MiB of memory are in use", used)
	m.Expect(t, `host gw1, management enp`, 10*time.Second)
	m.Expect(t, `vita-engine runs .* 1 starts`, 10*time.Second)
	m.Expect(t, `vitad runs .* 1 starts`, 10*time.Second)
	n = admin.Dial(t, m.SSH, bootTime)
	logs, times := settings(t, m, n, syslog)
	n.Close()
	m.Type(t, "reboot")
	m.Expect(t, `netconf ready`, bootTime)
	stay(t, logs, times)
	n = admin.Dial(t, m.SSH, bootTime)
	if n.Host != printed {
		t.Errorf("host key %s after the restart, was %s", n.Host, printed)
	}
	if got := n.Must(t, `<get-config><source><running/></source></get-config>`); !strings.Contains(got, "192.168.2.0/24") {
		t.Errorf("the configuration is lost: %s", got)
	}
	m.Type(t, "poweroff")
	m.Ended(t, 60*time.Second)

	// From power on, as an emulator restarts more slowly than it starts.
	m = Start(t, o)
	m.Expect(t, `netconf ready`, bootTime)
	t.Logf("configured: %s", m.Timeline(t))
}

// TestDrives: it starts from whatever the disk is behind: here also what has its
// driver packed in the kernel image.
func TestDrives(t *testing.T) {
	for _, c := range []struct {
		name, disk string
		drive      []string
	}{
		{"SATA", "sda", []string{"ide-hd,drive=disk,bus=ide.0"}},
		{"NVMe", "nvme0n1", []string{"nvme,drive=disk,serial=vita"}},
		{"virtio-scsi", "sda", []string{"virtio-scsi-pci,id=scsi", "scsi-hd,drive=disk,bus=scsi.0"}},
		{"USB", "sda", []string{"qemu-xhci,id=usb", "usb-storage,drive=disk,bus=usb.0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := Start(t, Options{Dir: disk(t, "raw"), Drive: c.drive, OEM: []string{"vita.admin-key=" + NewAdmin(t).Line}})
			t.Log(m.Expect(t, `netconf ready.*`, bootTime)[0])
			m.Type(t, "status")
			m.Expect(t, `slot a of `+c.disk+`,`, 10*time.Second)
			m.Kill()
		})
	}
}

// logs is what a syslog server has got.
type logs struct {
	port string
	mu   sync.Mutex
	text []string
}

// newLogs starts a syslog server, which guests reach at 10.0.2.2.
func newLogs(t testing.TB) *logs {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.(*net.UDPConn).SetReadBuffer(1 << 20); err != nil { // or as much of it as may be: for a busy machine
		t.Fatal(err)
	}
	l := new(logs)
	_, l.port, _ = net.SplitHostPort(c.LocalAddr().String())
	go func() {
		for b := make([]byte, 4096); ; {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return // closed
			}
			l.mu.Lock()
			l.text = append(l.text, string(b[:n]))
			l.mu.Unlock()
		}
	}()
	return l
}

// expect waits until a message of a pattern has come.
func (l *logs) expect(t testing.TB, pattern string) {
	t.Helper()
	r := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		l.mu.Lock()
		text := slices.Clone(l.text)
		l.mu.Unlock()
		if slices.ContainsFunc(text, r.MatchString) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q in %d messages, of which the first are %q", pattern, len(text), text[:min(5, len(text))])
		}
	}
}

// all returns what has come, and forget forgets it.
func (l *logs) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.text)
}

func (l *logs) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = nil
}
