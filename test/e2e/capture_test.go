package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"vita/test/lab"
)

const configB = `{"ietf-restconf:data": {
  "vita-esp-gateway:private-interface4": {"ifname": "` + lab.PrivIf + `", "ip": "` + lab.PrivBIP + `", "nexthop-ip": "` + lab.HostBIP + `"},
  "vita-esp-gateway:public-interface4": [{"ip": "` + lab.PubBIP + `", "ifname": "` + lab.PubIf + `", "nexthop-ip": "` + lab.PubAIP + `"}],
  "vita-esp-gateway:route4": [{"id": "site_a", "net": "10.10.1.0/24", "spi": 1001, "preshared-key": "` + psk + `",
    "gateway": [{"ip": "` + lab.PubAIP + `"}]}],
  "vita-esp-gateway:negotiation-ttl": 1
}}`

// tshark reads a capture by Wireshark's own parser, a line a packet.
func tshark(t *testing.T, file string, fields ...string) []string {
	t.Helper()
	lines, err := shark(file, fields...)
	if err != nil {
		t.Fatalf("tshark %s: %v", file, err)
	}
	return lines
}

func shark(file string, fields ...string) ([]string, error) {
	args := []string{"-n", "-r", file, "-T", "fields"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out, err := exec.Command("tshark", args...).Output()
	return strings.Split(strings.TrimSpace(string(out)), "\n"), err
}

// matching counts lines.
func matching(lines []string, pattern string) (n int) {
	re := regexp.MustCompile(pattern)
	for _, l := range lines {
		if re.MatchString(l) {
			n++
		}
	}
	return n
}

// captured waits until a capture's file has lines of these patterns, as many as
// are wanted or more, and ends it by Ctrl-C, as somebody would who looks on.
func captured(t *testing.T, p *lab.Proc, file string, want map[string]int, fields ...string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		lines, _ := shark(file, fields...) // the last packet may not be whole yet
		missing := false
		for pattern, n := range want {
			missing = missing || matching(lines, pattern) < n
		}
		if !missing {
			break
		}
	}
	if err := p.Cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}

// background starts vitactl and returns a function that waits for its end and
// returns what it has said.
func background(t *testing.T, l *lab.Lab, g *lab.Gateway, name string, args ...string) (p *lab.Proc, wait func() string) {
	t.Helper()
	all := append([]string{
		filepath.Join(build, "vitactl"), "--server", "https://localhost:" + lab.RESTCONFPort, "--ca", filepath.Join(g.State, "tls.crt"),
		"--user", lab.Admin, "--password-file", filepath.Join(l.Dir, "password"),
	}, args...)
	p, err := l.Start(g.Host, name, nil, all...)
	if err != nil {
		t.Fatal(err)
	}
	return p, func() string {
		t.Helper()
		if err := p.Err(); err != nil {
			t.Fatalf("vitactl %v: %v\n%s", args, err, p.Tail(5))
		}
		return p.Tail(5)
	}
}

// begun waits until a capture has written its first bytes.
func begun(t *testing.T, file string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if s, err := os.Stat(file); err == nil && s.Size() > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: no capture has begun", file)
		}
	}
}

