package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// Upgrade sends an image to an appliance, which installs it, and returns its
// version.
func (c *Client) Upgrade(ctx context.Context, image io.Reader, downgrade, restart bool) (version string, err error) {
	q := url.Values{"downgrade": {strconv.FormatBool(downgrade)}, "restart": {strconv.FormatBool(restart)}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server+"/vita/upgrade?"+q.Encode(), io.NopCloser(image)) // it is the caller's to close
	if err != nil {
		return "", err
	}
	c.authorize(r)
	r.Header.Set("Content-Type", "application/octet-stream")
	r.Header.Set("Accept", mediaJSON)
	unlimited := *c.http
	unlimited.Timeout = 0
	resp, err := unlimited.Do(r)
	if err != nil {
		return "", trust(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", refusal(resp.Status, answer)
	}
	var out struct {
		Version string `json:"version"`
	}
	return out.Version, json.Unmarshal(answer, &out)
}

// UpgradeFrom lets an appliance fetch an image and install it.
func (c *Client) UpgradeFrom(ctx context.Context, from string, downgrade, restart bool) (version string, err error) {
	var out struct {
		Output struct {
			Version string `json:"version"`
		} `json:"vita-esp-gateway-ext:output"`
	}
	unlimited := *c
	client := *c.http
	client.Timeout = 0
	unlimited.http = &client
	err = unlimited.invoke(ctx, "upgrade", map[string]any{"url": from, "downgrade": downgrade, "restart": restart}, &out)
	return out.Output.Version, err
}

// UpgradeStatus returns what runs on an appliance, and what came of its last
// upgrade, a line each.
func (c *Client) UpgradeStatus(ctx context.Context) ([]string, error) {
	var out struct {
		Output struct {
			Version  string `json:"version"`
			Slot     string `json:"slot"`
			Trial    bool   `json:"trial"`
			Upgraded string `json:"upgraded"`
			Result   string `json:"result"`
		} `json:"vita-esp-gateway-ext:output"`
	}
	if err := c.invoke(ctx, "upgrade-status", nil, &out); err != nil {
		return nil, err
	}
	o := out.Output
	lines := []string{"version " + o.Version + " runs, in slot " + o.Slot}
	if o.Trial {
		lines[0] += ", on trial"
	}
	if o.Upgraded != "" {
		lines = append(lines, "last upgrade: version "+o.Upgraded+", "+o.Result)
	}
	return lines, nil
}
