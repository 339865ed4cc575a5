package test

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestFirstStart: a key that is no good is said on the console, and the next start
// takes what is there instead. Wherever the power is cut while the state is made, the
// start that follows has the administrator, with key and password, and what else the
// machine was told.
func TestFirstStart(t *testing.T) {
	admin := NewAdmin(t)
	const name = "gw-first"
	good := Options{OEM: []string{"vita.admin-key=" + admin.Line, "vita.admin-password=" + password, "vita.hostname=" + name}}
	bad := good
	bad.OEM = append([]string{"vita.admin-key=nonsense"}, good.OEM[1:]...)
	good.Dir = disk(t, "raw")
	bad.Dir = good.Dir
	began := time.Now()
	m := Start(t, bad)
	m.Expect(t, `first administrator: key 1: not an SSH public key.*: enter an administrator at the console`, bootTime)
	until := time.Since(began)
	m.Expect(t, `vitad has ended`, 10*time.Second)
	time.Sleep(2 * time.Second) // it is started again after 200 ms, and then waits
	m.Type(t, "status")
	m.Expect(t, `host `+name+`, management enp`, 10*time.Second)
	m.Expect(t, `vitad runs .* 2 starts`, 10*time.Second)
	m.Kill()

	seed := *cutsSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("the moments are those of -seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // a test's
	printed := regexp.MustCompile(`administrator admin, host key (\S+)\s`)
	for cut := range *cuts {
		if cut > 0 {
			good.Dir = disk(t, "raw")
		}
		wait := until - 1500*time.Millisecond + time.Duration(random.Int64N(int64(3*time.Second)))
		m = Start(t, good)
		time.Sleep(wait)
		m.Kill()
		key := printed.FindStringSubmatch(m.Console(1 << 20))
		t.Logf("cut %d after %s: %q", cut, wait.Round(time.Millisecond), key)
		m = Start(t, good)
		m.Expect(t, `netconf ready`, bootTime)
		n := admin.Dial(t, m.SSH, bootTime)
		if key != nil && n.Host != key[1] {
			t.Errorf("cut %d: host key %s, on the console %s", cut, n.Host, key[1])
		}
		if again := printed.MatchString(m.Console(1 << 20)); key != nil && again {
			t.Errorf("cut %d: another administrator", cut)
		}
		if got := n.Must(t, `<get-config><source><running/></source></get-config>`); !strings.Contains(got, "<name>admin</name>") {
			t.Errorf("cut %d: the configuration is %s", cut, got)
		}
		n.Close()
		if out, err := (&site{Machine: m}).vitactl(t, "upgrade"); err != nil {
			t.Errorf("cut %d: not by the password: %v\n%s", cut, err, out)
		}
		m.Type(t, "status")
		m.Expect(t, `host `+name+`, management enp`, 10*time.Second)
		m.Kill()
	}
}
