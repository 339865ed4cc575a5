package mgmt

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vita/mgmt/operator"
)

func (s *servers) operator() *operator.Client {
	c, err := operator.New(operator.Options{Server: s.restconf, CA: filepath.Join(s.dir, "tls.crt"), User: user, Password: password})
	check(s.t, err)
	return c
}

func strs(lines []operator.Line) []string {
	var out []string
	for _, l := range lines {
		out = append(out, l.String())
	}
	return out
}

const site = "/route4[id=site1]"

func TestOperatorStagesAndCommits(t *testing.T) {
	s := start(t)
	c := s.operator()
	ctx := t.Context()
	check(t, c.Set(ctx, site+"/net", "10.1.0.0/16", site+"/spi", "1001", site+"/preshared-key", strings.Repeat("0f", 32),
		site+"/gateway[ip=203.0.113.1]/queue", "1", "/mtu", "1440", "/private-interface4/ifname", "a b",
		"/private-interface4/ip", "10.0.0.1", "/private-interface4/nexthop-ip", "10.0.0.2"))
	if lines, _, err := c.Get(ctx, operator.Running, ""); err != nil || len(lines) != 0 {
		t.Fatalf("running before the commit: %v %v", lines, err)
	}
	staged, _, err := c.Get(ctx, operator.Candidate, "")
	check(t, err)
	want := []string{
		"+ /private-interface4/ifname 'a b'",
		"+ /private-interface4/ip 10.0.0.1",
		"+ /private-interface4/nexthop-ip 10.0.0.2",
		"+ /route4[id=site1]/id site1",
		"+ /route4[id=site1]/spi 1001",
		"+ /route4[id=site1]/net 10.1.0.0/16",
		"+ /route4[id=site1]/gateway[ip=203.0.113.1]/queue 1",
		"+ /route4[id=site1]/gateway[ip=203.0.113.1]/ip 203.0.113.1",
		"+ /mtu 1440",
	}
	got := operator.Diff(nil, staged)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("diff:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	check(t, c.Commit(ctx))

	lines, _, err := c.Get(ctx, operator.Running, site+"/gateway")
	check(t, err)
	if got := strs(lines); len(got) != 2 || !strings.HasPrefix(got[0], site+"/gateway[ip=203.0.113.1]/") {
		t.Fatalf("a list without keys: %v", got)
	}
	lines, _, err = c.Get(ctx, operator.Running, "/mtu")
	check(t, err)
	if got := strs(lines); !slices.Equal(got, []string{"/mtu 1440"}) {
		t.Fatalf("one leaf: %v", got)
	}

	check(t, c.Delete(ctx, "/mtu"))
	check(t, c.Set(ctx, site+"/spi", "1002"))
	before, _, err := c.Get(ctx, operator.Running, "")
	check(t, err)
	after, _, err := c.Get(ctx, operator.Candidate, "")
	check(t, err)
	diff := operator.Diff(before, after)
	slices.Sort(diff)
	if want := []string{"+ " + site + "/spi 1002", "- /mtu 1440", "- " + site + "/spi 1001"}; !slices.Equal(diff, want) {
		t.Fatalf("diff %q, want %q", diff, want)
	}
	check(t, c.Discard(ctx))
	after, _, err = c.Get(ctx, operator.Candidate, "")
	check(t, err)
	if diff := operator.Diff(before, after); diff != nil {
		t.Fatalf("after discard: %q", diff)
	}
}

func TestOperatorLoads(t *testing.T) {
	s := start(t)
	c := s.operator()
	ctx := t.Context()
	check(t, c.Load(ctx, []byte(`{"ietf-restconf:data":{"vita-esp-gateway:mtu":1400,"vita-esp-gateway:tfc":true}}`), false))
	check(t, c.Load(ctx, []byte(`<data xmlns="urn:ietf:params:xml:ns:yang:ietf-restconf"><mtu xmlns="vita:esp-gateway">1300</mtu></data>`), true))
	lines, _, err := c.Get(ctx, operator.Candidate, "/")
	check(t, err)
	if got := strs(lines); !slices.Equal(got, []string{"/mtu 1300"}) {
		t.Fatalf("%v", got)
	}
}

func TestOperatorErrorsNameThePath(t *testing.T) {
	s := start(t)
	c := s.operator()
	for _, e := range []struct {
		want string
		err  error
	}{
		{"/mtu", c.Set(t.Context(), "/mtu", "9999")},
		{"nonsense", c.Set(t.Context(), "/nonsense", "1")},
		{"not a leaf", c.Set(t.Context(), "/route4[id=a]", "1")},
		{"pairs", c.Set(t.Context(), "/mtu")},
		{"/tfc", c.Delete(t.Context(), "/tfc")},
		{"the root", c.Delete(t.Context(), "/")},
	} {
		if e.err == nil || !strings.Contains(e.err.Error(), e.want) {
			t.Errorf("%v, want %q", e.err, e.want)
		}
	}
	wrong, err := operator.New(operator.Options{Server: s.restconf, User: user, Password: password})
	check(t, err)
	if err := wrong.Commit(t.Context()); err == nil || !strings.Contains(err.Error(), "--ca") {
		t.Errorf("unknown certificate: %v", err)
	}
}

func TestOperatorTop(t *testing.T) {
	s := start(t)
	var b bytes.Buffer
	check(t, s.operator().Top(t.Context(), &b, operator.TopOptions{Interval: time.Millisecond, Rounds: 2}))
	if n := strings.Count(b.String(), "per second"); n != 2 {
		t.Fatalf("%d tables: %s", n, b.String())
	}
}
