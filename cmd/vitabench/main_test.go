package main

import (
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
	} {
		c.Seconds, c.JSON = 0.1, true
		if err := c.Run(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	bad := softCmd{Size: "9", Family: 4, Routes: 1, Direction: "duplex", Workers: 1, Key: 128, Seconds: 0.1}
	if err := bad.Run(); err == nil {
		t.Error("frames of 9 bytes are accepted")
	}
}
