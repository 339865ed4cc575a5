package test

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestSetup: a machine that nobody has told anything is set up at its console;
// one that hangs is reset by its watchdog; one that is to be given away forgets
// everything.
func TestSetup(t *testing.T) {
	admin := NewAdmin(t)
	dir := disk(t, "raw")
	const address = "10.0.2.77" // DHCP would give another one
	debugger := filepath.Join(dir, "gdb")
	m := Start(t, Options{Dir: dir, Guest: address, Args: []string{"-chardev", "socket,id=gdb,server=on,wait=off,path=" + debugger, "-gdb", "chardev:gdb"}})
	m.Expect(t, `no administrator: enter one at the console`, bootTime)
	m.Type(t, "what")
	m.Expect(t, `setup +the first administrator`, 10*time.Second)
	m.Type(t, "setup")
	for _, c := range []struct{ question, answer string }{
		{`host name: `, "gw9"},
		{`management interface: .*: `, ""},
		{`its address with prefix length, or dhcp: `, address}, // no prefix length
		{`want an address with its prefix length(?s:.*)its address with prefix length, or dhcp: `, address + "/24"},
		{`router: `, "10.0.2.2"},
		{`name servers: `, "10.0.2.3"},
		{`time servers: `, ""},
		{`name of the administrator: `, ""},
		{`the administrator's public SSH key, one line: `, admin.Line},
	} {
		m.Expect(t, c.question, 10*time.Second)
		m.Type(t, c.answer)
	}
	m.Expect(t, `stored`, 10*time.Second)
	key := m.Expect(t, `administrator admin, host key (\S+)\s`, 30*time.Second)[1]
	m.Expect(t, `netconf ready`, bootTime)
	m.Type(t, "reboot")
	m.Expect(t, `netconf ready: enp\S+ `+regexp.QuoteMeta(address)+` `, bootTime)
	n := admin.Dial(t, m.SSH, bootTime)
	if n.Host != key {
		t.Errorf("host key %s, on the console %s", n.Host, key)
	}

	// A factory reset needs somebody at the console.
	if out, err := n.Call(`<factory-reset xmlns="urn:ietf:params:xml:ns:yang:ietf-factory-default"/>`); err == nil {
		t.Errorf("a factory reset over the network: %s", out)
	}
	n.Close()

	hang(t, debugger)
	began := time.Now()
	m.Expect(t, `netconf ready`, 2*time.Minute+bootTime)
	t.Logf("ready %.1f s after everything hung", time.Since(began).Seconds())
	n = admin.Dial(t, m.SSH, bootTime)
	if n.Host != key {
		t.Errorf("host key %s, on the console %s", n.Host, key)
	}
	n.Close()

	m.Type(t, "erase")
	m.Expect(t, `Enter the host's name, gw9`, 10*time.Second)
	m.Type(t, "gw9")
	m.Expect(t, `first start: the state on \S+ is new`, 2*bootTime)
	m.Expect(t, `no administrator: enter one at the console`, bootTime)
}

// hang lets all processors of a machine turn in circles, with interrupts off, by
// QEMU's stub of a debugger.
func hang(t testing.TB, socket string) {
	t.Helper()
	c, err := net.Dial("unix", socket) // which stops the machine
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	ask := func(packet string) string {
		t.Helper()
		var sum byte
		for _, b := range []byte(packet) {
			sum += b
		}
		if _, err := fmt.Fprintf(c, "$%s#%02x", packet, sum); err != nil {
			t.Fatal(err)
		}
		if packet == "D" {
			return ""
		}
		if _, err := r.ReadString('$'); err != nil { // behind +, which acknowledges
			t.Fatal(err)
		}
		answer, err := r.ReadString('#')
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Discard(2); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte{'+'}); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(answer, "#")
	}
	ok := func(packet string) {
		t.Helper()
		if got := ask(packet); got != "OK" {
			t.Fatalf("the debugger's stub answers %q to %s", got, packet)
		}
	}
	const rip, flags, loop = "10", "11", "ebfe" // numbers of registers; jmp .
	ask("?")
	for _, cpu := range []string{"1", "2"} {
		ok("Hg" + cpu)
		at := ask("p" + rip)
		if len(at) != 16 {
			t.Fatalf("processor %s is at %q", cpu, at)
		}
		var address strings.Builder
		for i := len(at); i > 0; i -= 2 { // little endian
			address.WriteString(at[i-2 : i])
		}
		ok("M" + address.String() + ",2:" + loop)
		ok("P" + flags + "=02000000")
	}
	ask("D")
}
