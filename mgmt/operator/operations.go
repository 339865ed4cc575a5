package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const operations = "/restconf/operations/vita-esp-gateway-ext:"

// invoke carries out one of the gateway's own operations and reads its output
// into out, where it is not nil.
func (c *Client) invoke(ctx context.Context, name string, in map[string]any, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(map[string]any{"vita-esp-gateway-ext:input": in}); err != nil {
			return err
		}
	}
	answer, err := c.do(ctx, http.MethodPost, operations+name, mediaJSON, body)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the answer of %s is not understood: %w", name, err)
	}
	return nil
}

// Rekey begins a key exchange for a route.
func (c *Client) Rekey(ctx context.Context, route string) error {
	return c.invoke(ctx, "rekey", map[string]any{"route": route}, nil)
}

// ClearCounters makes all counters begin at zero.
func (c *Client) ClearCounters(ctx context.Context) error {
	return c.invoke(ctx, "clear-counters", nil, nil)
}

// Shutdown ends the gateway.
func (c *Client) Shutdown(ctx context.Context) error { return c.invoke(ctx, "shutdown", nil, nil) }

// Rollback stages in the candidate what running was before the last n commits.
func (c *Client) Rollback(ctx context.Context, n int) error {
	return c.invoke(ctx, "rollback", map[string]any{"commits": n}, nil)
}

// Commits is a part of the history.
type Commits []struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	User      string    `json:"user"`
	Transport string    `json:"transport"`
	Comment   string    `json:"comment"`
	Change    []struct {
		Path string  `json:"path"`
		Old  *string `json:"old"`
		New  *string `json:"new"`
	} `json:"change"`
}

// History returns the newest commits, the newest first.
func (c *Client) History(ctx context.Context, most int, changes bool) (Commits, error) {
	var out struct {
		Output struct {
			Commit Commits `json:"commit"`
		} `json:"vita-esp-gateway-ext:output"`
	}
	err := c.invoke(ctx, "history", map[string]any{"most": most, "changes": changes}, &out)
	return out.Output.Commit, err
}

// Lines returns the history as text: a line a commit, and one below it for each
// leaf that it changed, as Diff writes them.
func (cs Commits) Lines() []string {
	var out []string
	for _, c := range cs {
		line := fmt.Sprintf("%s  %s  %s by %s", c.ID, c.Time.Local().Format("2006-01-02 15:04:05"), c.User, c.Transport)
		if c.Transport == "" {
			line = strings.TrimSuffix(line, " by ")
		}
		if c.Comment != "" {
			line += ": " + c.Comment
		}
		out = append(out, line)
		for _, change := range c.Change {
			path := strings.ReplaceAll(change.Path, "vita-esp-gateway:", "")
			if change.Old != nil {
				out = append(out, "  - "+Line{path, *change.Old}.String())
			}
			if change.New != nil {
				out = append(out, "  + "+Line{path, *change.New}.String())
			}
		}
	}
	return out
}
