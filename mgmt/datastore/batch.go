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

// batch is what a journal does to a bucket of leafs. It is made once and written
// to both files.
type batch struct {
	puts []put             // by key; those of the same key in their order
	sum  [sha256.Size]byte // of the values that come, for the checksum
}

type put struct {
	key, value []byte
	hadOld     bool // a value is there, and leaves the checksum
	has        bool // a value comes
}

// newBatch makes the batch of a journal, in the order of the keys, since bbolt
// moves what follows a new key, and splits nothing before the end of a
// transaction.
func newBatch(j edit.Journal) *batch {
	b := &batch{puts: make([]put, len(j))}
	digest := sha256.New()
	var text []byte // keys and values, one behind the other
	room := func(n int) {
		if cap(text)-len(text) < n {
			text = make([]byte, 0, max(n, min(64<<10, 256*len(j))))
		}
	}
	var place *data.Place
	var path []byte
	sorted := true
	for i := range j {
		c := &j[i]
		if i == 0 || c.Place != place {
			place, path = c.Place, c.Place.AppendPath(path[:0])
		}
		room(len(path) + len(c.Leaf.Module) + len(c.Leaf.Name) + len(c.New) + 2)
		start := len(text)
		text = c.Leaf.AppendStep(append(text, path...), nil)
		p := &b.puts[i]
		p.key, p.hadOld, p.has = text[start:len(text):len(text)], c.HadOld, c.HasNew
		if c.HasNew {
			start = len(text)
			text = append(text, c.New...)
			p.value = text[start:len(text):len(text)]
			toggle(digest, &b.sum, p.key, p.value)
		}
		sorted = sorted && (i == 0 || bytes.Compare(b.puts[i-1].key, p.key) <= 0)
	}
	if !sorted {
		order := make([]int, len(j))
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(x, y int) int {
			return cmp.Or(bytes.Compare(b.puts[x].key, b.puts[y].key), cmp.Compare(x, y))
		})
		puts := make([]put, len(j))
		for i, from := range order {
			puts[i] = b.puts[from]
		}
		b.puts = puts
	}
	return b
}

// write brings a batch into a bucket, and its checksum up to date.
func (b *batch) write(to *bbolt.Bucket, sum *[sha256.Size]byte) error {
	digest := sha256.New()
	for i := range b.puts {
		p := &b.puts[i]
		if p.hadOld {
			// What is in the file counts: a value may be there in an older form.
			if old := to.Get(p.key); old != nil {
				toggle(digest, sum, p.key, old)
			}
		}
		var err error
		if p.has {
			err = to.Put(p.key, p.value)
		} else {
			err = to.Delete(p.key)
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

// toggle adds an entry to a checksum, or takes it out.
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
