package datastore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/yangenc"
)

/*
A journal on disk, for the history of commits and for a commit that may have to
be taken back, is a sequence of changes:

	uvarint  length of what the path has in common with the one before
	string   the rest of the path      (a string is its uvarint length and its bytes)
	byte     1: had an old value, 2: has a new one
	string   the old value, if there is one
	string   the new value, if there is one
*/

var errRecord = errors.New("record of a commit is damaged")

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendJournal(b []byte, j edit.Journal) []byte {
	last := ""
	for i := range j {
		c := &j[i]
		path := c.Path()
		n := 0
		for n < len(path) && n < len(last) && path[n] == last[n] {
			n++
		}
		b = binary.AppendUvarint(b, uint64(n))
		b = appendString(b, path[n:])
		var flags byte
		if c.HadOld {
			flags |= 1
		}
		if c.HasNew {
			flags |= 2
		}
		b = append(b, flags)
		if c.HadOld {
			b = appendString(b, c.Old)
		}
		if c.HasNew {
			b = appendString(b, c.New)
		}
		last = path
	}
	return b
}

// reader reads a record; after an error it gives zero values.
type reader struct {
	b   []byte
	err error
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err, r.b = errRecord, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.err, r.b = errRecord, nil
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.err = errRecord
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

// journal reads the rest as a journal.
func (r *reader) journal() (edit.Journal, error) {
	var j edit.Journal
	var l loader
	last := ""
	for len(r.b) > 0 && r.err == nil {
		n := r.uvarint()
		if n > uint64(len(last)) {
			return nil, errRecord
		}
		path := last[:n] + r.string()
		flags := r.byte()
		c := edit.Change{HadOld: flags&1 != 0, HasNew: flags&2 != 0}
		if c.HadOld {
			c.Old = r.string()
		}
		if c.HasNew {
			c.New = r.string()
		}
		if r.err != nil {
			break
		}
		var err error
		if c.Place, c.Leaf, err = l.resolve(path); err != nil {
			return nil, err
		}
		for v, has := range map[*string]bool{&c.Old: c.HadOld, &c.New: c.HasNew} {
			if !has {
				continue
			}
			if *v, err = c.Leaf.Stored(*v); err != nil {
				return nil, unknown(path, err)
			}
		}
		j = append(j, c)
		last = path
	}
	return j, r.err
}

// resolve finds the place and the schema node of a leaf's instance path.
func (l *loader) resolve(path string) (*data.Place, *schema.Node, error) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return nil, nil, fmt.Errorf("path %q is not one of a leaf", path)
	}
	if l.parent == nil || path[:i] != l.prefix {
		p, err := yangenc.ParseInstance(path[:i])
		if err != nil {
			return nil, nil, unknown(path, err)
		}
		l.prefix, l.place, l.parent = path[:i], nil, p.Schema()
		for _, step := range p {
			if step.Schema.HasValue() || step.Schema.Kind == schema.List && step.Keys == nil {
				return nil, nil, unknown(path, errors.New("it is not one of a leaf"))
			}
			l.place = &data.Place{Parent: l.place, Node: step.Schema, Keys: step.Keys}
		}
	}
	module, name, qualified := strings.Cut(path[i+1:], ":")
	if !qualified {
		module, name = "", path[i+1:]
	}
	leaf := l.parent.Child(module, name)
	if l.parent.Rank != nil && l.parent.Rank.Name == name {
		leaf = l.parent.Rank
	}
	if leaf == nil || !leaf.HasValue() && !leaf.Presence || !leaf.Config {
		return nil, nil, unknown(path, errors.New("there is no such leaf"))
	}
	return l.place, leaf, nil
}

// mostRecorded bounds the changes that the history keeps of one commit. A
// larger one is in it, but cannot be shown or taken back.
const mostRecorded = 20000

// Record is a commit in the history.
type Record struct {
	ID        uint64
	At        time.Time
	User      string
	Transport string
	Comment   string // what a commit was for that no client asked for
	Changes   int
	Complete  bool // its changes are known

	journal edit.Journal
	saves   bool // startup is to be made equal to running
}

func (r *Record) encode(j edit.Journal) []byte {
	b := binary.AppendUvarint(nil, 1) // version
	b = binary.AppendUvarint(b, uint64(r.At.UnixNano()))
	b = appendString(appendString(appendString(b, r.User), r.Transport), r.Comment)
	b = binary.AppendUvarint(b, uint64(len(j)))
	if len(j) > mostRecorded {
		return b
	}
	return appendJournal(b, j)
}

func decodeRecord(id uint64, b []byte) (*Record, error) {
	r := reader{b: b}
	if v := r.uvarint(); v != 1 {
		return nil, errRecord
	}
	rec := &Record{ID: id, At: time.Unix(0, int64(r.uvarint()))}
	rec.User, rec.Transport, rec.Comment = r.string(), r.string(), r.string()
	rec.Changes = int(r.uvarint())
	j, err := r.journal()
	rec.journal, rec.Complete = j, len(j) == rec.Changes && err == nil
	return rec, err
}
