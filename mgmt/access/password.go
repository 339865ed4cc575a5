package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
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

// computed counts the hashes, for those who look at what a log-in costs.
var computed atomic.Int64

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
	computed.Add(1)
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
