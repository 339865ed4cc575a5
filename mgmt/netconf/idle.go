package netconf

import (
	"net"
	"sync"
	"time"

	"vita/mgmt/internal/waiting"
)

// idle ends an SSH connection whose client has logged in and has no NETCONF
// session on it for a while, whether it never opened one or all have ended. Of
// such connections there are only so many, too: past that the oldest of the
// busiest address goes.
type idle struct {
	conn  net.Conn
	room  *waiting.Room
	limit time.Duration

	mu       sync.Mutex
	sessions int
	over     bool
	timer    *time.Timer
}

func newIdle(c net.Conn, room *waiting.Room, limit time.Duration) *idle {
	i := &idle{conn: c, room: room, limit: limit}
	i.timer = time.AfterFunc(limit, func() { c.Close() })
	room.Enter(c)
	return i
}

// begin notes that a session has begun.
func (i *idle) begin() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.sessions++; i.sessions == 1 {
		i.timer.Stop()
		i.room.Leave(i.conn)
	}
}

// end notes that a session has ended.
func (i *idle) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.sessions--; i.sessions == 0 && !i.over {
		i.timer.Reset(i.limit)
		i.room.Enter(i.conn)
	}
}

// stop notes that the connection has ended.
func (i *idle) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.over = true
	i.timer.Stop()
	i.room.Leave(i.conn)
}
