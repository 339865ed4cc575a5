package datastore

import (
	"fmt"
	"strings"
	"testing"

	"vita/mgmt/internal/view"
	"vita/mgmt/internal/yangenc"
	"vita/mgmt/nacm"
)

// BenchmarkReadAs reads 100 000 routes as somebody whom no rule can concern, as a user
// whose rules are about other things, and as one who cannot see a single route.
func BenchmarkReadAs(b *testing.B) {
	d, err := Open(Options{Dir: b.TempDir(), Access: &nacm.Control{}})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	var all strings.Builder
	all.WriteString(private4)
	for n := range 100_000 {
		fmt.Fprintf(&all, `<route4 xmlns="vita:esp-gateway"><id>site%d</id><spi>%d</spi><preshared-key>%064x</preshared-key><net>10.%d.%d.%d/32</net><gateway><ip>203.0.113.2</ip></gateway></route4>`, n, 1000+n, n, n>>16, n>>8&255, n&255)
	}
	if err := d.Edit(ctx, rescue, Candidate, decode(b, all.String()), merge); err != nil {
		b.Fatal(err)
	}
	for name, rules := range map[string][]string{
		"recovery": nil, "elsewhere": {"deny read /vita-esp-gateway:mtu", "deny read /vita-esp-gateway:tfc"}, "one route": {"deny read /vita-esp-gateway:route4[id='site77']"},
	} {
		s := rescue
		if rules != nil {
			s = &Session{ID: 7, User: "joe"}
			if err := d.Edit(ctx, rescue, Running, decode(b, acm("", rules...)), merge); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var n counter
				if err := d.ReadAs(s, Candidate, nil, func(v *view.View) error {
					return yangenc.EncodeXML(&n, v.Root, yangenc.Opts{Content: yangenc.ContentConfig, Hidden: v.Hidden})
				}); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(n))
			}
		})
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
