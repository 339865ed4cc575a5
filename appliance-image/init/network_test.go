package main

import (
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestWhole: what changes while the kernel lists it is listed again, and nothing
// else is.
func TestWhole(t *testing.T) {
	for _, c := range []struct {
		interrupted int
		err, want   error
		asked       int
	}{
		{0, nil, nil, 1},
		{2, nil, nil, 3},
		{2, fs.ErrPermission, fs.ErrPermission, 3},
		{1000, nil, netlink.ErrDumpInterrupted, 100},
	} {
		asked := 0
		got, err := whole(func() ([]int, error) {
			if asked++; asked <= c.interrupted {
				return []int{1}, netlink.ErrDumpInterrupted
			}
			return []int{1, 2}, c.err
		})
		if !errors.Is(err, c.want) || asked != c.asked || err == nil && !slices.Equal(got, []int{1, 2}) {
			t.Errorf("%+v: %v, %v, asked %d times", c, got, err, asked)
		}
	}
}
