package datastore

import (
	"strconv"
	"time"

	"vita/mgmt/internal/rpcerr"
)

// Lock gives a session the sole right to change a datastore (RFC 6241 section
// 7.5). A candidate with pending changes cannot be locked.
func (d *Datastore) Lock(s *Session, name Name) error {
	if !d.has(name) {
		return rpcerr.New("invalid-value", "", "there is no datastore %q", string(name))
	}
	d.change.Lock()
	defer d.change.Unlock()
	d.locks.Lock()
	defer d.locks.Unlock()
	if c := d.confirm; name == Running && c != nil && (c.owner == nil || c.owner != s) {
		e := denied(name, c.ownerID)
		e.Message = "a confirmed commit is pending"
		return e
	}
	if h := d.locks.holder[name]; h != nil {
		return denied(name, h.ID)
	}
	if name == Candidate && len(d.pending) > 0 {
		e := denied(name, 0)
		e.Message = "candidate has changes that were neither committed nor discarded"
		return e
	}
	d.locks.holder[name] = s
	d.locks.since[name] = time.Now()
	return nil
}

// Locked says who has locked a datastore, and since when.
type Locked struct {
	Session uint32
	Since   time.Time
}

// Locks returns the locks that are held.
func (d *Datastore) Locks() map[Name]Locked {
	d.locks.Lock()
	defer d.locks.Unlock()
	out := map[Name]Locked{}
	for name, h := range d.locks.holder {
		out[name] = Locked{h.ID, d.locks.since[name]}
	}
	return out
}

func denied(name Name, id uint32) *rpcerr.Error {
	return &rpcerr.Error{
		Type: rpcerr.Protocol, Tag: "lock-denied", SessionID: strconv.FormatUint(uint64(id), 10),
		Message: string(name) + " is locked by session " + strconv.FormatUint(uint64(id), 10),
	}
}

// Unlock gives a lock back.
func (d *Datastore) Unlock(s *Session, name Name) error {
	if !d.has(name) {
		return rpcerr.New("invalid-value", "", "there is no datastore %q", string(name))
	}
	d.locks.Lock()
	defer d.locks.Unlock()
	if d.locks.holder[name] != s {
		return &rpcerr.Error{
			Type: rpcerr.Protocol, Tag: "operation-failed",
			Message: "this session has no lock on " + string(name),
		}
	}
	delete(d.locks.holder, name)
	return nil
}

// Release ends a session: its locks go, and with a lock on candidate the
// pending changes (RFC 6241 section 8.3.5.2); its confirmed commit is taken back
// if it is pending (section 8.4.1).
func (d *Datastore) Release(s *Session) {
	d.change.Lock()
	defer d.change.Unlock()
	if d.confirm != nil && d.confirm.owner == s {
		_ = d.revert(s, "its session has ended") // it is logged, and tried again
	}
	d.locks.Lock()
	defer d.locks.Unlock()
	if d.locks.holder[Candidate] == s {
		d.discard()
	}
	for name, h := range d.locks.holder {
		if h == s {
			delete(d.locks.holder, name)
		}
	}
}

// free returns an error if another session has locked a datastore.
func (d *Datastore) free(s *Session, name Name) error {
	d.locks.Lock()
	defer d.locks.Unlock()
	h := d.locks.holder[name]
	if h == nil || h == s {
		return nil
	}
	return &rpcerr.Error{
		Type: rpcerr.Protocol, Tag: "in-use", SessionID: strconv.FormatUint(uint64(h.ID), 10),
		Message: string(name) + " is locked by session " + strconv.FormatUint(uint64(h.ID), 10),
	}
}
