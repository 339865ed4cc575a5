package operation

import (
	"context"
	"strings"
	"testing"

	"vita/mgmt/datastore"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xmltree"
	op "vita/mgmt/operational"
)

func operations(t testing.TB) *Set {
	t.Helper()
	s, err := Gateway{}.Operations()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func find(t testing.TB, s *Set, name string) *schema.Operation {
	t.Helper()
	o := s.Find("vita:esp-gateway-ext", name)
	if o == nil {
		t.Fatalf("no operation %s", name)
	}
	return o
}

// An operation of the model that nobody carries out is found at start, and so is
// one that is not in the model.
func TestSetIsComplete(t *testing.T) {
	nothing := func(context.Context, *datastore.Session, Input) ([]*op.Node, error) { return nil, nil }
	if _, err := New(map[string]Run{"vita-esp-gateway-ext:rekey": nothing}); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Error(err)
	}
	all := map[string]Run{"vita-esp-gateway-ext:explode": nothing}
	for _, o := range schema.Operations() {
		all[o.Module+":"+o.Name] = nothing
	}
	if _, err := New(all); err == nil {
		t.Error("an operation that is not in the model")
	}
	var none *Set
	if none.Find("vita:esp-gateway-ext", "rekey") != nil || none.All() != nil {
		t.Error("a nil set has operations")
	}
}

func TestDefaults(t *testing.T) {
	s := operations(t)
	in, err := FromJSON(find(t, s, "history"), []byte(`{"vita-esp-gateway-ext:input":{"most":7}}`))
	if err != nil || in["most"] != "7" || in["changes"] != "false" {
		t.Error(in, err)
	}
	if in, err = FromJSON(find(t, s, "rollback"), nil); err != nil || in["commits"] != "1" {
		t.Error(in, err)
	}
}

func FuzzInput(f *testing.F) {
	f.Add([]byte(`{"vita-esp-gateway-ext:input":{"most":7,"changes":true}}`))
	f.Add([]byte(`{"vita-esp-gateway-ext:input":{"most":[7]}} x`))
	f.Add([]byte(`<history xmlns="vita:esp-gateway-ext"><most>7</most><changes>true</changes></history>`))
	f.Add([]byte(`<history xmlns="vita:esp-gateway-ext"><most><most/></most></history>`))
	o := find(f, operations(f), "history")
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(in Input, err error) {
			if err != nil {
				return
			}
			for _, n := range o.Input {
				if c, err := n.Type.Canonical(in[n.Name]); err != nil || c != in[n.Name] {
					t.Errorf("%s has the value %q", n.Name, in[n.Name])
				}
			}
		}
		check(FromJSON(o, b))
		if e, err := xmltree.Parse(b, xmltree.Limits{Bytes: 1 << 16, Depth: 8}); err == nil {
			check(FromXML(o, e))
		}
	})
}
