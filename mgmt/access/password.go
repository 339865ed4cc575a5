package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"
)

// Cost of one argon2id hash: the second recommendation of RFC 9106 section 4,
// for servers with little memory to spare.
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 4
	saltLen      = 16
	hashLen      = 32
)

// hashing bounds how many hashes are computed at once, and so the memory that
// a flood of log-ins can take: 2 × 64 MiB.
var hashing = make(chan struct{}, 2)

// ErrWeakPassword says that a password is too short to be hashed at all.
var ErrWeakPassword = errors.New("password: want at least 8 characters")

// HashPassword returns the PHC string of a password, by argon2id (RFC 9106).
func HashPassword(password string) (string, error) {
	if len(password) < 8 {
		return "", ErrWeakPassword
	}
	salt := make([]byte, saltLen)
	rand.Read(salt) // never fails since Go 1.24
	h := phc{time: argonTime, memory: argonMemory, threads: argonThreads, salt: salt}
	h.sum = h.compute(password)
	return h.String(), nil
}

// phc is a parsed hash in the format of the password hashing competition.
type phc struct {
	time, memory uint32
	threads      uint8
	salt, sum    []byte
}

func (h phc) compute(password string) []byte {
	hashing <- struct{}{}
	defer func() { <-hashing }()
	return argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, hashLen)
}

func (h phc) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.threads,
		b64.EncodeToString(h.salt), b64.EncodeToString(h.sum))
}

func parseHash(s string) (phc, error) {
	var h phc
	var version int
	part := strings.Split(s, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" {
		return h, errors.New("want $argon2id$v=…$m=…,t=…,p=…$salt$hash")
	}
	if _, err := fmt.Sscanf(part[2], "v=%d", &version); err != nil || version != argon2.Version {
		return h, fmt.Errorf("argon2 version %q is not %d", part[2], argon2.Version)
	}
	if _, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); err != nil {
		return h, fmt.Errorf("parameters %q: %w", part[3], err)
	}
	if h.time < 1 || h.time > 16 || h.threads < 1 || h.memory < 8*uint32(h.threads) || h.memory > 1<<20 {
		return h, fmt.Errorf("parameters %q are out of bounds", part[3])
	}
	var err error
	if h.salt, err = base64.RawStdEncoding.DecodeString(part[4]); err != nil || len(h.salt) < 8 {
		return h, errors.New("salt is not base64 or too short")
	}
	if h.sum, err = base64.RawStdEncoding.DecodeString(part[5]); err != nil || len(h.sum) != hashLen {
		return h, errors.New("hash is not base64 or not 32 bytes")
	}
	return h, nil
}

// decoy is compared when the user is unknown, so that the time an answer takes
// does not tell which names exist.
var decoy = sync.OnceValue(func() phc {
	h := phc{time: argonTime, memory: argonMemory, threads: argonThreads, salt: make([]byte, saltLen), sum: make([]byte, hashLen)}
	rand.Read(h.salt)
	rand.Read(h.sum)
	return h
})

// AcceptsPassword reports whether password is the user's. from names the
// client's address: too many failures from one address, or for one name, are
// refused without a look at the password until they have aged.
func (u *Users) AcceptsPassword(name, password, from string) bool {
	if u.verified.holds(name, password) {
		if _, ok := u.find(name); ok {
			return true
		}
	}
	now := time.Now()
	if !u.throttle.allow(now, "name "+name, "from "+from) {
		return false
	}
	h := decoy()
	one, ok := u.find(name)
	if ok = ok && one.PasswordHash != ""; ok {
		var err error
		if h, err = parseHash(one.PasswordHash); err != nil {
			return false
		}
	}
	if subtle.ConstantTimeCompare(h.compute(password), h.sum) != 1 || !ok {
		u.throttle.failed(now, "name "+name, "from "+from)
		return false
	}
	u.verified.add(name, password)
	return true
}

// throttle counts recent failures by key.
type throttle struct {
	mu   sync.Mutex
	seen map[string]failures
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

// cache remembers, for a short while, passwords that were right, so that every
// RESTCONF request does not cost a hash. It holds keyed digests only.
type cache struct {
	mu   sync.Mutex
	key  []byte
	seen map[[sha256.Size]byte]time.Time
}

const (
	cacheTTL  = 5 * time.Minute
	cacheSize = 1024
)

func (c *cache) digest(name, password string) (d [sha256.Size]byte) {
	if c.key == nil {
		c.key = make([]byte, 32)
		rand.Read(c.key)
	}
	m := hmac.New(sha256.New, c.key)
	fmt.Fprintf(m, "%d:%s%s", len(name), name, password)
	m.Sum(d[:0])
	return d
}

func (c *cache) holds(name, password string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.seen[c.digest(name, password)]
	return ok && time.Since(at) < cacheTTL
}

func (c *cache) add(name, password string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil || len(c.seen) >= cacheSize {
		c.seen = map[[sha256.Size]byte]time.Time{}
	}
	c.seen[c.digest(name, password)] = time.Now()
}
