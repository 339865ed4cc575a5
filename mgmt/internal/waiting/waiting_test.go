package waiting

import (
	"net"
	"testing"
	"time"
)

// from is a connection from an address that notes its end.
type from struct {
	net.Conn
	ip     string
	closed bool
}

func (f *from) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(f.ip), Port: 1} }
func (f *from) Close() error         { f.closed = true; return nil }

func TestTheOldestOfTheBusiestGoes(t *testing.T) {
	r := NewRoom(4)
	enter := func(ip string) *from {
		f := &from{ip: ip}
		r.Enter(f)
		return f
	}
	good := enter("192.0.2.1")
	first, second, third := enter("192.0.2.2"), enter("192.0.2.2"), enter("192.0.2.2")
	late := enter("192.0.2.3")
	if good.closed || !first.closed || second.closed || third.closed || late.closed || r.Len() != 4 {
		t.Fatalf("good %v first %v second %v third %v late %v", good.closed, first.closed, second.closed, third.closed, late.closed)
	}
	r.Leave(second)
	another := enter("192.0.2.4")
	if third.closed || another.closed || r.Len() != 4 {
		t.Fatal("somebody had to go although there was room")
	}
	enter("192.0.2.4")
	if !another.closed {
		t.Fatal("the one of the busiest address is still there")
	}
}

func TestAddressesOfOneNetworkAreOne(t *testing.T) {
	r := NewRoom(3)
	good := &from{ip: "2001:db8:1::1"}
	bad := []*from{{ip: "2001:db8:2::1"}, {ip: "2001:db8:2::2"}, {ip: "2001:db8:2::3"}}
	r.Enter(good)
	for _, b := range bad {
		r.Enter(b)
	}
	if good.closed || !bad[0].closed {
		t.Fatalf("good closed %v, the flood's first %v", good.closed, bad[0].closed)
	}
}

func TestListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listener{inner, NewRoom(1)}
	defer l.Close()
	var served [2]net.Conn
	for i := range served {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if served[i], err = l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	if err := served[0].SetDeadline(time.Now().Add(time.Minute)); err == nil {
		t.Error("the first connection is still open")
	}
	if l.Room.Len() != 1 {
		t.Fatalf("%d in the room", l.Room.Len())
	}
	served[1].Close()
	if l.Room.Len() != 0 {
		t.Fatal("a connection that has ended is still in the room")
	}
}
