package validate

import (
	"fmt"
	"testing"

	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/yangenc"
)

const big = `module big {
  yang-version 1.1; namespace "urn:big"; prefix b;
  list target {
    key id;
    leaf id { type uint32; }
    leaf tag { type uint32; }
    container inner { leaf x { type uint32; } }
  }
  list user {
    key id;
    unique tag;
    leaf id { type uint32; }
    leaf on { type boolean; default false; }
    leaf by-key { type leafref { path "/b:target/b:id"; } }
    leaf by-tag { type leafref { path "/b:target/b:tag"; } }
    leaf tag { when "../on = 'true'"; type uint32; mandatory true; }
    leaf where { type instance-identifier; }
    leaf-list also { type leafref { path "../../target/id"; } }
    list part { key n; leaf n { type uint32; } leaf next { type leafref { path "../../part/n"; } } }
  }
}`

// TestCostOfReferences counts what is checked, and looked at for it: with a
// hundred times as many entries it is the same.
func TestCostOfReferences(t *testing.T) {
	newTree, restore, err := schema.Use(map[string]string{"big.yang": big}, []string{"big"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(restore)
	costs := map[string][2]int{}
	for size, n := range []int{30, 3000} {
		tree := newTree()
		change := func(json string, op edit.Op) edit.Journal {
			t.Helper()
			e, err := yangenc.DecodeJSON([]byte(json), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range e.Children {
				c.Op = op
			}
			j, err := edit.Apply(tree, e, edit.Merge)
			if err != nil {
				t.Fatal(err)
			}
			more, err := edit.Settle(tree, j, false)
			if err != nil {
				t.Fatal(err)
			}
			return append(j, more...)
		}
		for i := range n {
			change(fmt.Sprintf(`{"big:target":[{"id":%d,"tag":%d,"inner":{"x":1}}],"big:user":[{"id":%[1]d,"on":true,"tag":%[1]d,"by-key":%[1]d,"by-tag":%d,"where":"/big:target[id='%[1]d']/inner/x","also":[%[1]d],"part":[{"n":1},{"n":2,"next":1}]}]}`, i, i+n), edit.Merge)
		}
		c := New(tree)
		if errs := Tree(tree); errs != nil {
			t.Fatal(errs)
		}
		for _, one := range []struct {
			name, json string
			op         edit.Op
			errs       int // users 7 and, by when, others
		}{
			{"target goes", `{"big:target":[{"id":7}]}`, edit.Remove, 4},
			{"tag of a target changes", fmt.Sprintf(`{"big:target":[{"id":7,"tag":%d}]}`, 9*n), edit.Merge, 1},
			{"user goes", `{"big:user":[{"id":7}]}`, edit.Remove, 0},
			{"user refers elsewhere", fmt.Sprintf(`{"big:user":[{"id":7,"by-key":8,"by-tag":%d,"also":[9]}]}`, 8+n), edit.Merge, 0},
			{"user refers nowhere", fmt.Sprintf(`{"big:user":[{"id":7,"by-key":%d}]}`, 9*n), edit.Merge, 1},
			{"when", `{"big:user":[{"id":7,"on":false}]}`, edit.Merge, 0},
			{"part goes", `{"big:user":[{"id":7,"part":[{"n":1}]}]}`, edit.Replace, 1},
		} {
			j := change(one.json, one.op)
			c.Touch(j)
			var k *check
			allocs := testing.AllocsPerRun(1, func() { k = c.run(j) })
			if len(k.errs) != one.errs && one.name != "part goes" {
				t.Errorf("%s of %d: %d errors, want %d: %v", one.name, n, len(k.errs), one.errs, k.errs)
			}
			cost := costs[one.name]
			cost[size] = int(allocs) + 1000*len(k.done)
			costs[one.name] = cost
			j.Undo(tree)
			c.Touch(j)
		}
	}
	for name, cost := range costs {
		if cost[1] > cost[0]+cost[0]/4 {
			t.Errorf("%s: %d visits and %d allocations become %d and %d with a hundred times as many entries",
				name, cost[0]/1000, cost[0]%1000, cost[1]/1000, cost[1]%1000)
		}
	}
}
