package edit

import (
	"slices"
	"strings"

	"vita/mgmt/internal/data"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

// Entries of a list that users order stand in the order of their ranks, numbers
// with gaps between them, so that one that comes between two others changes none
// of them. Where a gap is used up all entries of the list get new ranks.
const gap = 1 << 40

// listAt is a list in a struct.
type listAt struct {
	address uintptr
	list    *schema.Node
}

// order is the order of a list's entries: their ranks, sorted. It is made when
// an edit needs it first.
type order struct {
	s     data.Struct // keeps its address from being used anew
	ranks []uint64
}

func (ed *editor) order(list *schema.Node, s data.Struct) *order {
	at := listAt{s.Address(), list}
	if o := ed.orders[at]; o != nil {
		return o
	}
	o := &order{s: s}
	s.Entries(list, func(e data.Struct) bool {
		if r := e.Rank(list); r != 0 { // the entry that is being made has none
			o.ranks = append(o.ranks, r)
		}
		return true
	})
	slices.Sort(o.ranks)
	if ed.orders == nil {
		ed.orders = map[listAt]*order{}
	}
	ed.orders[at] = o
	return o
}

// last returns a rank behind all others.
func (o *order) last() uint64 {
	if len(o.ranks) == 0 {
		return 1 << 63
	}
	r, _ := between(o.ranks[len(o.ranks)-1], 0)
	return r
}

// between returns a rank between two, of which the second is 0 for none.
func between(low, high uint64) (uint64, bool) {
	switch {
	case high == 0 && low < 1<<64-1-gap:
		return low + gap, true
	case high == 0:
		return low + (1<<64-1-low)/2, low < 1<<64-3
	case high-low > 2*gap && low == 0:
		return high - gap, true
	}
	return low + (high-low)/2, high > low && high-low > 1
}

// setRank gives an entry a rank, 0 for none.
func (ed *editor) setRank(at *data.Place, s, entry data.Struct, rank uint64) {
	list := at.Node
	o := ed.order(list, s)
	old := entry.Rank(list)
	if old == rank {
		return
	}
	c := Change{Place: at, Leaf: list.Rank}
	if old != 0 {
		c.Old, c.HadOld = schema.RankText(old), true
		if i, found := slices.BinarySearch(o.ranks, old); found {
			o.ranks = slices.Delete(o.ranks, i, i+1)
		}
	}
	if rank != 0 {
		c.New, c.HasNew = schema.RankText(rank), true
		i, _ := slices.BinarySearch(o.ranks, rank)
		o.ranks = slices.Insert(o.ranks, i, rank)
		entry.SetLeaf(list.Rank, c.New)
	} else {
		entry.ClearLeaf(list.Rank)
	}
	ed.journal = append(ed.journal, c)
}

// move puts an entry where an edit wants it.
func (ed *editor) move(e *Node, at *data.Place, s, entry data.Struct) error {
	list := at.Node
	if list.Rank == nil {
		return notOrdered(at.Path())
	}
	for try := 0; ; try++ {
		rank, ok, err := ed.place(e, list, s, entry, at.Path())
		if err != nil {
			return err
		}
		if ok {
			ed.setRank(at, s, entry, rank)
			return nil
		}
		ed.renumber(at.Parent, list, s)
	}
}

func notOrdered(path string) error {
	return rpcerr.New("bad-attribute", path, "insert: the list is ordered by the system")
}

// place finds a rank where an edit wants an entry to be; there may be none left.
func (ed *editor) place(e *Node, list *schema.Node, s, entry data.Struct, path string) (rank uint64, ok bool, err error) {
	ranks := ed.order(list, s).ranks
	own := entry.Rank(list)
	at := func(i, step int) uint64 { // the next of the others
		if i >= 0 && i < len(ranks) && ranks[i] == own {
			i += step
		}
		if i < 0 || i >= len(ranks) {
			return 0
		}
		return ranks[i]
	}
	low, high := uint64(0), uint64(0)
	switch e.Insert {
	case First:
		high = at(0, 1)
	case Last:
		low = at(len(ranks)-1, -1)
	default:
		point := s.Entry(list, e.Point)
		if !point.Exists() {
			return 0, false, noPoint(path)
		}
		if point.Same(entry) {
			return own, true, nil
		}
		i, _ := slices.BinarySearch(ranks, point.Rank(list))
		if e.Insert == After {
			low, high = ranks[i], at(i+1, 1)
		} else {
			low, high = at(i-1, -1), ranks[i]
		}
	}
	if low == 0 && high == 0 {
		return own, true, nil // the only one
	}
	rank, ok = between(low, high)
	return rank, ok, nil
}

func noPoint(path string) error {
	e := rpcerr.New("bad-attribute", path, "insert: the entry that it names does not exist")
	e.AppTag = "missing-instance"
	return e
}

// renumber gives all entries of a list ranks with gaps between them.
func (ed *editor) renumber(p *data.Place, list *schema.Node, s data.Struct) {
	sorted := s.Sorted(list)
	for i, entry := range sorted {
		rank := 1<<63 + (uint64(i)-uint64(len(sorted)/2))*gap
		at := &data.Place{Parent: p, Node: list, Keys: entry.Keys(list)}
		data.Own(ed.tree, at)
		ed.setRank(at, s, s.Entry(list, at.Keys), rank)
	}
}

// arrange puts the entries of lists that users order into the order of an edit
// that replaces them all.
func (ed *editor) arrange(e *Node, p *data.Place, s data.Struct) {
	last := map[*schema.Node]uint64{}
	for _, c := range e.Children {
		if c.Schema.Rank == nil || c.Keys == nil || c.Op != None || c.Insert != Stay {
			continue
		}
		entry := s.Entry(c.Schema, c.Keys)
		rank := entry.Rank(c.Schema)
		if before := last[c.Schema]; rank <= before {
			rank = before + gap
			ed.setRank(&data.Place{Parent: p, Node: c.Schema, Keys: c.Keys}, s, entry, rank)
		}
		last[c.Schema] = rank
	}
}

// leafList carries out what an edit has of a leaf-list in the struct s: as one
// change of all its values.
func (ed *editor) leafList(list *schema.Node, e *Node, p *data.Place, s data.Struct, above Op) error {
	values := s.Values(list)
	had := make(map[string]bool, len(values))
	for _, v := range values {
		had[v] = true
	}
	var out []string
	if above != Replace { // otherwise what is not named goes, and the order is the edit's
		out = values
	}
	kept := make(map[string]bool, len(values))
	for _, v := range out {
		kept[v] = true
	}
	for _, c := range e.Children {
		if c.Schema != list {
			continue
		}
		op := Inherit(c.Op, above)
		path := ValuePath(p, list, c.Value)
		switch {
		case op == Create && had[c.Value]:
			return exists(path)
		case (op == Delete || op == None) && !had[c.Value]:
			return missing(path)
		}
		if op == Delete || op == Remove {
			if kept[c.Value] {
				out = slices.DeleteFunc(slices.Clone(out), func(v string) bool { return v == c.Value })
				kept[c.Value] = false
			}
			continue
		}
		if c.Insert != Stay && !list.ByUser {
			return notOrdered(path)
		}
		if kept[c.Value] && c.Insert == Stay {
			continue
		}
		at := len(out)
		switch c.Insert {
		case First:
			at = 0
		case Before, After:
			at = slices.Index(out, c.Point[0])
			if at < 0 {
				return noPoint(path)
			}
			if c.Point[0] == c.Value {
				continue
			}
		}
		if was := slices.Index(out, c.Value); kept[c.Value] && was >= 0 {
			out = slices.Delete(slices.Clone(out), was, was+1)
			if was < at {
				at--
			}
		}
		if c.Insert == After {
			at++
		}
		out = slices.Insert(slices.Clip(out), at, c.Value)
		kept[c.Value] = true
	}
	if len(out) == 0 {
		ed.clear(p, s, list)
		return nil
	}
	ed.set(p, s, list, joined(out))
	return nil
}

// split is the inverse of joined.
func split(values string) []string { return strings.Split(values, schema.Separator) }

// ValuePath returns the instance path of a value of a leaf-list.
func ValuePath(p *data.Place, list *schema.Node, value string) string {
	return p.Child(list) + "[.=" + schema.Quote(value) + "]"
}
