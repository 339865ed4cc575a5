package lab

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"
)

// Ping sends n echo requests, one each interval, and returns how many of them have
// got no answer within 30 s of the last. Without a deadline ping waits for its last
// answers hardly longer than an interval, which is nothing on a busy machine; with
// one it goes on sending until it has enough. It is asked for some more than n, since
// answers may come in another order.
func (l *Lab) Ping(ctx context.Context, host, to string, n int, interval time.Duration, options ...string) (lost int, err error) {
	const more = 10
	span := time.Duration(n)*interval + 30*time.Second
	args := append([]string{
		"ping", "-n", "-c", strconv.Itoa(n + more), "-i", strconv.FormatFloat(interval.Seconds(), 'f', 3, 64),
		"-w", strconv.Itoa(int(math.Ceil(span.Seconds()))),
	}, options...)
	out, err := l.Run(ctx, host, append(args, to)...)
	if !summary.MatchString(out) { // else the exit status says what is counted here
		return 0, fmt.Errorf("ping %s: %w: %s", to, err, out)
	}
	return n - answers(out, n), nil
}

var (
	answer  = regexp.MustCompile(`(?m)^\d+ bytes from \S+ icmp_seq=(\d+) `)
	summary = regexp.MustCompile(`\d+ packets transmitted`)
)

// answers counts which of the first n requests have got an answer, by what ping
// prints.
func answers(out string, n int) int {
	seen := make(map[string]bool)
	for _, m := range answer.FindAllStringSubmatch(out, -1) {
		if seq, err := strconv.Atoi(m[1]); err == nil && seq <= n {
			seen[m[1]] = true
		}
	}
	return len(seen)
}
