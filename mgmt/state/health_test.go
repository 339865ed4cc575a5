package state

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"vita/keying/keeper"
)

func TestRoutesThatWereUp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "routes.up")
	none := func() []keeper.SA { return nil }
	if err := WaitForRoutes(t.Context(), file, none); err != nil {
		t.Fatalf("nothing was written: %v", err)
	}
	if err := SaveRoutes(file, []keeper.SA{
		{Route: "b", Role: keeper.RoleActive},
		{Route: "a", Role: keeper.RoleInbound},
		{Route: "b", Role: keeper.RoleActive, Queue: 1},
		{Route: "c", Role: keeper.RoleStatic},
		{Route: "d", Role: keeper.RoleStandby},
	}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != `["b","c"]` {
		t.Fatalf("%q, %v", b, err)
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		sas := func() []keeper.SA {
			switch d := time.Since(began); {
			case d < 3*time.Second:
				return []keeper.SA{{Route: "b", Role: keeper.RoleActive}, {Route: "c", Role: keeper.RoleInbound}}
			default:
				return []keeper.SA{{Route: "b", Role: keeper.RoleActive}, {Route: "c", Role: keeper.RoleActive}}
			}
		}
		if err := WaitForRoutes(t.Context(), file, sas); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := WaitForRoutes(ctx, file, none); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("never up: %v", err)
		}
	})
	if err := SaveRoutes(file, nil); err != nil {
		t.Fatal(err)
	}
	if err := WaitForRoutes(t.Context(), file, none); err != nil {
		t.Errorf("none was up: %v", err)
	}
}
