package forwarding

import (
	"errors"
	"fmt"

	"vita/forwarding/internal/ctl"
	"vita/forwarding/tables"
)

// A change of some routes in the live tables, which vitad writes in place (see
// tables.Writer), seen from the engine:
//
//	Change   before it: the counts of slots that get a route are cleared
//	         vitad stores what is new, workers meet it with their next packet
//	Settle   after it: every worker has begun a new turn, so that none is at
//	         what went out of use; SAs of routes that went have ended
//
// Nothing here is checked that workers rely on: what they take from the tables
// they check each time.

// slots returns the slots of a request about the live tables.
func (e *Engine) slots(r *ctl.Request) ([]uint32, *tables.Tables, error) {
	live := e.live()
	switch {
	case live == nil || e.mem.Current() != r.Word:
		return nil, nil, errors.New("the tables to be changed are not the live ones")
	case e.pending != nil:
		return nil, nil, errors.New("another generation is being prepared")
	case r.SlotsLen > ctl.MaxSlots:
		return nil, nil, fmt.Errorf("%d slots in a request", r.SlotsLen)
	}
	for _, slot := range r.Slots[:r.SlotsLen] {
		if live.Has(int(slot)) || int(slot) >= len(live.Routes) {
			return nil, nil, fmt.Errorf("route slot %d is in use, or not there", slot)
		}
	}
	return r.Slots[:r.SlotsLen], live, nil
}

// change makes slots ready for new routes. The caller holds e.mu.
func (e *Engine) change(r *ctl.Request) error {
	slots, _, err := e.slots(r)
	if err != nil {
		return err
	}
	for _, slot := range slots {
		e.clearCount(int(slot))
	}
	return nil
}

// settle ends what a change has left. The caller holds e.mu.
func (e *Engine) settle(r *ctl.Request) error {
	slots, _, err := e.slots(r)
	if err != nil {
		return err
	}
	var sas []int
	for _, slot := range slots {
		sas = e.saIndex.all(sas, slot)
	}
	e.endSAs(sas)
	for _, w := range e.workers {
		if w == nil {
			continue
		}
		e.awaitTurn(w)
		if a := w.next[r.Word&1].Load(); r.Idle != 0 && a != nil && a.word == r.Word && a.index >= 0 {
			a.idle.Store(a.findIdle(a.idle.Load()))
		}
	}
	return nil
}
