package atrest

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// TestGivesBack makes garbage and waits until it is gone without a word of ours.
func TestGivesBack(t *testing.T) {
	for range 4 {
		garbage = make([]byte, 64<<20)
		for i := 0; i < len(garbage); i += 4096 {
			garbage[i] = 1
		}
	}
	garbage = nil
	held := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapSys - m.HeapReleased
	}
	before := held()
	if before < worth {
		t.Fatalf("%d bytes are held: nothing to give back", before)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		FreeMemory(ctx, 10*time.Millisecond)
	}()
	for deadline := time.Now().Add(10 * time.Second); held() > worth; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are held, %d before", held(), before)
		}
	}
	cancel()
	<-ended
}

// TestWhen says when there is something to do.
func TestWhen(t *testing.T) {
	before := &heap{allocated: 1 << 40, live: 100 << 20, objects: 150 << 20, free: 10 << 20}
	if n := before.unused(); n != 60<<20 {
		t.Errorf("unused: %d", n)
	}
	if n := (&heap{live: 100, objects: 90, free: 7}).unused(); n != 7 {
		t.Errorf("unused, where less is in use than before: %d", n)
	}
	for grown, want := range map[uint64]bool{0: true, quiet - 1: true, quiet: false, 1 << 30: false} {
		now := &heap{allocated: before.allocated + grown}
		if now.idleSince(before) != want {
			t.Errorf("idle after %d bytes: %v", grown, !want)
		}
	}
}

var garbage []byte
