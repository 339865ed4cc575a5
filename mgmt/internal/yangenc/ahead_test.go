package yangenc_test

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"vita/mgmt/internal/xmltree"
	"vita/mgmt/internal/yangenc"
)

// TestAhead decodes many entries on one processor and on four: the same comes of
// it, and the error is that of the first entry that has one.
func TestAhead(t *testing.T) {
	document := func(n int, wrong map[int]string) *xmltree.Element {
		var b strings.Builder
		b.WriteString(`<config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><mtu xmlns="vita:esp-gateway">1400</mtu>`)
		for i := range n {
			inside, ok := wrong[i]
			if !ok {
				inside = fmt.Sprintf("<spi>%d</spi>", 1000+i)
			}
			fmt.Fprintf(&b, `<route4 xmlns="vita:esp-gateway"><id>site%d</id>%s<gateway><ip>203.0.113.1</ip></gateway></route4>`, i, inside)
			if i == n/2 { // something else amid them
				b.WriteString(`<private-interface4 xmlns="vita:esp-gateway"><ip>10.0.0.1</ip></private-interface4>`)
			}
		}
		b.WriteString(`</config>`)
		e, err := xmltree.Parse([]byte(b.String()), xmltree.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for _, c := range []struct {
		n     int
		wrong map[int]string
		want  string // part of the error's path
	}{
		{n: 255},
		{n: 256},
		{n: 257},
		{n: 1300},
		{1300, map[int]string{0: "<spi>x</spi>", 700: "<spi>y</spi>"}, "site0"},
		{1300, map[int]string{701: "<spi>x</spi>", 702: "<spi>y</spi>"}, "site701"},
		{1300, map[int]string{127: "<flux/>", 128: "<spi>y</spi>"}, "site127"},
		{1300, map[int]string{1299: "<spi>1</spi>"}, "site1299"},
		{1300, map[int]string{900: `<id>site900</id>`, 901: "<flux/>"}, "comes twice"},
		{1300, map[int]string{511: `<spi nc:operation="melt">1000</spi>`, 512: "<spi>y</spi>"}, "site511"},
	} {
		e := document(c.n, c.wrong)
		var got []any
		for _, processors := range []int{1, 4} {
			before := runtime.GOMAXPROCS(processors)
			node, err := yangenc.DecodeXML(e)
			runtime.GOMAXPROCS(before)
			if (err != nil) != (c.want != "") {
				t.Fatalf("%d entries, wrong %v: %v", c.n, c.wrong, err)
			}
			if err != nil && !strings.Contains(fmt.Sprintf("%+v", err), c.want) {
				t.Errorf("%d entries, wrong %v: %+v, want it about %s", c.n, c.wrong, err, c.want)
			}
			if err == nil && len(node.Children) != c.n+2 {
				t.Errorf("%d entries: %d nodes", c.n, len(node.Children))
			}
			got = append(got, []any{node, err})
		}
		if !reflect.DeepEqual(got[0], got[1]) {
			t.Errorf("%d entries, wrong %v: not the same on four processors", c.n, c.wrong)
		}
	}
}
