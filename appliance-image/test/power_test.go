package test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var (
	cuts     = flag.Int("cuts", 2, "how often the power is cut; 50 for all that is promised")
	cutsSeed = flag.Uint64("seed", 0, "of the moments in which it is; 0 for others each time")
)

var netOf = regexp.MustCompile(`<net>10\.(\d+)\.(\d+)\.0/24</net>`)

// TestPowerCuts cuts the power at random moments, while configurations are
// committed and upgrades are written: the appliance always starts, with a whole
// configuration, which is the last one that was acknowledged or the one after.
func TestPowerCuts(t *testing.T) {
	s, good := alone(t), newer(t)
	n := s.admin.Dial(t, s.SSH, bootTime)
	seed := *cutsSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("the moments are those of -seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's
	acknowledged := 0
	for cut := range *cuts {
		// Commits, one after the other, and an upgrade beside them.
		var next atomic.Int64
		next.Store(int64(acknowledged))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := acknowledged + 1; ; i++ {
				net := fmt.Sprintf("10.%d.%d.0/24", i/256, i%256)
				if _, err := n.Call(`<edit-config><target><candidate/></target><config><route4 xmlns="vita:esp-gateway"><id>site2</id><net>` + net + `</net></route4></config></edit-config>`); err != nil {
					return
				}
				if _, err := n.Call(`<commit/>`); err != nil {
					return
				}
				next.Store(int64(i))
			}
		}()
		upgraded := make(chan string, 1)
		go func() {
			out, err := s.vitactl(t, "upgrade", "--downgrade", good)
			upgraded <- fmt.Sprintf("%s %v", strings.TrimSpace(out), err)
		}()
		// From the first write to the trial of the new version, and beyond.
		wait := time.Duration(random.Int64N(int64(60 * time.Second)))
		time.Sleep(wait)
		s.Kill()
		<-done
		result := <-upgraded
		n.Close()
		acknowledged = int(next.Load())
		s.Machine = Start(t, s.options)
		s.Expect(t, `netconf ready`, 3*bootTime)
		n = s.admin.Dial(t, s.SSH, bootTime)
		m := netOf.FindStringSubmatch(n.Must(t, `<get-config><source><running/></source></get-config>`))
		have := 0
		if m != nil {
			a, _ := strconv.Atoi(m[1])
			b, _ := strconv.Atoi(m[2])
			have = 256*a + b
		}
		status := s.must(t, "upgrade")
		t.Logf("cut %d after %s: commit %d was acknowledged, %d is there; upgrade: %s; now %s", cut, wait.Round(time.Millisecond), acknowledged, have, result, strings.ReplaceAll(status, "\n", ", "))
		if have != acknowledged && have != acknowledged+1 {
			t.Errorf("cut %d: commit %d was acknowledged, %d is there", cut, acknowledged, have)
		}
		acknowledged = have
		if strings.Contains(status, "on trial") {
			s.Expect(t, `has proved good`, bootTime)
		}
	}
	if _, err := os.Stat(filepath.Join(s.options.Dir, "disk.raw")); err != nil {
		t.Error(err)
	}
}
