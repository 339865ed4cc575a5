package restconf

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"vita/mgmt/upgrade"
)

// upgrades takes what says that it is good.
type upgrades struct{}

func (upgrades) Install(_ context.Context, r io.Reader, o upgrade.Options) (string, error) {
	b, err := io.ReadAll(r)
	switch {
	case err != nil:
		return "", err
	case !strings.HasPrefix(string(b), "good"):
		return "", errors.New("the signature is another")
	case o.Downgrade && !o.Restart:
		return "0.9", nil
	}
	return "1.1", nil
}

func TestUpgrade(t *testing.T) {
	c := serve(t)
	if resp, body := c.do("POST", "/vita/upgrade?restart=true", "good"+strings.Repeat("x", 2<<20)); resp.StatusCode != http.StatusOK || body != `{"version":"1.1"}` {
		t.Errorf("%s %s", resp.Status, body)
	}
	if resp, body := c.do("POST", "/vita/upgrade?restart=false&downgrade=true", "good"); resp.StatusCode != http.StatusOK || !strings.Contains(body, "0.9") {
		t.Errorf("%s %s", resp.Status, body)
	}
	if resp, body := c.do("POST", "/vita/upgrade", "bad"); resp.StatusCode < 400 || !strings.Contains(body, "the signature is another") {
		t.Errorf("%s %s", resp.Status, body)
	}
	for _, query := range []string{"?restart=maybe", "?restart=true&restart=true", "?other=true"} {
		if resp, body := c.do("POST", "/vita/upgrade"+query, "good"); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "query") {
			t.Errorf("%s: %s %s", query, resp.Status, body)
		}
	}
	if resp, _ := c.do("GET", "/vita/upgrade", ""); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %s", resp.Status)
	}
}
