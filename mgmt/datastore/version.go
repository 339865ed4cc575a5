package datastore

import (
	"sync"
	"time"

	"vita/gen"
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/edit"
)

// Version says when a resource has changed last: a container or list entry with
// all that is in it, or a whole datastore.
type Version struct {
	Number uint64    // never the same again for another content, restarts included
	Edits  uint64    // of candidate: how often it was edited since the process began
	Time   time.Time // when
}

// mostVersions bounds how many resources have a version of their own. When
// there are more, all get that of the newest commit: a client may be told of a
// change that was none, never the other way round.
const mostVersions = 1 << 15

// versions are those of running's resources.
type versions struct {
	sync.RWMutex
	of    map[string]Version // by instance path, "" for the datastore
	floor Version            // of those that are not in it
	edits Version            // of candidate
}

func (v *versions) start(number uint64) {
	v.floor = Version{Number: number, Time: time.Now()}
	v.edits = v.floor
	v.of = map[string]Version{}
}

// commit notes the changes of a commit.
func (v *versions) commit(j edit.Journal, number uint64) {
	now := Version{Number: number, Time: time.Now()}
	v.Lock()
	defer v.Unlock()
	v.edits.Number, v.edits.Time = number, now.Time
	if len(v.of)+len(j) > mostVersions {
		v.of, v.floor = map[string]Version{}, now
		return
	}
	v.of[""] = now
	var last *data.Place
	for i := range j {
		if j[i].Place == last {
			continue
		}
		last = j[i].Place
		for p := last; p != nil; p = p.Parent {
			v.of[p.Path()] = now
		}
	}
}

// edited notes that candidate has changed.
func (v *versions) edited() {
	v.Lock()
	defer v.Unlock()
	v.edits.Edits++
	v.edits.Time = time.Now()
}

// Version returns the version of a container or list entry by its instance
// path, "" for the whole datastore. All resources of candidate have the same.
func (d *Datastore) Version(name Name, path string) Version {
	d.versions.RLock()
	defer d.versions.RUnlock()
	if name == Candidate {
		return d.versions.edits
	}
	if v, ok := d.versions.of[path]; ok {
		return v
	}
	return d.versions.floor
}

// Precondition is asked before an edit, with nothing changing in between. root
// is the datastore as it is then; its error is the edit's.
type Precondition func(root *gen.Vita) error

func (d *Datastore) permitted(name Name, ask Precondition) error {
	if ask == nil {
		return nil
	}
	tree := d.running.tree
	if name == Candidate {
		tree = d.candidate.tree
	}
	return ask(tree) // d.change keeps writers away
}
