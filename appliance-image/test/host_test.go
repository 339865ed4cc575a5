package test

import (
	"encoding/binary"
	"net"
	"path/filepath"
	"testing"
	"time"

	"vita/test/qemu"
)

// TestStream: what is lost between two hosts, and for how long nothing arrives,
// is what something between them has dropped.
func TestStream(t *testing.T) {
	dir := t.TempDir()
	var hosts [2]*Host
	var far [2]*net.UnixConn
	for i := range hosts {
		id := string('a' + byte(i))
		w, _, err := qemu.NewWire(dir, id)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.Close() })
		if far[i], err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, id+".far"), Net: "unixgram"}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = far[i].Close() })
		hosts[i] = NewHost(w, byte(i+1), "192.168."+string('1'+byte(i))+".254", "192.168."+string('1'+byte(i))+".1")
		t.Cleanup(hosts[i].Close)
	}
	const first, drop, until = 1000, 1020, 1040
	go func() { // a gateway
		for b := make([]byte, 2048); ; {
			n, from, err := far[0].ReadFromUnix(b)
			if err != nil {
				return // closed
			}
			if binary.BigEndian.Uint16(b[12:]) == etherARP {
				answer := append([]byte(nil), b[:n]...)
				answer[21] = 2
				copy(answer[22:28], "\x02gwmac")
				copy(answer[28:32], b[38:42])
				_, _ = far[0].WriteToUnix(answer, from)
				continue
			}
			if number := binary.BigEndian.Uint32(b[42:]); number < drop || number >= until {
				_, _ = far[1].WriteToUnix(b[:n], &net.UnixAddr{Name: filepath.Join(dir, "b.near"), Net: "unixgram"})
			}
		}
	}()
	untilFlows(t, hosts[0], hosts[1], 1, 10*time.Second)
	began := time.Now()
	s := NewStream(hosts[0], hosts[1], first)
	for hosts[1].Got(until+20, until+21) == 0 {
		if time.Since(began) > 30*time.Second {
			t.Fatal("nothing arrives behind the gap")
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Close()
	lost, sent := s.Lost(began, time.Now(), 100*time.Millisecond)
	if lost != until-drop || sent < until+20-first {
		t.Errorf("%d of %d are lost, want %d", lost, sent, until-drop)
	}
	from, to := s.Quiet(began)
	if gap := to.Sub(from); gap < (until-drop)*20*time.Millisecond || from.Sub(began) < (drop-first-1)*20*time.Millisecond {
		t.Errorf("nothing has arrived for %s, from %s on", gap, from.Sub(began))
	}
	if lost, _ := s.Lost(to, time.Now(), time.Second); lost != 0 {
		t.Errorf("%d are lost behind the gap", lost)
	}
}
