package xmltree

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const doc = `<?xml version="1.0" encoding="UTF-8"?>
<!-- a comment -->
<rpc xmlns="urn:a" xmlns:b="urn:b" message-id="7" b:op="x">
  <b:leaf>one &amp; <![CDATA[<two>]]></b:leaf>
  <inner xmlns="urn:c"><deep/></inner>
  <bare xmlns=""/>
</rpc>`
	e, err := Parse([]byte(doc), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if e.Name.Space != "urn:a" || e.Name.Local != "rpc" || len(e.Attrs) != 2 || len(e.Children) != 3 {
		t.Fatalf("root: %+v", e)
	}
	if v, ok := e.Attr("urn:b", "op"); !ok || v != "x" {
		t.Errorf("b:op = %q, %v", v, ok)
	}
	if _, ok := e.Attr("", "op"); ok {
		t.Error("attribute found without its namespace")
	}
	leaf, inner, bare := e.Children[0], e.Children[1], e.Children[2]
	if leaf.Name.Space != "urn:b" || leaf.Text != "one & <two>" {
		t.Errorf("leaf: %+v", leaf)
	}
	deep := inner.Children[0]
	if deep.Name.Space != "urn:c" || deep.Parent != inner {
		t.Errorf("deep: %+v", deep)
	}
	if bare.Name.Space != "" {
		t.Errorf("bare: %+v", bare)
	}
	for prefix, want := range map[string]string{"": "urn:c", "b": "urn:b"} {
		if ns, ok := deep.Lookup(prefix); !ok || ns != want {
			t.Errorf("prefix %q: %q, %v, want %q", prefix, ns, ok, want)
		}
	}
	if _, ok := deep.Lookup("nil"); ok {
		t.Error("unknown prefix found")
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct{ doc, says string }{
		"empty":             {"", "without an element"},
		"doctype":           {`<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>`, "document type"},
		"entity":            {`<a>&e;</a>`, "entity"},
		"two roots":         {`<a/><b/>`, "second root"},
		"text outside":      {`<a/>x`, "outside"},
		"unclosed":          {`<a><b></a>`, "b"},
		"cut":               {`<a><b>`, "unexpected EOF"},
		"deep":              {strings.Repeat("<a>", 9) + strings.Repeat("</a>", 9), "levels"},
		"many":              {"<a>" + strings.Repeat("<b/>", 20) + "</a>", "elements"},
		"long":              {"<a>" + strings.Repeat("x", 300) + "</a>", "bytes"},
		"undeclared":        {`<x:a/>`, "not declared"},
		"undeclared attr":   {`<a x:b="1"/>`, "not declared"},
		"twice":             {`<a b="1" b="2"/>`, "twice"},
		"other encoding":    {`<?xml version="1.0" encoding="latin1"?><a/>`, "UTF-8"},
		"bad utf-8":         {"<a>\xff</a>", "UTF-8"},
		"two colons":        {`<a xmlns:b="c"><b:c:d/></a>`, ""},
		"attributes":        {`<a a1="" a2="" a3="" a4="" a5="" a6="" a7="" a8="" a9=""/>`, "more than 8 attributes"},
		"declarations":      {`<a xmlns:a="a" xmlns:b="b" xmlns:c="c" xmlns:d="d" xmlns:e="e"><b xmlns:f="f" xmlns:g="g" xmlns:h="h" xmlns:i="i"/></a>`, "more than 8 namespace"},
		"empty declaration": {`<a xmlns:b=""/>`, "no namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.doc), Limits{Bytes: 256, Depth: 8, Elements: 16, Attrs: 8})
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`<rpc xmlns="urn:a" message-id="1"><get/></rpc>`))
	f.Add([]byte(`<a xmlns:b="c"><b:d e="f">g</b:d></a>`))
	f.Add([]byte(`<!DOCTYPE a><a/>`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		e, err := Parse(doc, Limits{Bytes: 1 << 16, Depth: 32})
		if err != nil {
			return
		}
		var walk func(e *Element, depth int)
		walk = func(e *Element, depth int) {
			if depth > 32 {
				t.Fatal("deeper than the limit")
			}
			if e.Name.Local == "" {
				t.Fatal("element without a name")
			}
			for _, c := range e.Children {
				if c.Parent != e {
					t.Fatal("child does not know its parent")
				}
				walk(c, depth+1)
			}
		}
		walk(e, 1)
	})
}
