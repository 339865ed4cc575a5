package access

import (
	"crypto/subtle"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// AcceptsPassword reports whether password is the user's. from names the
// client's address: too many failures from one address, or for one name, are
// refused without a look at the password until they have aged. A user who has
// logged in from an address before is judged there by the failures of this name
// from this address alone, so that a flood, whether for this name from elsewhere
// or for other names from here, locks out nobody who works already.
func (u *Users) AcceptsPassword(name, password, from string) bool {
	if u.remembered(name, password) {
		return true
	}
	if !u.byPassword() || !userName.MatchString(name) {
		return false // nobody can be called so; nor is it to be remembered, however long
	}
	from = network(from)
	// One at a time from an address: of a flood at once, those past the free
	// failures find the failures of those before; of a client's parallel
	// requests, all but the first find the password remembered.
	turn := u.turns.of(from)
	turn.Lock()
	defer turn.Unlock()
	if u.remembered(name, password) {
		return true
	}
	now := time.Now()
	pair := "pair " + from + " " + name
	keys := []string{"name " + name, "from " + from}
	if u.throttle.hasWorked(now, pair) {
		keys = keys[:0]
	}
	if !u.throttle.allow(now, append(keys, pair)...) {
		return false
	}
	h := decoy()
	verified := u.cache() // that of the users who are asked now
	one, ok := u.find(name)
	if ok = ok && one.PasswordHash != ""; ok {
		var err error
		if h, err = parseHash(one.PasswordHash); err != nil {
			return false
		}
	}
	if subtle.ConstantTimeCompare(h.compute(password), h.sum) != 1 || !ok {
		u.throttle.failed(now, append(keys, pair)...)
		return false
	}
	u.throttle.worked(now, pair)
	verified.add(name, password)
	return true
}

func (u *Users) remembered(name, password string) bool {
	return u.byPassword() && u.cache().holds(name, password)
}

func (u *Users) byPassword() bool {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.passwords
}

func (u *Users) cache() *cache {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.verified
}

// network is what clients are told apart by: an IPv4 address, or the /64 of an
// IPv6 address, of which one client has as many as it likes.
func network(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if a = a.Unmap(); a.Is4() {
		return a.String()
	}
	p, _ := a.WithZone("").Prefix(64) // an IPv6 address has one
	return p.String()
}

// turns are locks by address. Which addresses share one, nobody can foretell.
type turns struct {
	once  sync.Once
	seed  maphash.Seed
	locks [64]sync.Mutex
}

func (t *turns) of(key string) *sync.Mutex {
	t.once.Do(func() { t.seed = maphash.MakeSeed() })
	return &t.locks[maphash.String(t.seed, key)%uint64(len(t.locks))]
}

// throttle counts recent failures by key.
type throttle struct {
	mu   sync.Mutex
	seen map[string]failures
	good map[string]time.Time // when a user last logged in from an address
}

type failures struct {
	n    int
	last time.Time
}

// After freeFailures, each further attempt for the same name or address has to
// wait twice as long as the one before, up to maxDelay.
const (
	freeFailures = 5
	maxDelay     = time.Minute
	forgetAfter  = 15 * time.Minute
	maxTracked   = 10_000
	rememberGood = 30 * 24 * time.Hour
)

func (t *throttle) allow(now time.Time, keys ...string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys {
		f := t.seen[k]
		if f.n < freeFailures {
			continue
		}
		delay := min(time.Second<<min(f.n-freeFailures, 10), maxDelay)
		if now.Sub(f.last) < delay {
			return false
		}
	}
	return true
}

func (t *throttle) failed(now time.Time, keys ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil {
		t.seen = map[string]failures{}
	}
	if len(t.seen) >= maxTracked {
		for k, f := range t.seen {
			if now.Sub(f.last) > forgetAfter {
				delete(t.seen, k)
			}
		}
		if len(t.seen) >= maxTracked { // a flood of names: forget some rather than grow
			n := 0
			for k := range t.seen {
				delete(t.seen, k)
				if n++; n > maxTracked/2 {
					break
				}
			}
		}
	}
	for _, k := range keys {
		f := t.seen[k]
		if now.Sub(f.last) > forgetAfter {
			f.n = 0
		}
		t.seen[k] = failures{n: f.n + 1, last: now}
	}
}

// worked notes that a pair of address and user has logged in: its failures are
// forgotten.
func (t *throttle) worked(now time.Time, pair string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.seen, pair)
	if t.good == nil || len(t.good) >= maxTracked {
		t.good = map[string]time.Time{}
	}
	t.good[pair] = now
}

// hasWorked reports whether a pair has logged in lately.
func (t *throttle) hasWorked(now time.Time, pair string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, ok := t.good[pair]
	return ok && now.Sub(at) < rememberGood
}
