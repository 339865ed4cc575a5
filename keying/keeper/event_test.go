package keeper

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// What an operator hears of a peer that comes, rekeys, falls silent, and comes
// back.
func TestEvents(t *testing.T) {
	s := newSim(t, 31)
	a, _ := pair(s)
	var heard []string
	a.keeper.event = func(e Event) {
		if e.Route != "r" || e.Queue != 1 || e.Peer != addrB || (e.Kind <= Rekeyed) != (e.InboundSPI != 0 && e.OutboundSPI != 0) {
			t.Errorf("%+v", e)
		}
		if n := len(heard); n == 0 || heard[n-1] != fmt.Sprint(e.Kind) {
			heard = append(heard, fmt.Sprint(e.Kind)) // both ends initiate
		}
	}
	expect := func(after time.Duration, want ...EventKind) {
		t.Helper()
		heard = nil
		s.run(after)
		var names []string
		for _, k := range want {
			names = append(names, fmt.Sprint(k))
		}
		if !slices.Equal(heard, names) {
			t.Errorf("%v, want %v", heard, names)
		}
	}
	expect(time.Second, Established, Rekeyed)
	expect(400*time.Second, Rekeyed)
	s.blocked = func(_, to netip.Addr) bool { return to == addrB }
	expect(400*time.Second, Unreachable)
	expect(600*time.Second, Expired)
	s.blocked = func(_, _ netip.Addr) bool { return false }
	expect(10*time.Second, Established, Rekeyed, Reachable)
}
