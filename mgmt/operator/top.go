package operator

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// clearScreen moves to the top left and clears, by ECMA-48.
const clearScreen = "\x1b[H\x1b[2J"

// Top prints all counters that are not zero with their rates, every interval
// until ctx ends or, with rounds > 0, that many times. Without a screen the
// tables follow one another.
func (c *Client) Top(ctx context.Context, w io.Writer, interval time.Duration, rounds int, screen bool) error {
	var last map[string]uint64
	var at time.Time
	for n := 0; rounds == 0 || n < rounds; n++ {
		if n > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(interval):
			}
		}
		lines, _, err := c.Get(ctx, State, "/gateway-state")
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		now := time.Now()
		if screen {
			fmt.Fprint(w, clearScreen)
		}
		last = rates(w, lines, last, now.Sub(at))
		at = now
	}
	return nil
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
