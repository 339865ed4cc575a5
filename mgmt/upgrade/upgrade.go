// Package upgrade passes upgrades on to the init of an appliance, which checks
// and installs them: from a client's request, or from where a client says that
// one is. A gateway that is no appliance has none.
package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"vita/internal/appliance"
)

// MaxSize bounds an upgrade: what init takes at most, and a little more.
const MaxSize = 112 << 20

// MaxTime bounds the fetching of one.
const MaxTime = time.Hour

// restartAfter is how long an answer has to reach the client.
const restartAfter = 2 * time.Second

// Options are how an upgrade is to be done.
type Options struct {
	Downgrade bool // take a version that is not newer than what runs
	Restart   bool // with it, at once
}

// Upgrader asks an appliance's init.
type Upgrader struct {
	Init appliance.Client
	HTTP *http.Client // nil: one that trusts the system's authorities
}

var errTooBig = fmt.Errorf("more than %d bytes: this is no upgrade of an appliance", MaxSize)

// Install installs an upgrade, and returns its version.
func (u *Upgrader) Install(ctx context.Context, r io.Reader, o Options) (version string, err error) {
	a, err := u.Init.Ask(ctx, appliance.Request{Do: appliance.Upgrade, Downgrade: o.Downgrade}, &limited{r: r, left: MaxSize})
	if err != nil {
		return "", err
	}
	if o.Restart {
		time.AfterFunc(restartAfter, func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_, _ = u.Init.Ask(ctx, appliance.Request{Do: appliance.Restart}, nil) // the machine ends, or its operator sees that it does not
		})
	}
	return a.Version, nil
}

// limited ends with an error where there is more than is allowed.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooBig
	}
	n, err := l.r.Read(b[:min(int64(len(b)), l.left)])
	l.left -= int64(n)
	return n, err
}

// Fetch installs the upgrade that is at an address.
func (u *Upgrader) Fetch(ctx context.Context, from string, o Options) (version string, err error) {
	if u.Init.Socket == "" {
		return "", appliance.ErrNone
	}
	at, err := url.Parse(from)
	if err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" {
		return "", errors.New("want an address as https://HOST/FILE")
	}
	ctx, cancel := context.WithTimeout(ctx, MaxTime)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return "", err
	}
	client := u.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(q)
	if err != nil {
		return "", fmt.Errorf("fetch the upgrade: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("fetch the upgrade: %s answers %s", at.Host, resp.Status)
	}
	return u.Install(ctx, resp.Body, o)
}

// Status returns what runs, and what came of the last upgrade.
func (u *Upgrader) Status(ctx context.Context) (appliance.Answer, error) {
	return u.Init.Ask(ctx, appliance.Request{Do: appliance.Status}, nil)
}
