package test

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// settings configures an appliance's machine over NETCONF, and looks at what comes
// of it from outside. It returns the servers that the machine is left with.
func settings(t *testing.T, m *Machine, n *Netconf, first *logs) (*logs, *times) {
	t.Helper()
	log, clock := newLogs(t), newTimes(t)
	const ietf, ours = `<system xmlns="urn:ietf:params:xml:ns:yang:ietf-system">%s</system>`, `<appliance xmlns="vita:esp-gateway-ext">%s</appliance>`
	// A name that the machine cannot have, and servers that it cannot ask, are
	// refused with their path; nothing is changed.
	for _, bad := range []struct{ config, path string }{
		{fmt.Sprintf(ietf, `<hostname>gw 2</hostname>`), `/ietf-system:system/ietf-system:hostname`},
		{fmt.Sprintf(ietf, `<dns-resolver><server><name>a</name><udp-and-tcp><address>ns.example.net</address></udp-and-tcp></server></dns-resolver>`), `ietf-system:udp-and-tcp/ietf-system:address`},
		{fmt.Sprintf(ours, `<cpus>1-0</cpus>`), `/vita-esp-gateway-ext:appliance/vita-esp-gateway-ext:cpus`},
	} {
		out, err := n.Call(`<edit-config><target><running/></target><config>` + bad.config + `</config></edit-config>`)
		if err == nil || !strings.Contains(err.Error(), bad.path) {
			t.Errorf("%s: %s, %v", bad.config, out, err)
		}
	}
	n.Configure(t, fmt.Sprintf(ietf, `<hostname>gw2</hostname>`+
		`<ntp><server><name>lab</name><udp><address>10.0.2.2</address><port>`+clock.port+`</port></udp></server></ntp>`+
		`<dns-resolver><search>example.net</search><server><name>lab</name><udp-and-tcp><address>10.0.2.3</address></udp-and-tcp></server></dns-resolver>`)+
		fmt.Sprintf(ours, `<syslog><address>10.0.2.2</address><port>`+log.port+`</port></syslog><hugepages>4</hugepages><cpus>9</cpus>`))
	log.expect(t, ` gw2 init - - - \x{feff}this is host gw2`)
	log.expect(t, ` gw2 init - - - \x{feff}names: nameserver 10\.0\.2\.3; search example\.net`)
	log.expect(t, ` gw2 init - - - \x{feff}huge pages \(4\) and processors \("9"\) are as configured from the next restart on`)
	log.expect(t, ` gw2 kernel - - - `) // what there was before the server
	clock.expect(t)
	m.Type(t, "status")
	m.Expect(t, `host gw2, management enp`, 10*time.Second)
	m.Expect(t, `time servers: 10\.0\.2\.2:`+clock.port+`\s+10\.0\.2\.2:`+clock.port+` was off by `, 10*time.Second)
	m.Expect(t, `log servers: 10\.0\.2\.2:`+log.port, 10*time.Second)

	// What is configured takes the place of what the machine was told first.
	first.forget()
	n.Configure(t, fmt.Sprintf(ietf, `<hostname>gw3</hostname>`))
	log.expect(t, ` gw3 init - - - \x{feff}this is host gw3`)
	if got := first.all(); len(got) > 0 {
		t.Errorf("the first server still gets %q", got)
	}
	// Nobody is asked for the time any more.
	n.Configure(t, fmt.Sprintf(ietf, `<ntp><enabled>false</enabled></ntp>`))
	for range 20 { // init is told after the commit
		m.Type(t, "status")
		time.Sleep(500 * time.Millisecond)
		if strings.Contains(m.Console(1500), "time servers: none") {
			break
		}
	}
	m.Expect(t, `time servers: none`, 10*time.Second)
	n.Configure(t, fmt.Sprintf(ietf, `<ntp><enabled>true</enabled></ntp>`))
	log.forget()
	clock.forget()
	return log, clock
}

// stay sees that a machine is as it was configured after a restart, from before
// vitad has run on; and that processors that it does not have keep nothing from
// starting.
func stay(t *testing.T, log *logs, clock *times) {
	t.Helper()
	log.expect(t, ` gw3 kernel - - - \x{feff}Linux version 6`)
	log.expect(t, ` gw3 init - - - \x{feff}huge pages: 4$`)
	log.expect(t, ` gw3 init - - - \x{feff}processors 9: the machine has only 0-1: the engine shares all of them`)
	clock.expect(t)
}

// times is a time server.
type times struct {
	port  string
	asked chan struct{}
}

// newTimes starts a time server, which guests reach at 10.0.2.2.
func newTimes(t testing.TB) *times {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s := &times{asked: make(chan struct{}, 1)}
	_, s.port, _ = net.SplitHostPort(c.LocalAddr().String())
	go func() {
		for b := make([]byte, 1024); ; {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return // closed
			}
			if n < 48 || b[0]&7 != 3 { // of a client
				continue
			}
			_, _ = c.WriteTo(timeAnswer(b, time.Now()), from) // a client that has gone is none
			select {
			case s.asked <- struct{}{}:
			default:
			}
		}
	}()
	return s
}

// timeAnswer answers a client's packet as a server of stratum 1 (RFC 5905, section
// 7.3).
func timeAnswer(q []byte, now time.Time) []byte {
	const since1900 = 2208988800
	stamp := func(b []byte, at time.Time) {
		binary.BigEndian.PutUint32(b, uint32(at.Unix()+since1900))
		binary.BigEndian.PutUint32(b[4:], uint32(uint64(at.Nanosecond())<<32/1e9))
	}
	r := make([]byte, 48)
	r[0], r[1], r[2], r[3] = q[0]&0x38|4, 1, 6, 0xec // version, server; stratum; poll; precision
	copy(r[12:], "LAB\x00")
	stamp(r[16:], now.Add(-time.Second)) // when its own clock was set
	copy(r[24:32], q[40:48])             // when the client has sent
	stamp(r[32:], now)
	stamp(r[40:], now)
	return r
}

// expect waits until the server is asked.
func (s *times) expect(t testing.TB) {
	t.Helper()
	select {
	case <-s.asked:
	case <-time.After(30 * time.Second):
		t.Fatal("nobody has asked for the time")
	}
}

func (s *times) forget() {
	select {
	case <-s.asked:
	default:
	}
}
