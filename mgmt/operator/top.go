package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// clearScreen moves to the top left and clears, by ECMA-48.
const clearScreen = "\x1b[H\x1b[2J"

// TopOptions shape what Top prints.
type TopOptions struct {
	Interval time.Duration
	Rounds   int  // how many tables; 0: until the context ends
	Screen   bool // one table in the place of the other; false: they follow one another
	Each     bool // what is counted of each route and association, too
}

// repeat reads and shows until the context ends, or there were enough rounds.
// What read returns is told how long ago it was called before.
func (o *TopOptions) repeat(ctx context.Context, w io.Writer, read func() (show func(since time.Duration), err error)) error {
	var at time.Time
	for n := 0; o.Rounds == 0 || n < o.Rounds; n++ {
		if n > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(o.Interval):
			}
		}
		show, err := read()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		now := time.Now()
		if o.Screen {
			fmt.Fprint(w, clearScreen)
		} else if n > 0 {
			fmt.Fprintln(w)
		}
		show(now.Sub(at))
		at = now
	}
	return nil
}

// Top prints all counters that are not zero with their rates.
func (c *Client) Top(ctx context.Context, w io.Writer, o TopOptions) error {
	var last map[string]uint64
	return o.repeat(ctx, w, func() (func(time.Duration), error) {
		lines, err := c.counters(ctx, o.Each)
		return func(since time.Duration) { last = rates(w, lines, last, since) }, err
	})
}

// counters reads the counters; those of each route and association, which can
// be thousands, only where they are wanted.
func (c *Client) counters(ctx context.Context, each bool) ([]Line, error) {
	if each {
		lines, _, err := c.Get(ctx, State, "/gateway-state")
		return lines, err
	}
	at, err := parse("/gateway-state")
	if err != nil {
		return nil, err
	}
	var fields []string
	for _, n := range at.Schema().Children {
		switch n.Name {
		case "route", "security-association", "inbound-sa", "neighbour":
		default:
			fields = append(fields, n.QName())
		}
	}
	body, err := c.do(ctx, http.MethodGet, running+"/"+at.RESTCONF()+"?fields="+url.QueryEscape(strings.Join(fields, ";")), "", nil)
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return flatten(at, body)
}

// rates prints one table and returns the counters for the next.
func rates(w io.Writer, lines []Line, last map[string]uint64, since time.Duration) map[string]uint64 {
	next := map[string]uint64{}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "total\tper second\t\n")
	for _, l := range lines {
		v, err := strconv.ParseUint(l.Value, 10, 64)
		name := strings.TrimPrefix(l.Path, "/gateway-state/")
		if err != nil || strings.HasSuffix(name, "/spi") || strings.HasSuffix(name, "/queue") {
			continue
		}
		next[name] = v
		if v == 0 {
			continue
		}
		rate := ""
		if before, ok := last[name]; ok && v >= before && since > 0 {
			rate = strconv.FormatFloat(float64(v-before)/since.Seconds(), 'f', 0, 64)
		}
		fmt.Fprintf(t, "%d\t%s\t  %s\n", v, rate, name)
	}
	_ = t.Flush() // nothing can be done about a terminal that is gone
	return next
}
