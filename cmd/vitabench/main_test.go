package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"vita/asm/aesgcm"
)

func TestUnknownTierIsRefusedByName(t *testing.T) {
	for name, run := range map[string]func() error{
		"aead":      (&aeadCmd{common: common{Tier: "sse"}}).Run,
		"lpm":       (&lpmCmd{common: common{Tier: "sse"}}).Run,
		"softbench": (&softCmd{common: common{Tier: "sse"}}).Run,
	} {
		if err := run(); !errors.Is(err, aesgcm.ErrTier) || !strings.Contains(err.Error(), "sse") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each direction, family and size must let packets through: Run fails where
// none comes.
func TestSoftbenchForwards(t *testing.T) {
	for _, c := range []softCmd{
		{Size: "60", Family: 4, Routes: 1, Direction: "duplex", Workers: 1, Key: 128},
		{Size: "imix", Family: 4, Routes: 50, Direction: "duplex", Workers: 2, Key: 256},
		{Size: "imix", Family: 6, Routes: 50, Direction: "duplex", Workers: 1, Key: 128},
		{Size: "1454", Family: 6, Routes: 1, Direction: "outbound", Workers: 1, Key: 128},
		{Size: "60", Family: 4, Routes: 1, Direction: "inbound", Workers: 1, Key: 128},
		{Size: "imix", Family: 6, Routes: 50, Direction: "inbound", Workers: 2, Key: 256},
	} {
		c.Seconds, c.JSON = 0.3, true
		if err := c.Run(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	bad := softCmd{Size: "9", Family: 4, Routes: 1, Direction: "duplex", Workers: 1, Key: 128, Seconds: 0.1}
	if err := bad.Run(); err == nil {
		t.Error("frames of 9 bytes are accepted")
	}
}

// The fields that each subcommand's object has, and no other.
func TestFields(t *testing.T) {
	soft := []string{"mpps", "ns_per_packet", "gbps", "cpu_ns_per_packet", "min_ns_per_packet", "max_gap_us", "tier"}
	for _, c := range []struct {
		args   string
		fields []string
	}{
		{"softbench --seconds 0.3", soft},
		{"softbench --direction inbound --size 576 --family 6 --seconds 0.3", soft},
		{"lpm --prefixes 1000", []string{"ns_per_lookup", "bart_ns_per_lookup", "min_ns_per_lookup", "build_ms", "update_us", "update_p999_us", "update_max_us", "bytes"}},
		{"commit --routes 20 --rounds 3", []string{"routes", "data_plane", "load_s", "netconf_commit_ms", "restconf_put_ms", "get_one_subtree_ms", "get_one_xpath_ms", "get_all_mb_s", "rss_mb", "peak_rss_mb", "sessions_per_s", "cpu_ms_per_commit", "bulk_ms", "bulk_with_one_subscriber"}},
		{"aead --op open --key 256 --sizes 64 --batch 8 --rounds 3 --peer go", []string{"op", "key", "batch", "tier", "registers", "results"}},
	} {
		out, errs, err := vitabench(t, append(strings.Fields(c.args), "--json")...)
		var got map[string]any
		if err != nil || json.Unmarshal([]byte(out), &got) != nil {
			t.Errorf("%s: %v: %s%s", c.args, err, out, errs)
			continue
		}
		for _, f := range c.fields {
			switch v := got[f].(type) {
			case float64:
				if v <= 0 {
					t.Errorf("%s: %s is %v", c.args, f, v)
				}
			case nil:
				t.Errorf("%s: no %s", c.args, f)
			}
			delete(got, f)
		}
		if len(got) != 0 {
			t.Errorf("%s: also %v", c.args, got)
		}
	}
	if _, errs, err := vitabench(t, "aead", "--tier", "avx2", "--registers", "512"); err == nil || !strings.Contains(errs, "--registers 512") {
		t.Errorf("registers that avx2 has not: %v, %s", err, errs)
	}
	out, _, err := vitabench(t, "aead", "--sizes", "64,100", "--rounds", "3", "--json")
	var r struct {
		Results []struct {
			Size   int     `json:"size"`
			NS     float64 `json:"ns"`
			PeerNS float64 `json:"peer_ns"`
		} `json:"results"`
	}
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || len(r.Results) != 2 {
		t.Fatal(err, out)
	}
	for i, want := range []int{64, 100} {
		if got := r.Results[i]; got.Size != want || got.NS <= 0 || got.PeerNS <= 0 {
			t.Errorf("%+v, want size %d", got, want)
		}
	}
}
