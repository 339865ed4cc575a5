package afxdp

import (
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"vita/drivers/internal/xsk"
	"vita/internal/pktbuf"
)

// registrations holds, by pool, the open sockets on its memory: a further one
// shares the registration of any of them that has the same copy mode. Only
// opening and closing take the lock.
var registrations = struct {
	sync.Mutex
	m map[*pktbuf.Pool][]*xsk.Socket
}{m: map[*pktbuf.Pool][]*xsk.Socket{}}

// openShared opens a socket on the pool's memory. A busy queue is tried again
// for a while: see busyFor.
func openShared(pool *pktbuf.Pool, o xsk.Options) (*xsk.Socket, error) {
	registrations.Lock()
	defer registrations.Unlock()
	for _, s := range registrations.m[pool] {
		if s.ZeroCopy() == o.ZeroCopy {
			o.Share = s
			break
		}
	}
	deadline := time.Now().Add(busyFor)
	for {
		s, err := xsk.Open(o)
		if err == nil {
			registrations.m[pool] = append(registrations.m[pool], s)
			return s, nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return nil, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// closeShared closes a socket. The registration stays as long as a socket uses
// it.
func closeShared(pool *pktbuf.Pool, s *xsk.Socket) error {
	registrations.Lock()
	defer registrations.Unlock()
	left := slices.DeleteFunc(registrations.m[pool], func(o *xsk.Socket) bool { return o == s })
	if len(left) == 0 {
		delete(registrations.m, pool)
	} else {
		registrations.m[pool] = left
	}
	return s.Close()
}
