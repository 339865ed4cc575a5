// Package beside does parts of one thing beside each other, on as many processors
// as there are.
package beside

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// most bounds the processors that one thing takes.
const most = 4

// Parts is into how many parts something large is to be divided.
func Parts() int { return min(runtime.GOMAXPROCS(0), most) }

// Do calls fn with each number below n, and returns when all calls have. The first
// is made by the caller itself. A panic of any is one of the caller's, who may know
// what to do.
func Do(n int, fn func(part int)) {
	var others sync.WaitGroup
	failed := make([]any, n)
	for part := 1; part < n; part++ {
		others.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					failed[part] = fmt.Sprintf("%v\n%s", p, debug.Stack())
				}
			}()
			fn(part)
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
	fn(0)
}
