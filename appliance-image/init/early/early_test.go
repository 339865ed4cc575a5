package early

import (
	"strings"
	"testing"
)

func TestRootOf(t *testing.T) {
	word := "vita.root=" + strings.Repeat("0a", 32) + ":7"
	if r, err := rootOf("console=ttyS0 " + word + " quiet\n"); err != nil || r.Blocks != 7 {
		t.Error(r, err)
	}
	for _, bad := range []string{"", "quiet", "vita.root=", word + " " + word, "vita.root=x:1", "x" + word} {
		if _, err := rootOf(bad); err == nil {
			t.Errorf("%q", bad)
		}
	}
}
