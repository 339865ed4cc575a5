package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vita/test/lab"
)

// TestVLAN puts the private network of one site and the public network into
// VLANs. The host is in its own by what its kernel does with tags; the other
// site's private network is in none.
func TestVLAN(t *testing.T) {
	l := network(t)
	a, b := gateway(t, l, lab.GwA), gateway(t, l, lab.GwB)
	in := func(config, of string, vlan string) string {
		return strings.Replace(config, `"ifname": "`+of+`"`, `"ifname": "`+of+`", "vita-esp-gateway-ext:vlan": `+vlan, 1)
	}
	restconf(t, a, "204", "PATCH", "", in(in(configA, lab.PrivIf, "10"), lab.PubIf, "20"))
	restconf(t, b, "204", "PATCH", "", in(configB, lab.PubIf, "20"))
	// What the host sends outside of the VLAN is counted and goes nowhere.
	if out, err := l.Run(t.Context(), lab.HostA, "ping", "-n", "-q", "-c", "2", "-i", "0.1", "-W", "1", lab.PrivAIP); err == nil {
		t.Errorf("an answer to frames without a tag: %s", out)
	}
	if out, err := a.Vitactl(t.Context(), "state", "/gateway-state/drop[reason=private-vlan]/packets"); err != nil || strings.HasSuffix(strings.TrimSpace(out), " 0") {
		t.Errorf("frames without a tag: %s %v", out, err)
	}
	if err := l.VLAN(lab.HostA, "eth0", 10); err != nil {
		t.Fatal(err)
	}
	waitForPing(t, l, 30*time.Second)
	if lost := ping(t, l, 50, 10*time.Millisecond); lost != 0 {
		t.Errorf("%d packets lost", lost)
	}
	transfer(t, l, "-4", lab.HostBIP)
	if out, err := l.Run(t.Context(), lab.HostA, "traceroute", "-n", "-q", "1", "-w", "4", "-m", "6", lab.HostBIP); err != nil || !strings.Contains(out, lab.PrivAIP) || !strings.Contains(out, lab.PrivBIP) {
		t.Errorf("traceroute: %v\n%s", err, out)
	}

	file := filepath.Join(l.Dir, "vlan.pcapng")
	p, wait := background(t, l, a, "capture", "capture", "--point", "private-rx,private-tx,public-rx,public-tx", "--seconds", "120", "-w", file)
	begun(t, file)
	fivePings(t, l)
	want := map[string]int{`^private-rx\t10\t1$`: 5, `^private-tx\t10\t1$`: 5, `^public-tx\t20\t50$`: 5, `^public-rx\t20\t50$`: 5}
	fields := []string{"frame.interface_name", "vlan.id", "ip.proto"}
	captured(t, p, file, want, fields...)
	wait()
	lines := tshark(t, file, fields...)
	for pattern, want := range want {
		if n := matching(lines, pattern); n != want {
			t.Errorf("%s: %d frames, want %d: %q", pattern, n, want, lines)
		}
	}

	// Both sides on one device are refused, with what to do instead.
	answer := restconf(t, a, "409", "PATCH", "", `{"ietf-restconf:data":{"vita-esp-gateway:public-interface4":[{"ip":"`+lab.PubAIP+`","ifname":"`+lab.PrivIf+`"}]}}`)
	if !strings.Contains(answer, "type vlan id") || !strings.Contains(answer, "in use") {
		t.Errorf("one device for two VLANs: %s", answer)
	}
	if answer := restconf(t, a, "400", "PATCH", "", `{"ietf-restconf:data":{"vita-esp-gateway:private-interface4":{"vita-esp-gateway-ext:vlan":4095}}}`); !strings.Contains(answer, "vlan") {
		t.Errorf("VLAN 4095: %s", answer)
	}
}
