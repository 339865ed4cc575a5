package yangenc

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"

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
	n := min(runtime.GOMAXPROCS(0), 4)
	if a.read == nil {
		a.read = make([]inner, n*readAhead)
	}
	a.first, a.read = i, a.read[:min(len(a.read), len(a.from)-i)]
	clear(a.read)
	part := func(from int) {
		for at := from; at < len(a.read); at += n {
			c := a.from[i+at]
			if s := a.b.lookup(c); isEntry(s) {
				a.read[at] = a.b.xmlInner(s, c, a.ops)
			}
		}
	}
	var others sync.WaitGroup
	failed := make([]any, n)
	for from := 1; from < n; from++ {
		others.Go(func() {
			defer func() {
				if p := recover(); p != nil { // the caller may know what to do
					failed[from] = fmt.Sprintf("%v\n%s", p, debug.Stack())
				}
			}()
			part(from)
		})
	}
	defer func() { // nothing of it goes on when the caller does, not even by a panic
		others.Wait()
		for _, p := range failed {
			if p != nil {
				panic(p)
			}
		}
	}()
	part(0)
}
