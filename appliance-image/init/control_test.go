package main

import (
	"io"
	"strings"
	"testing"

	ctl "vita/internal/appliance"
)

func TestReadRequest(t *testing.T) {
	r := strings.NewReader(`{"do":"upgrade","downgrade":true}` + "\nthe bundle")
	q, err := readRequest(r)
	if err != nil || q != (ctl.Request{Do: ctl.Upgrade, Downgrade: true}) {
		t.Error(q, err)
	}
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "the bundle" {
		t.Errorf("what follows: %q, %v", rest, err)
	}
	for _, bad := range []string{"", "no end", "no JSON\n", strings.Repeat(" ", ctl.MaxLine+1) + "\n"} {
		if _, err := readRequest(strings.NewReader(bad)); err == nil {
			t.Errorf("%.20q", bad)
		}
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add(`{"do":"status"}` + "\nrest")
	f.Fuzz(func(t *testing.T, s string) {
		r := strings.NewReader(s)
		if _, err := readRequest(r); err == nil && s[len(s)-r.Len()-1] != '\n' {
			t.Error("it did not stop at the line's end")
		}
	})
}
