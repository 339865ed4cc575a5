package rpcerr

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestBounded(t *testing.T) {
	long := strings.Repeat("xé", 5000)
	in := Errors{
		{Tag: "short", Path: "/m:a", Message: "m", BadElement: "e", NonUnique: []string{"/m:b"}},
		{Tag: "long", Path: "/" + long, Message: long, BadElement: long, BadAttribute: long, BadNamespace: long, MissingChoice: long, NonUnique: []string{long, "/m:b"}},
	}
	out := in.Bounded()
	if s := out[0]; s.Path != "/m:a" || s.Message != "m" || s.BadElement != "e" || len(s.NonUnique) != 1 {
		t.Errorf("a short error has changed: %+v", s)
	}
	l := out[1]
	for _, s := range []string{l.Message, l.BadElement, l.BadAttribute, l.BadNamespace, l.MissingChoice} {
		if len(s) > maxText+30 || !utf8.ValidString(s) || !strings.HasSuffix(s, "… (15000 bytes)") {
			t.Errorf("%.50q…, %d bytes", s, len(s))
		}
	}
	if l.Path != "" || len(l.NonUnique) != 1 || in[1].Path == "" {
		t.Errorf("paths %.20q %d", l.Path, len(l.NonUnique))
	}
	many := make(Errors, maxErrors+5)
	for i := range many {
		many[i] = &Error{Tag: "t"}
	}
	if b := many.Bounded(); len(b) != maxErrors+1 || !strings.HasPrefix(b[maxErrors].Message, "5 more") {
		t.Errorf("%d errors, last %v", len(b), b[len(b)-1])
	}
}
