package modeltest

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"vita/mgmt/internal/schema"
)

// Normal brings a JSON text of a whole tree into a form in which the order of what
// has none does not matter, and in which containers that say nothing are left out.
func Normal(t testing.TB, text string) string {
	t.Helper()
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	out, err := json.Marshal(order(schema.Root(), v))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func order(n *schema.Node, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			module, local, ok := strings.Cut(name, ":")
			if !ok {
				module, local = n.Module, name
			}
			if c := n.Child(module, local); c != nil {
				v[name] = order(c, inner)
				if m, is := v[name].(map[string]any); is && len(m) == 0 && !c.Presence {
					delete(v, name)
				}
			}
		}
	case []any:
		for i := range v {
			v[i] = order(n, v[i])
		}
		if (n.Kind == schema.List || n.Kind == schema.LeafList) && !n.ByUser {
			slices.SortFunc(v, func(a, b any) int {
				x, _ := json.Marshal(a) // it was JSON
				y, _ := json.Marshal(b)
				return bytes.Compare(x, y)
			})
		}
	}
	return v
}