// TestCapture captures a ping and what the gateway drops meanwhile, and reads
// the files by tshark.
func TestCapture(t *testing.T) {
	l := network(t)
	a, b := gateway(t, l, lab.GwA), gateway(t, l, lab.GwB)
	restconf(t, a, "204", "PATCH", "", configA)
	restconf(t, b, "204", "PATCH", "", configB)
	waitForPing(t, l, 30*time.Second)

	file := filepath.Join(l.Dir, "all.pcapng")
	p, wait := background(t, l, a, "capture", "capture", "--point", "private-rx,private-tx,public-rx,public-tx,inner-outbound,inner-inbound,dropped", "-w", file, "--seconds", "120")
	begun(t, file)
	if out, err := a.Vitactl(t.Context(), "capture", "--point", "public-rx"); err == nil || !strings.Contains(err.Error(), "another capture is going on") {
		t.Errorf("a second capture: %s %v", out, err)
	}
	for _, args := range [][]string{
		{"ping", "-n", "-q", "-c", "5", "-i", "0.05", "-W", "1", lab.HostBIP},
		{"ping", "-n", "-q", "-c", "3", "-i", "0.05", "-W", "1", "10.99.0.1"},            // no route
		{"ping", "-n", "-q", "-c", "2", "-i", "0.05", "-t", "1", "-W", "1", lab.HostBIP}, // expires
	} {
		_, _ = l.Run(t.Context(), lab.HostA, args...) // those that get no answer fail
	}
	// Somebody sends ESP that is no one's.
	junk := append([]byte{0, 0, 0, 99, 0, 0, 0, 1}, make([]byte, 60)...)
	if out, err := l.Run(t.Context(), lab.Wire, "ip", "addr", "add", "203.0.113.9/24", "dev", "br0"); err != nil {
		t.Fatal(err, out)
	}
	send(t, l, lab.Wire, junk, lab.PubAIP)
	want := map[string]int{
		`^private-rx\t10.10.1.2\t10.10.2.2\t1\t$`:                        7,
		`^inner-outbound\t10.10.1.2\t10.10.2.2\t1\t$`:                    5,
		`^public-tx\t203.0.113.1\t203.0.113.2\t50\t$`:                    5,
		`^public-rx\t203.0.113.2\t203.0.113.1\t50\t$`:                    5,
		`^inner-inbound\t10.10.2.2\t10.10.1.2\t1\t$`:                     5,
		`^private-tx\t10.10.2.2\t10.10.1.2\t1\t$`:                        5,
		`^dropped\t10.10.1.2\t10.99.0.1\t1\tdropped: outbound-no-route$`: 3,
		`^dropped\t10.10.1.2\t10.10.2.2\t1\tdropped: outbound-ttl$`:      2,
		`^dropped\t203.0.113.9\t203.0.113.1\t50\tdropped: esp-no-sa$`:    1,
	}
	fields := []string{"frame.interface_name", "ip.src", "ip.dst", "ip.proto", "frame.comment"}
	captured(t, p, file, want, fields...)
	if said := wait(); !regexp.MustCompile(`\d+ packets`).MatchString(said) {
		t.Errorf("vitactl says %q", said)
	}
	if s, err := os.Stat(file); err != nil || s.Mode().Perm() != 0o600 {
		t.Errorf("%v %v: others can read the file", s, err)
	}
	lines := tshark(t, file, fields...)
	for pattern, want := range want {
		if got := matching(lines, pattern); got != want {
			t.Errorf("%s: %d packets, want %d", pattern, got, want)
		}
	}
	if t.Failed() {
		t.Log(strings.Join(lines, "\n"))
	}

	// One that reaches its limit says what it has missed, and is as curl gets it.
	file = filepath.Join(l.Dir, "esp.pcapng")
	_, wait = background(t, l, a, "esp", "capture", "--point", "public-tx", "--protocol", "esp", "--packets", "3", "--snap", "64", "-w", file)
	begun(t, file)
	_, _ = l.Run(t.Context(), lab.HostA, "ping", "-n", "-q", "-c", "5", "-i", "0.05", "-W", "1", lab.HostBIP)
	if said := wait(); !strings.Contains(said, "3 packets, 0 missed") {
		t.Errorf("vitactl says %q", said)
	}
	if lines := tshark(t, file, "frame.cap_len", "ip.proto"); len(lines) != 3 || lines[0] != "64\t50" {
		t.Errorf("%q", lines)
	}
	if out, err := a.Vitactl(t.Context(), "capture", "--point", "public-tx", "--source", "10.1", "-w", file); err == nil || !strings.Contains(err.Error(), "option source") {
		t.Errorf("a filter that is none: %s %v", out, err)
	}
	// Neither names nor packets are in the logs.
	for _, secret := range []string{lab.HostAIP, lab.HostBIP} {
		if log := a.Vitad().Tail(1000); strings.Contains(log, secret) {
			t.Errorf("the log names a host of the private network:\n%s", log)
		}
	}
}

// send sends one packet of ESP from a host, by 203.0.113.9.
func send(t *testing.T, l *lab.Lab, host string, payload []byte, to string) {
	t.Helper()
	script := `import socket,sys
s=socket.socket(socket.AF_INET,socket.SOCK_RAW,50)
s.bind(("203.0.113.9",0))
s.sendto(bytes.fromhex(sys.argv[1]),(sys.argv[2],0))`
	if out, err := l.Run(t.Context(), host, "/usr/bin/python3", "-c", script, hex.EncodeToString(payload), to); err != nil {
		t.Fatal(err, out)
	}
}

// TestCaptureManual runs every example of the manual.
func TestCaptureManual(t *testing.T) {
	text, err := os.ReadFile("../../docs/operator/capture.md")
	if err != nil {
		t.Fatal(err)
	}
	l := network(t)
	a, b := gateway(t, l, lab.GwA), gateway(t, l, lab.GwB)
	restconf(t, a, "204", "PATCH", "", configA)
	restconf(t, b, "204", "PATCH", "", configB)
	waitForPing(t, l, 30*time.Second)
	if _, err := l.Start(lab.HostA, "ping", nil, "ping", "-n", "-q", "-i", "0.05", lab.HostBIP); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Start(lab.HostA, "ping-nowhere", nil, "ping", "-n", "-q", "-i", "0.05", "10.99.0.1"); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, m := range regexp.MustCompile(`(?m)^(vitactl|curl) .*(?:-w|-o) (\S+\.pcapng)$`).FindAllStringSubmatch(string(text), -1) {
		ran++
		file := filepath.Join(l.Dir, m[2])
		line := strings.Replace(m[0], m[2], file, 1)
		line = strings.Replace(line, "vitactl ", filepath.Join(build, "vitactl")+" --server https://localhost --ca "+filepath.Join(a.State, "tls.crt")+
			" --password-file "+filepath.Join(l.Dir, "password")+" ", 1)
		line = strings.NewReplacer("tls.crt", filepath.Join(a.State, "tls.crt"), "-u admin", "-sS -u '"+lab.Admin+":"+lab.AdminPassword+"'", "https://gateway", "https://localhost").Replace(strings.ReplaceAll(line, filepath.Join(a.State, "tls.crt"), "tls.crt"))
		if out, err := l.Run(t.Context(), lab.GwA, "bash", "-c", line); err != nil {
			t.Errorf("%s: %v %s", m[0], err, out)
			continue
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.HasPrefix(got, binary.LittleEndian.AppendUint32(nil, 0x0a0d0d0a)) {
			t.Errorf("%s: %d bytes, %v", m[0], len(got), err)
			continue
		}
		packets := len(tshark(t, file, "frame.number", "frame.interface_name"))
		if strings.Contains(m[0], "attack") != (packets <= 1) { // nobody attacks
			t.Errorf("%s: %d packets", m[0], packets)
		}
	}
	if ran < 6 {
		t.Errorf("%d examples ran", ran)
	}
}
