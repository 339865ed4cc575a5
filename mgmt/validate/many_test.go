package validate

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"vita/gen"
	"vita/mgmt/internal/edit"
)

// TestMany checks a journal that is so large that it is divided, on one processor
// and on four: the errors are the same, and each is there once, be both entries of a
// pair in the same part or not.
func TestMany(t *testing.T) {
	const routes = 2000
	for name, c := range map[string]struct {
		wrong map[int]string // what stands for the route of a number
		want  int
	}{
		"valid":        {nil, 0},
		"same spi":     {map[int]string{1900: route(4, "r1900", 1003, 1900, 0, gateway(4, 1, ""))}, 1},
		"side by side": {map[int]string{1001: route(4, "r1001", 2000, 1001, 0, gateway(4, 1, ""))}, 1},
		"no key":       {map[int]string{7: `{"id":"r7","spi":1007,"gateway":[` + gateway(4, 1, "") + `]}`, 1500: `{"id":"r1500","spi":2500}`}, 0},
	} {
		var all []string
		for i := range routes {
			one, ok := c.wrong[i]
			if !ok {
				one = route(4, fmt.Sprint("r", i), 1000+i, i, 0, gateway(4, 1, ""))
			}
			all = append(all, strings.Replace(one, `"net":"10.0.0.0/16"`, fmt.Sprintf(`"net":"10.%d.%d.0/24"`, i>>8, i&255), 1))
		}
		tree := &gen.Vita{}
		checker := New(tree)
		j := apply(t, tree, `{`+private(4)+`,"vita-esp-gateway:public-interface4":[`+public(4, "")+`],"vita-esp-gateway:route4":[`+strings.Join(all, ",")+`]}`, edit.Merge)
		checker.Touch(j)
		if len(j) < manyChanges {
			t.Fatalf("%d changes", len(j))
		}
		var got []any
		for _, processors := range []int{1, 4} {
			before := runtime.GOMAXPROCS(processors)
			got = append(got, checker.Check(j))
			runtime.GOMAXPROCS(before)
		}
		if !reflect.DeepEqual(got[0], got[1]) {
			t.Errorf("%s: on one processor\n%v\non four\n%v", name, got[0], got[1])
		}
		n := reflect.ValueOf(got[1]).Len()
		if c.want != n && (name != "no key" || n < 3) {
			t.Errorf("%s: %v", name, got[1])
		}
	}
}
