package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"vita/keying/keeper"
)

// healthEvery is how often it is looked whether a gateway is well again.
const healthEvery = 500 * time.Millisecond

// SaveRoutes writes which routes can be sent over, for WaitForRoutes of the next
// start.
func SaveRoutes(file string, sas []keeper.SA) error {
	list, err := json.Marshal(up(sas))
	if err != nil {
		return err
	}
	temp := file + ".new"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("routes that are up: %w", err)
	}
	_, err = f.Write(list)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("routes that are up: %w", errors.Join(err, os.Remove(temp)))
	}
	return os.Rename(temp, file)
}

// WaitForRoutes waits until all routes that were up, as SaveRoutes has written,
// are up again. Where nothing was written there is nothing to wait for.
func WaitForRoutes(ctx context.Context, file string, sas func() []keeper.SA) error {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("routes that were up: %w", err)
	}
	var want []string
	if err := json.Unmarshal(b, &want); err != nil {
		return fmt.Errorf("routes that were up: %w", err)
	}
	ticks := time.NewTicker(healthEvery)
	defer ticks.Stop()
	for {
		now := up(sas())
		if !slices.ContainsFunc(want, func(id string) bool { return !slices.Contains(now, id) }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks.C:
		}
	}
}

// up lists the routes that have an association to send by.
func up(sas []keeper.SA) []string {
	var ids []string
	for _, sa := range sas {
		if sa.Role == keeper.RoleActive || sa.Role == keeper.RoleStatic {
			ids = append(ids, sa.Route)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
