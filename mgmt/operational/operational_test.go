package operational

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"vita/mgmt/internal/xmltree"
)

const lib = "urn:ietf:params:xml:ns:yang:ietf-yang-library"

// sample has every kind and type of node.
func sample() *Node {
	return Top(Name{"ietf-yang-library", "yang-library"},
		ListEntry("module", 2, Text("name", "a"), Text("revision", "1"), Number("n", 7), Items("feature", "x", "y<&")[0], Items("feature", "x", "y<&")[1]),
		ListEntry("module", 2, Text("name", "b,c"), Text("revision", "2"), IdentityOf("format", "ietf-netconf-monitoring", "yang")),
		nil,
		Group("in", Text("leaf", "v")))
}

func xmlOf(n *Node) string {
	if n == nil {
		return ""
	}
	var b bytes.Buffer
	n.WriteXML(&b)
	return b.String()
}

func TestWrite(t *testing.T) {
	want := `<yang-library xmlns="` + lib + `"><module><name>a</name><revision>1</revision><n>7</n><feature>x</feature><feature>y&lt;&amp;</feature></module>` +
		`<module><name>b,c</name><revision>2</revision><format xmlns:ietf-netconf-monitoring="urn:ietf:params:xml:ns:yang:ietf-netconf-monitoring">ietf-netconf-monitoring:yang</format></module>` +
		`<in><leaf>v</leaf></in></yang-library>`
	if got := xmlOf(sample()); got != want {
		t.Errorf("XML\n%s, want\n%s", got, want)
	}
	var b bytes.Buffer
	WriteJSON(&b, "", sample())
	want = `"ietf-yang-library:yang-library":{"module":[{"name":"a","revision":"1","n":7,"feature":["x","y\u003c\u0026"]},` +
		`{"name":"b,c","revision":"2","format":"ietf-netconf-monitoring:yang"}],"in":{"leaf":"v"}}`
	if got := b.String(); got != want {
		t.Errorf("JSON\n%s, want\n%s", got, want)
	}
}

func parse(t testing.TB, s string) *xmltree.Element {
	t.Helper()
	e, err := xmltree.Parse([]byte(s), xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSelect(t *testing.T) {
	const head = `<yang-library xmlns="` + lib + `">`
	for filter, want := range map[string]string{
		`<yang-library xmlns="` + lib + `"/>`:                                            xmlOf(sample()),
		`<yang-library/>`:                                                                xmlOf(sample()),
		`<yang-library xmlns="urn:other"/>`:                                              "",
		`<yang-library a="b"/>`:                                                          "",
		`<modules-state/>`:                                                               "",
		`<yang-library><in/></yang-library>`:                                             head + `<in><leaf>v</leaf></in></yang-library>`,
		`<yang-library><in><leaf>v</leaf></in></yang-library>`:                           head + `<in><leaf>v</leaf></in></yang-library>`,
		`<yang-library><in><leaf>w</leaf></in></yang-library>`:                           "",
		`<yang-library><in><other/></in></yang-library>`:                                 "",
		`<yang-library><module><name>a</name><n/></module></yang-library>`:               head + `<module><name>a</name><revision>1</revision><n>7</n></module></yang-library>`,
		`<yang-library><module><feature>x</feature><n/></module></yang-library>`:         head + `<module><name>a</name><revision>1</revision><feature>x</feature><n>7</n></module></yang-library>`,
		`<yang-library><module><format>p:yang</format><format/></module></yang-library>`: head + strings.SplitAfter(strings.SplitAfter(xmlOf(sample()), "</module>")[1], "</module>")[0] + "</yang-library>",
	} {
		e := parse(t, `<filter>`+filter+`</filter>`)
		got := xmlOf(sample().Select(e))
		if len(got) != len(want) || !strings.Contains(filter, "feature") && got != want {
			t.Errorf("%s\n%s, want\n%s", filter, got, want)
		}
		if got != "" && !Wants(e, Name{"ietf-yang-library", "yang-library"}) {
			t.Errorf("%s: not wanted", filter)
		}
	}
}

func TestFind(t *testing.T) {
	for path, want := range map[string]string{
		"ietf-yang-library:yang-library":                           "yang-library",
		"ietf-yang-library:yang-library/in/leaf":                   "leaf",
		"ietf-yang-library:yang-library/module=b%2Cc,2/revision":   "revision",
		"ietf-yang-library:yang-library/ietf-yang-library:in/leaf": "leaf",
		"ietf-yang-library:yang-library/module=a,1/feature=x":      "feature",
	} {
		n, module, err := sample().Find(strings.Split(path, "/"))
		if err != nil || n.Name != want || module != "ietf-yang-library" {
			t.Errorf("%s: %v %v %v", path, n, module, err)
		}
	}
	for path, want := range map[string]error{
		"ietf-yang-library:yang-library/module":       ErrNotFound,
		"ietf-yang-library:yang-library/module=a":     ErrNotFound,
		"ietf-yang-library:yang-library/other:in":     ErrNotFound,
		"ietf-yang-library:yang-library/in=1":         ErrPath,
		"ietf-yang-library:yang-library/%zz":          ErrPath,
		"ietf-yang-library:yang-library/module=%zz,1": ErrPath,
	} {
		if _, _, err := sample().Find(strings.Split(path, "/")); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

func TestCut(t *testing.T) {
	const head = `<yang-library xmlns="` + lib + `">`
	for depth, want := range map[int]string{
		0: xmlOf(sample()),
		1: head + "</yang-library>",
		2: head + `<module><name>a</name><revision>1</revision></module><module><name>b,c</name><revision>2</revision></module><in></in></yang-library>`,
		3: xmlOf(sample()),
	} {
		if got := xmlOf(sample().Cut(depth)); got != want {
			t.Errorf("depth %d\n%s, want\n%s", depth, got, want)
		}
	}
}

// FuzzSelect checks that whatever a filter selects is well-formed and part of
// the whole, and that paths are read or refused.
func FuzzSelect(f *testing.F) {
	f.Add([]byte(`<filter><yang-library><module><name>a</name><n/></module></yang-library></filter>`), "ietf-yang-library:yang-library/module=a,1/n")
	f.Add([]byte(`<filter><yang-library><in><leaf>v</leaf></in><in/></yang-library></filter>`), "ietf-yang-library:yang-library/%41=%2c,")
	whole := map[string]bool{}
	var leafs func(n *Node)
	leafs = func(n *Node) {
		whole[n.Name+"="+n.Value] = true
		for _, c := range n.Children {
			leafs(c)
		}
	}
	leafs(sample())
	f.Fuzz(func(t *testing.T, filter []byte, path string) {
		if n, _, err := sample().Find(strings.Split(path, "/")); (n == nil) == (err == nil) {
			t.Fatalf("%q: %v %v", path, n, err)
		}
		e, err := xmltree.Parse(filter, xmltree.Limits{})
		if err != nil {
			return
		}
		n := sample().Select(e)
		if n == nil {
			return
		}
		parse(t, xmlOf(n))
		var b bytes.Buffer
		WriteJSON(&b, "", n)
		if !json.Valid([]byte("{" + b.String() + "}")) {
			t.Fatalf("no JSON: %s", b.String())
		}
		var check func(n *Node)
		check = func(n *Node) {
			if !whole[n.Name+"="+n.Value] {
				t.Fatalf("%s=%s is not in the whole", n.Name, n.Value)
			}
			for _, c := range n.Children {
				check(c)
			}
		}
		check(n)
	})
}
