// Vitabench measures the packet path: the cipher, the routing table, and the
// whole data plane over ports of memory. See docs/performance.md.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"

	"github.com/alecthomas/kong"

	"vita/asm/aesgcm"
	"vita/internal/cpu"
)

// common is what every subcommand takes.
type common struct {
	JSON bool   `name:"json" help:"Print one JSON object."`
	CPU  []int  `name:"cpu" help:"Processors to run on, in turn." placeholder:"N,..."`
	Tier string `help:"Cipher to use: avx512, avx2 or generic. Default: the best that the processor has."`
}

// setUp chooses the tier and binds the calling goroutine to the first CPU.
func (c *common) setUp() error {
	if c.Tier != "" {
		if err := aesgcm.Force(c.Tier); err != nil {
			return fmt.Errorf("--tier %q: %w", c.Tier, err)
		}
	}
	runtime.LockOSThread()
	if len(c.CPU) > 0 {
		return cpu.Pin(c.CPU[0])
	}
	return nil
}

// within refuses an option's number by the option's name.
func within(option string, n, low, high int) error {
	if n < low || n > high {
		return fmt.Errorf("--%s %d: want %d to %d", option, n, low, high)
	}
	return nil
}

func seconds(s float64) error {
	if !(s > 0 && s <= 86400) { // nor NaN
		return fmt.Errorf("--seconds %v: want more than 0, at most 86400", s)
	}
	return nil
}

// print writes a result: as JSON, or one line a field or row.
func (c *common) print(result any, rows ...string) error {
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(result)
	}
	for _, r := range rows {
		if _, err := fmt.Println(r); err != nil {
			return err
		}
	}
	return nil
}

type cli struct {
	AEAD      aeadCmd   `cmd:"" name:"aead" help:"AES-GCM in batches, beside Go's own in the same run."`
	LPM       lpmCmd    `cmd:"" name:"lpm" help:"Longest-prefix match, beside bart in the same run."`
	Softbench softCmd   `cmd:"" help:"The whole data plane over ports of memory, the public one looped back."`
	Gap       gapCmd    `cmd:"" help:"How long a worker goes without polling while many routes are committed."`
	Commit    CommitCmd `cmd:"" help:"The management plane: commits, reads and sessions over loopback."`

	GapEngine gapEngineCmd `cmd:"" name:"gap-engine" hidden:""`
	GapFloor  gapFloorCmd  `cmd:"" name:"gap-floor" hidden:""`
}

func main() {
	k := kong.Parse(new(cli), kong.Name("vitabench"), kong.Description("Measures Vita's packet path."), kong.UsageOnError())
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "vitabench:", err)
		os.Exit(1)
	}
}

// median of values, which it sorts.
func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
