package yangenc

import (
	"vita/mgmt/internal/beside"
	"vita/mgmt/internal/xmltree"
)

// ahead reads the list entries among the children of a node, some at a time and
// beside each other where they are many. What they are read into is added in their
// order, by who asks for them, so that errors are those of the first.
type ahead struct {
	b    *builder
	from []*xmltree.Element
	ops  bool

	first int // child that read begins with
	read  []inner
}

const (
	manyChildren = 256 // as many as are worth a second processor
	readAhead    = 128 // by each processor
)

// at returns the child of a number, which is a list entry.
func (a *ahead) at(i int) inner {
	if len(a.from) < manyChildren {
		return a.b.xmlInner(a.b.lookup(a.from[i]), a.from[i], a.ops)
	}
	if i >= a.first+len(a.read) {
		a.fill(i)
	}
	return a.read[i-a.first]
}

// fill reads what comes from the child of a number on.
func (a *ahead) fill(i int) {
	n := beside.Parts()
	if a.read == nil {
		a.read = make([]inner, n*readAhead)
	}
	a.first, a.read = i, a.read[:min(len(a.read), len(a.from)-i)]
	clear(a.read)
	beside.Do(n, func(part int) {
		for at := part; at < len(a.read); at += n {
			c := a.from[i+at]
			if s := a.b.lookup(c); isEntry(s) {
				a.read[at] = a.b.xmlInner(s, c, a.ops)
			}
		}
	})
}
