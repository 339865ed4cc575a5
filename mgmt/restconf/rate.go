package restconf

import (
	"sync"

	"golang.org/x/time/rate"
)

// rates limits how many requests each user sends: one whose script runs wild does
// not keep the others from the gateway.
type rates struct {
	most  rate.Limit // requests a second
	burst int

	mu sync.Mutex
	of map[string]*rate.Limiter // by user; only of users who exist
}

func newRates(most float64, burst int) *rates {
	return &rates{most: rate.Limit(most), burst: burst, of: map[string]*rate.Limiter{}}
}

// allow says whether a user may send another request now.
func (l *rates) allow(user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.of[user]
	if one == nil {
		one = rate.NewLimiter(l.most, l.burst)
		l.of[user] = one
	}
	return one.Allow()
}

// forget drops what is known of a user who is gone.
func (l *rates) forget(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, user)
}
