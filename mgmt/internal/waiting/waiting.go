// Package waiting bounds the connections of clients that have not logged in.
//
// Anyone can open connections and say nothing. A server that turns the newest
// away once there are too many is closed to everybody by the first who does so;
// here the oldest has to go, of the address that has the most, so that a client
// that does log in finds room at once. It knows no protocol.
package waiting

import (
	"net"
	"slices"
	"sync"
)

// Room holds connections, at most so many.
type Room struct {
	most int

	mu    sync.Mutex
	conns []entry // oldest first
}

type entry struct {
	conn net.Conn
	from string
}

// NewRoom returns a room for so many connections.
func NewRoom(most int) *Room { return &Room{most: most} }

// Enter takes in a connection. Where that is one too many, another is closed.
func (r *Room) Enter(c net.Conn) {
	if gone := r.enter(c); gone != nil {
		gone.Close()
	}
}

func (r *Room) enter(c net.Conn) (gone net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, entry{c, address(c)})
	if len(r.conns) <= r.most {
		return nil
	}
	of := map[string]int{}
	for _, e := range r.conns {
		of[e.from]++
	}
	oldest := 0
	for i, e := range r.conns {
		if of[e.from] > of[r.conns[oldest].from] {
			oldest = i
		}
	}
	gone = r.conns[oldest].conn
	r.conns = slices.Delete(r.conns, oldest, oldest+1)
	return gone
}

// Leave lets a connection out: its client has logged in, or it has ended.
func (r *Room) Leave(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = slices.DeleteFunc(r.conns, func(e entry) bool { return e.conn == c })
}

// Len returns how many are in the room.
func (r *Room) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

// address is what clients are told apart by: an IPv4 address, or the /64 of an
// IPv6 address, of which one client has as many as it likes.
func address(c net.Conn) string {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return c.RemoteAddr().String()
	}
	if tcp.IP.To4() == nil {
		return tcp.IP.Mask(net.CIDRMask(64, 128)).String()
	}
	return tcp.IP.String()
}

// Listener is a listener whose connections begin in the room, and leave it at
// their end unless they were let out before.
type Listener struct {
	net.Listener
	Room *Room
}

// Accept waits for the next connection.
func (l Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w := &conn{Conn: c, room: l.Room}
	l.Room.Enter(w)
	return w, nil
}

type conn struct {
	net.Conn
	room *Room
}

func (c *conn) Close() error {
	c.room.Leave(c)
	return c.Conn.Close()
}
