package netif

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vita/drivers"
	"vita/internal/testnet"
)

func TestOpen(t *testing.T) {
	ns := testnet.New(t)
	testnet.Connect(t, ns, "va", ns, "vb", testnet.Veth{MTU: 1400, Queues: 3})
	ns.Run(t, "ip", "link", "set", "va", "address", "02:11:22:33:44:55")
	err := ns.Do(func() error {
		i, err := Open("va")
		if err != nil {
			return err
		}
		if i.MTU != 1400 || i.Queues != 3 || i.MAC != [6]byte{2, 0x11, 0x22, 0x33, 0x44, 0x55} || !i.Up {
			t.Errorf("%s: mtu %d, %d queues, address % x, up %v", i.Name, i.MTU, i.Queues, i.MAC, i.Up)
		}
		if err := i.Receive([6]byte{2, 9, 9, 9, 9, 9}); err != nil {
			return err
		}
		if n := testing.AllocsPerRun(20, func() { _ = i.Refresh() }); n != 0 {
			t.Errorf("Refresh: %v allocations", n)
		}
		if err := i.Close(); err != nil {
			return err
		}
		for name, want := range map[string]error{"none": drivers.ErrNoInterface, "": drivers.ErrNoInterface, "a/b": drivers.ErrNoInterface, "lo": drivers.ErrUnsupported} {
			if _, err := Open(name); !errors.Is(err, want) {
				t.Errorf("%q: %v, want %v", name, err, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A device that takes VLAN tags off is made to leave them in, until the last port
// is closed.
func TestKeepTags(t *testing.T) {
	ns := testnet.New(t)
	testnet.Connect(t, ns, "va", ns, "vb", testnet.Veth{Queues: 2})
	takesOff := func() bool {
		return strings.Contains(ns.Run(t, "ethtool", "-k", "va"), "rx-vlan-offload: on")
	}
	if !takesOff() {
		t.Fatal("the device leaves tags in by itself: this test shows nothing")
	}
	err := ns.Do(func() error {
		var ports [2]*Interface
		for q := range ports {
			i, err := Open("va")
			if err != nil {
				return err
			}
			if _, err := i.Claim([]int{q}); err != nil {
				return err
			}
			if err := i.KeepTags(); err != nil {
				return err
			}
			if i.Driver() != "veth" {
				t.Errorf("driver %q", i.Driver())
			}
			ports[q] = i
		}
		for _, i := range ports {
			if takesOff() {
				t.Error("the device takes tags off")
			}
			if err := i.Close(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !takesOff() {
		t.Error("the device is not as it was")
	}
}

// An interface that Open has brought up goes down again with Close.
func TestOpenBringsUp(t *testing.T) {
	ns := testnet.New(t)
	testnet.Connect(t, ns, "va", ns, "vb", testnet.Veth{})
	ns.Run(t, "ip", "link", "set", "va", "down")
	err := ns.Do(func() error {
		i, err := Open("va")
		if err != nil {
			return err
		}
		if err := i.Refresh(); err != nil || i.state.flags&unix.IFF_UP == 0 {
			t.Errorf("flags %#x after Open: %v", i.state.flags, err)
		}
		if err := i.Close(); err != nil {
			return err
		}
		ifr, err := unix.NewIfreq("va")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil || ifr.Uint16()&unix.IFF_UP != 0 {
			t.Errorf("flags %#x after Close: %v", ifr.Uint16(), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func message(attrs ...[]byte) []byte {
	m := make([]byte, 32)
	binary.NativeEndian.PutUint16(m[4:], unix.RTM_NEWLINK)
	for _, a := range attrs {
		m = append(m, a...)
		m = append(m, make([]byte, -len(m)&3)...)
	}
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	return m
}

func attr(kind uint16, b []byte) []byte {
	a := binary.NativeEndian.AppendUint16(nil, uint16(4+len(b)))
	return append(binary.NativeEndian.AppendUint16(a, kind), b...)
}

func FuzzParse(f *testing.F) {
	f.Add(message())
	f.Add(message(attr(unix.IFLA_ADDRESS, make([]byte, 6)), attr(unix.IFLA_MTU, []byte{0, 5, 0, 0}), attr(unix.IFLA_STATS64, make([]byte, 200))))
	f.Add(message(attr(unix.IFLA_MTU, []byte{1})))
	f.Add([]byte{20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xed, 0xff, 0xff, 0xff})
	f.Fuzz(func(_ *testing.T, b []byte) {
		var s linkState
		_ = parse(b, &s)
	})
}
