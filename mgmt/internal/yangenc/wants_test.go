package yangenc

import (
	"slices"
	"testing"

	"vita/mgmt/internal/xmltree"
)

// TestWants compares which children of gateway-state are wanted with what can
// be shown: never fewer.
func TestWants(t *testing.T) {
	children := []string{"private-router", "drop", "route", "crypto-tier"}
	at := func(s string) Path {
		p, err := ParseRESTCONF(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	subtree := func(s string) *Filter {
		e, err := xmltree.Parse([]byte(`<filter xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">`+s+`</filter>`), xmltree.Limits{Bytes: 1000, Depth: 10})
		if err != nil {
			t.Fatal(err)
		}
		f, err := SubtreeFilter(e)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	fields := func(p Path, s string) *Filter {
		f, err := FieldsFilter(p, s)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	const state = "vita-esp-gateway:gateway-state"
	for name, c := range map[string]struct {
		at   Path
		o    Opts
		want []string
	}{
		"everything":             {nil, Opts{}, children},
		"configuration":          {nil, Opts{Content: ContentConfig}, nil},
		"another node":           {at("vita-esp-gateway:mtu"), Opts{}, nil},
		"the container":          {at(state), Opts{}, children},
		"a child":                {at(state + "/private-router"), Opts{}, []string{"private-router"}},
		"an entry":               {at(state + "/vita-esp-gateway-ext:route=a/sent-bytes"), Opts{}, []string{"route"}},
		"fields of the root":     {nil, Opts{Filter: fields(nil, "vita-esp-gateway:gateway-state(private-router;vita-esp-gateway-ext:drop)")}, []string{"private-router", "drop"}},
		"fields":                 {at(state), Opts{Filter: fields(at(state), "private-router/mtu-errors;vita-esp-gateway-ext:route/id")}, []string{"private-router", "route"}},
		"fields elsewhere":       {nil, Opts{Filter: fields(nil, "vita-esp-gateway:mtu")}, nil},
		"empty subtree":          {nil, Opts{Filter: subtree("")}, nil},
		"subtree, all":           {nil, Opts{Filter: subtree(`<gateway-state xmlns="vita:esp-gateway"/>`)}, children},
		"subtree, any namespace": {nil, Opts{Filter: subtree(`<gateway-state><drop/></gateway-state>`)}, []string{"drop"}},
		"subtree, two":           {nil, Opts{Filter: subtree(`<gateway-state><drop/></gateway-state><gateway-state><route/></gateway-state>`)}, []string{"drop", "route"}},
		"subtree, one of all":    {nil, Opts{Filter: subtree(`<gateway-state><drop/></gateway-state><gateway-state/>`)}, children},
		"subtree, match":         {nil, Opts{Filter: subtree(`<gateway-state><crypto-tier>x</crypto-tier><route/></gateway-state>`)}, []string{"route", "crypto-tier"}},
		"subtree, elsewhere":     {nil, Opts{Filter: subtree(`<mtu xmlns="vita:esp-gateway"/>`)}, nil},
		"XPath":                  {nil, Opts{Filter: PickFilter(nil)}, children},
	} {
		wants := Wants("gateway-state", c.at, c.o)
		var got []string
		for _, child := range children {
			if wants != nil && wants(child) {
				got = append(got, child)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
