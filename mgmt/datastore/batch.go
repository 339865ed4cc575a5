package datastore

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"

	"go.etcd.io/bbolt"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/edit"
)

// manyRows are so many that a bucket is packed for them.
const manyRows = 1000

// batch is what a journal does to a bucket of rows. It is made once and written
// to both files.
type batch struct {
	rows []row             // by key, each key once
	sum  [sha256.Size]byte // of the rows that are whole, for the checksum
}

// row is what becomes of one row.
type row struct {
	key   []byte
	value []byte // of a whole row; nil: it goes
	fresh bool   // there is none yet in the file

	// What changes of an entry that is there, each leaf once, by name. Nil where
	// the row is whole.
	changes []leafChange
}

// leafChange is what becomes of one leaf of an entry.
type leafChange struct {
	name, value []byte // name is the leaf's path within the entry: "/mtu", "/timers/dead"
	has         bool
}

// span is a part of a journal that concerns one row.
type span struct {
	key      []byte
	entry    bool // the row is a list entry's, else a leaf's
	from, to int
}

// newBatch makes the batch of a journal, in the order of the keys, since bbolt
// moves what follows a new key, and splits nothing before the end of a
// transaction.
func newBatch(j edit.Journal) *batch {
	var text, scratch arena
	spans := spansOf(j, &text)
	b := &batch{rows: make([]row, 0, len(spans))}
	digest := sha256.New()
	var changes []leafChange // of one entry
	for len(spans) > 0 {
		n := 1
		for n < len(spans) && bytes.Equal(spans[n].key, spans[0].key) {
			n++
		}
		r := row{key: spans[0].key}
		if first, last := &j[spans[0].from], &j[spans[n-1].to-1]; !spans[0].entry {
			r.fresh = !first.HadOld
			if last.HasNew {
				r.value = text.add(last.New)
			}
		} else {
			// An entry is new where its first key is: nothing comes before that.
			r.fresh = first.Leaf.IsKey && !first.HadOld
			in := &text
			if r.fresh {
				in = &scratch
				in.reset()
			}
			changes = changes[:0]
			for _, s := range spans[:n] {
				changes = appendChanges(changes, j[s.from:s.to], in)
			}
			changes = settled(changes)
			if r.fresh {
				r.value = encodeRow(changes, &text)
			} else {
				r.changes = slices.Clone(changes)
			}
		}
		if r.value != nil {
			toggle(digest, &b.sum, r.key, r.value)
		}
		b.rows = append(b.rows, r)
		spans = spans[n:]
	}
	return b
}

// spansOf takes a journal apart, by keys; those of the same key in their order.
func spansOf(j edit.Journal, text *arena) []span {
	var spans []span
	var place, entry *data.Place
	sorted := true
	for i := range j {
		c := &j[i]
		if i > 0 && c.Place == place && entry != nil {
			spans[len(spans)-1].to = i + 1
			continue
		}
		before := entry
		place, entry = c.Place, c.Place.Entry()
		if entry != nil && entry == before {
			spans[len(spans)-1].to = i + 1
			continue
		}
		s := span{entry: entry != nil, from: i, to: i + 1}
		if s.entry {
			s.key = text.take(entry.AppendPath(text.room(256)))
		} else {
			s.key = text.take(c.Leaf.AppendStep(place.AppendPath(text.room(256)), nil))
		}
		sorted = sorted && (len(spans) == 0 || bytes.Compare(spans[len(spans)-1].key, s.key) <= 0)
		spans = append(spans, s)
	}
	if !sorted {
		slices.SortFunc(spans, func(x, y span) int {
			return cmp.Or(bytes.Compare(x.key, y.key), cmp.Compare(x.from, y.from))
		})
	}
	return spans
}

// appendChanges appends the changes of an entry's leafs.
func appendChanges(to []leafChange, j edit.Journal, text *arena) []leafChange {
	for i := range j {
		c := &j[i]
		name := text.take(c.Leaf.AppendStep(appendInner(text.room(128), c.Place), nil))
		to = append(to, leafChange{name: name, value: text.add(c.New), has: c.HasNew})
	}
	return to
}

// appendInner appends the path of a container within the list entry that it is in;
// nothing for the entry itself.
func appendInner(b []byte, p *data.Place) []byte {
	if p.Node.Keys != nil {
		return b
	}
	return p.Node.AppendStep(appendInner(b, p.Parent), nil)
}

// settled sorts changes by name, and leaves the last of each.
func settled(changes []leafChange) []leafChange {
	slices.SortStableFunc(changes, func(x, y leafChange) int { return bytes.Compare(x.name, y.name) })
	out := changes[:0]
	for i := range changes {
		if i+1 == len(changes) || !bytes.Equal(changes[i].name, changes[i+1].name) {
			out = append(out, changes[i])
		}
	}
	return out
}

// write brings a batch into a bucket, and its checksum up to date.
func (b *batch) write(to *bbolt.Bucket, sum *[sha256.Size]byte) error {
	if len(b.rows) > manyRows {
		to.FillPercent = 0.9 // most of them stay as they are from now on
	}
	digest := sha256.New()
	var text arena
	for i := range b.rows {
		r := &b.rows[i]
		value := r.value
		if !r.fresh {
			// What is in the file counts: a value may be there in an older form.
			old := to.Get(r.key)
			if old != nil {
				toggle(digest, sum, r.key, old)
			}
			if r.changes != nil {
				all, err := merged(old, r.changes)
				if err != nil {
					return err
				}
				if value = encodeRow(all, &text); value != nil {
					toggle(digest, sum, r.key, value)
				}
			}
		}
		var err error
		if value != nil {
			err = to.Put(r.key, value)
		} else {
			err = to.Delete(r.key)
		}
		if err != nil {
			return err
		}
	}
	for i := range sum {
		sum[i] ^= b.sum[i]
	}
	return nil
}

// toggle adds a row to a checksum, or takes it out.
func toggle(h hash.Hash, sum *[sha256.Size]byte, key, value []byte) {
	var room [sha256.Size]byte
	h.Reset()
	binary.BigEndian.PutUint64(room[:], uint64(len(key)))
	_, _ = h.Write(room[:8]) // a hash takes every write
	_, _ = h.Write(key)
	_, _ = h.Write(value)
	for i, b := range h.Sum(room[:0]) {
		sum[i] ^= b
	}
}
