// Demo shows the product's main job on one machine: see the README. It needs
// root, for it makes network namespaces, and removes them again, also on
// Ctrl-C.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"vita/test/scenario"
)

func main() {
	build := flag.String("build", "build", "folder with vitad, vita-engine and vitactl")
	out := flag.String("json", "build/demo.json", "file for the result")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := demo(ctx, *build, *out); err != nil {
		fmt.Printf("demo: FAIL: %v\n", err)
		os.Exit(1)
	}
	fmt.Println("demo: PASS")
}

func demo(ctx context.Context, build, out string) error {
	started := time.Now()
	res, err := scenario.Run(ctx, scenario.Options{
		Build: build,
		Say: func(format string, a ...any) {
			fmt.Printf("%6.1fs  %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, a...))
		},
	})
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, append(b, '\n'), 0o644); err != nil {
		return err
	}
	table(res)
	if f := res.Failures(); len(f) > 0 {
		return fmt.Errorf("%s", strings.Join(f, "; "))
	}
	return nil
}

func table(r *scenario.Result) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	row := func(what, format string, a ...any) { fmt.Fprintf(w, "%s\t%s\n", what, fmt.Sprintf(format, a...)) }
	fmt.Fprintln(w)
	row("pings answered", "%d of %d", r.PingReceived, r.PingSent)
	row("traceroute", "%s", strings.Join(r.Hops, " → "))
	row("TCP through the tunnel", "%.2f Gbit/s", r.TCPGbps)
	row("rekeys, packets lost", "%d, %d", r.Rekeys, r.LostDuringRekey)
	row("commit, packets lost", "%d", r.LostDuringCommit)
	row("kill -9 and restart, packets lost", "%d", r.LostDuringControlRestart)
	row("frames on the wire, ESP, readable", "%d, %d, %d", r.WirePackets, r.WireESPPackets, r.WirePlaintextPackets)
	fmt.Fprintln(w, "\ncounters of gw-a at the end\t")
	names := make([]string, 0, len(r.Counters))
	for n := range r.Counters {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		row("  "+n, "%d", r.Counters[n])
	}
	fmt.Fprintln(w)
	_ = w.Flush() // nothing can be done about a terminal that is gone
}
