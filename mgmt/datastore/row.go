package datastore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"vita/gen"
)

/*
The row of a list entry has its leafs, those of containers in the entry included
and those of entries in it not, sorted by name:

	string  name: the leaf's path within the entry, e.g. "/timers/dead"
	string  its canonical value

A string is its length, a uvarint, and its bytes. An entry has its keys at least,
so that no row is empty.
*/

// encodeRow returns the row of an entry that has these leafs, sorted by name; nil
// where there are none.
func encodeRow(leafs []leafChange, text *arena) []byte {
	n := 0
	for i := range leafs {
		n += len(leafs[i].name) + len(leafs[i].value) + 2*binary.MaxVarintLen32
	}
	b := text.room(n)
	for i := range leafs {
		if l := &leafs[i]; l.has {
			b = append(binary.AppendUvarint(b, uint64(len(l.name))), l.name...)
			b = append(binary.AppendUvarint(b, uint64(len(l.value))), l.value...)
		}
	}
	if len(b) == 0 {
		return nil
	}
	return text.take(b)
}

// eachLeaf calls fn with the leafs of a row.
func eachLeaf(row []byte, fn func(name, value []byte) error) error {
	if len(row) == 0 {
		return errRow
	}
	var last []byte
	for len(row) > 0 {
		var name, value []byte
		for _, s := range []*[]byte{&name, &value} {
			n, size := binary.Uvarint(row)
			if size <= 0 || n > uint64(len(row)-size) {
				return errRow
			}
			*s, row = row[size:size+int(n)], row[size+int(n):] //nolint:gosec // it is less than the row's length
		}
		if bytes.Compare(last, name) >= 0 {
			return errRow
		}
		last = name
		if err := fn(name, value); err != nil {
			return err
		}
	}
	return nil
}

var errRow = fmt.Errorf("%w: the row of a list entry is damaged", ErrCorrupt)

// merged returns the leafs of a row, nil for none, after changes of it. Both are
// sorted by name.
func merged(row []byte, changes []leafChange) ([]leafChange, error) {
	if row == nil {
		return changes, nil
	}
	out := make([]leafChange, 0, len(changes)+16)
	err := eachLeaf(row, func(name, value []byte) error {
		for len(changes) > 0 && bytes.Compare(changes[0].name, name) < 0 {
			out, changes = append(out, changes[0]), changes[1:]
		}
		if len(changes) > 0 && bytes.Equal(changes[0].name, name) {
			return nil // it comes in its turn
		}
		out = append(out, leafChange{name: name, value: value, has: true})
		return nil
	})
	return append(out, changes...), err
}

// isEntry says whether a row is a list entry's, by its key: that of a leaf never
// ends in a predicate.
func isEntry(key []byte) bool { return bytes.HasSuffix(key, []byte("]")) }

// row puts the leafs of a row into a tree.
func (l *loader) row(tree *gen.Vita, key, value []byte) error {
	if !isEntry(key) {
		return l.add(tree, string(key), string(value))
	}
	return eachLeaf(value, func(name, value []byte) error {
		if !bytes.HasPrefix(name, []byte("/")) || bytes.IndexByte(name, '[') >= 0 {
			return errRow
		}
		return l.add(tree, string(key)+string(name), string(value))
	})
}

// arena is room for many short texts, one behind the other.
type arena struct {
	all  []byte
	used int
}

// room returns an empty slice that n bytes and more can be appended to.
func (a *arena) room(n int) []byte {
	if len(a.all)-a.used < n {
		a.all, a.used = make([]byte, max(n, min(2*len(a.all), 64<<10), 1<<10)), 0
	}
	return a.all[a.used:a.used:len(a.all)]
}

// take keeps what was appended to the room given last, and returns it.
func (a *arena) take(b []byte) []byte {
	if a.used < len(a.all) && len(b) > 0 && &b[0] == &a.all[a.used] {
		a.used += len(b)
	}
	return slices.Clip(b)
}

// add keeps a copy of a text. It is never nil.
func (a *arena) add(s string) []byte { return a.take(append(a.room(len(s)), s...)) }

// reset gives all room back: what was taken is gone.
func (a *arena) reset() { a.used = 0 }
