package keeper

import "container/heap"

// logRate is how many refused messages are logged a second: the counters tell
// the number, the log only of what kind they are.
const logRate = 5

// bucket is a rate limit: so many a second, and as many at once.
type bucket struct {
	rate   float64
	tokens float64
	last   int64
}

func newBucket(rate float64) bucket { return bucket{rate: rate, tokens: rate} }

func (b *bucket) take(now int64) bool {
	if now > b.last {
		b.tokens = min(b.rate, b.tokens+float64(now-b.last)/1e9*b.rate)
		b.last = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// pacer spreads what is to be done over time: each reservation is a moment, at
// least every nanoseconds after the one before, but for so many in a burst.
type pacer struct {
	every int64
	burst int64
	next  int64
}

// reserve returns the moment, now or later, at which the caller may go ahead.
func (p *pacer) reserve(now int64) int64 {
	p.next = max(p.next, now-p.burst*p.every) + p.every
	return max(p.next, now)
}

// timers is a heap of links by when something is due for them.
type timers []*link

// first returns the link that is due first; nil: there is none.
func (t timers) first() *link {
	if len(t) == 0 {
		return nil
	}
	return t[0]
}

// set enters a link or moves it.
func (t *timers) set(l *link, due int64) {
	l.due = due
	if l.timer == 0 {
		heap.Push(t, l)
		return
	}
	heap.Fix(t, int(l.timer)-1)
}

// remove takes a link out.
func (t *timers) remove(l *link) {
	if l.timer != 0 {
		heap.Remove(t, int(l.timer)-1)
	}
}

// Len, Less, Swap, Push and Pop are heap.Interface. A link knows its place,
// counted from 1.
func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due < t[j].due }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].timer, t[j].timer = int32(i)+1, int32(j)+1
}

func (t *timers) Push(x any) {
	if l, ok := x.(*link); ok {
		*t = append(*t, l)
		l.timer = int32(len(*t))
	}
}

func (t *timers) Pop() any {
	old := *t
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	l.timer = 0
	return l
}
