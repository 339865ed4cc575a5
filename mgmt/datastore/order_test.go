package datastore

import (
	"strings"
	"testing"

	"vita/mgmt/internal/schema"
)

const (
	nacmNS   = ` xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-acm"`
	systemNS = ` xmlns="urn:ietf:params:xml:ns:yang:ietf-system" xmlns:s="urn:ietf:params:xml:ns:yang:ietf-system"`
	yangNS   = ` xmlns:y="urn:ietf:params:xml:ns:yang:1"`
)

// TestOrderIsKept checks that what users have put in order is so after a restart,
// and goes back with the history: entries of a list, and values of a leaf-list.
func TestOrderIsKept(t *testing.T) {
	dir := t.TempDir()
	d := opened(t, dir)
	list := func(attributes, name string) string {
		return `<nacm` + nacmNS + yangNS + `><rule-list ` + attributes + `><name>` + name + `</name></rule-list></nacm>`
	}
	order := func(want string) {
		t.Helper()
		var at []string
		text := xmlOf(t, d, Running)
		for text != "" {
			_, after, ok := strings.Cut(text, "<name>")
			if !ok {
				break
			}
			name, rest, _ := strings.Cut(after, "</name>")
			at, text = append(at, name), rest
		}
		if got := strings.Join(at, " "); got != want {
			t.Fatalf("order %q, want %q", got, want)
		}
	}
	for _, config := range []string{
		list("", "b"), list("", "c"), list(`y:insert="first"`, "a"), list(`y:insert="after" y:key="[name='b']" `, "x"),
		`<system` + systemNS + `><authentication><user-authentication-order>s:local-users</user-authentication-order></authentication></system>`,
	} {
		config = strings.ReplaceAll(config, "[name=", "[n:name=")
		config = strings.ReplaceAll(config, nacmNS, nacmNS+strings.Replace(nacmNS, "xmlns=", "xmlns:n=", 1))
		if err := d.Edit(ctx, alice, Running, decode(t, config), merge); err != nil {
			t.Fatal(err)
		}
	}
	order("a b x c")
	if err := d.Edit(ctx, alice, Running, decode(t, list(`y:insert="first"`, "c")), merge); err != nil {
		t.Fatal(err)
	}
	order("c a b x")
	all, err := d.History(nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	if c := all[0].Diff(); len(c) != 1 || c[0].Path != "/ietf-netconf-acm:nacm/rule-list[name='c']" || c[0].New != "moved" {
		t.Errorf("%+v", c)
	}
	for _, r := range all {
		for _, c := range r.Diff() {
			if strings.Contains(c.Path, schema.RankName) {
				t.Errorf("the history shows %s", c.Path)
			}
		}
	}
	before := xmlOf(t, d, Running)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = opened(t, dir)
	if got := xmlOf(t, d, Running); got != before || !strings.Contains(got, "local-users") {
		t.Fatalf("after a restart:\n%s\nbefore:\n%s", got, before)
	}
	order("c a b x")
	if err := d.Rollback(alice, 1); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(ctx, alice); err != nil {
		t.Fatal(err)
	}
	order("a b x c")
}

// TestOrderOfPending puts pending insertions on top of another running.
func TestOrderOfPending(t *testing.T) {
	d := opened(t, t.TempDir())
	list := func(name string) string {
		return `<nacm` + nacmNS + `><rule-list><name>` + name + `</name></rule-list></nacm>`
	}
	for _, e := range []struct {
		name  string
		store Name
	}{{"a", Running}, {"pending", Candidate}, {"b", Running}} { // both are the last at first
		if err := d.Edit(ctx, alice, e.store, decode(t, list(e.name)), merge); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Commit(ctx, alice); err != nil {
		t.Fatal(err)
	}
	between := `<nacm` + nacmNS + strings.Replace(nacmNS, "xmlns=", "xmlns:n=", 1) + yangNS + `><rule-list y:insert="after" y:key="[n:name='b']"><name>c</name></rule-list></nacm>`
	if err := d.Edit(ctx, alice, Running, decode(t, between), merge); err != nil {
		t.Fatal(err)
	}
	text := xmlOf(t, d, Running)
	if a, b, c, p := strings.Index(text, ">a<"), strings.Index(text, ">b<"), strings.Index(text, ">c<"), strings.Index(text, ">pending<"); a > b || b > c || c > p && p > b || p < 0 {
		t.Errorf("%s", text)
	}
}
