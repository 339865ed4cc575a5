package validate_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"vita/gen"
	"vita/mgmt/internal/data"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/modeltest"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/internal/yangenc"
	"vita/mgmt/validate"
	"vita/yang"
)

var documents = flag.Int("documents", 800, "how many random documents libyang judges as well")

// judge reads a document into an empty tree, as an edit would, and checks it. It
// returns what a client sees of it, with all defaults.
func judge(tree any, document string) (string, error) {
	var e *edit.Node
	var err error
	if strings.HasPrefix(document, "{") {
		e, err = yangenc.DecodeJSON([]byte(document), nil)
	} else {
		var x *xmltree.Element
		if x, err = xmltree.Parse([]byte("<config>"+document+"</config>"), xmltree.Limits{}); err == nil {
			e, err = yangenc.DecodeXML(x)
		}
	}
	if err != nil {
		return "", err
	}
	j, err := edit.Apply(tree, e, edit.Merge)
	if err != nil {
		return "", err
	}
	if _, err = edit.Settle(tree, j, false); err != nil {
		return "", err
	}
	if errs := validate.Tree(tree); errs != nil {
		return "", errs
	}
	return write(yangenc.EncodeJSON, tree)
}

func write(encode func(io.Writer, data.Tree, yangenc.Opts) error, tree any) (string, error) {
	var b bytes.Buffer
	err := encode(&b, tree, yangenc.Opts{Defaults: yangenc.ReportAll, Secrets: true})
	return b.String(), err
}

// agree has libyang judge random documents: it takes those that we take, refuses
// those that we refuse, and reads the same in them.
func agree(t *testing.T, g *modeltest.Generator, newTree func() any, sources map[string]string, load, features []string) {
	t.Helper()
	var texts []string
	for i := range *documents {
		d := g.Document()
		if i%2 == 0 {
			texts = append(texts, modeltest.JSON(d))
		} else if x := modeltest.XML(d); x != "" {
			texts = append(texts, x)
		}
	}
	right, wrong, different := 0, map[string]int{}, 0
	var crashed []string
	exceptions := 0
	var written, read []string // what we write of those that are right, and what libyang has read
	for i, v := range modeltest.Lint(t, sources, load, features, texts) {
		tree := newTree()
		got, err := judge(tree, texts[i])
		switch {
		case err == nil && excepted(texts[i], v):
			exceptions++
		case v.Crashed:
			crashed = append(crashed, texts[i])
		case v.OK != (err == nil):
			t.Errorf("%s\nlibyang: %v %s\nwe: %v", texts[i], v.OK, v.Why, err)
			different++
		case v.OK:
			// libyang leaves the letters of a MAC address as they are; RFC 6991 has them small.
			if a, b := modeltest.Normal(t, got), modeltest.Normal(t, mac.ReplaceAllStringFunc(v.Output, strings.ToLower)); a != b {
				t.Errorf("%s\nlibyang reads\n%s\nwe\n%s", texts[i], b, a)
				different++
			}
			right++
			x, err := write(yangenc.EncodeXML, tree)
			if err != nil {
				t.Fatal(err)
			}
			written, read = append(written, x, got), append(read, v.Output, v.Output)
		default:
			wrong[reason(err)]++
		}
		if different > 5 {
			t.Fatal("and so on")
		}
	}
	for i, v := range modeltest.Lint(t, sources, load, features, written) {
		if v.Crashed || written[i] == "" {
			continue
		}
		if !v.OK || modeltest.Normal(t, mac.ReplaceAllStringFunc(v.Output, strings.ToLower)) != modeltest.Normal(t, mac.ReplaceAllStringFunc(read[i], strings.ToLower)) {
			t.Fatalf("we write\n%s\nlibyang reads\n%s%s\nwant\n%s", written[i], v.Output, v.Why, read[i])
		}
	}
	t.Logf("%d right, wrong: %v, %d exceptions, libyang crashes over %d", right, wrong, exceptions, len(crashed))
	if len(crashed) > len(texts)/50 {
		t.Errorf("libyang crashes over %d of %d, as over %s", len(crashed), len(texts), crashed[0])
	}
	if right < len(texts)/20 || len(wrong) < 5 {
		t.Errorf("%d of %d are right, wrong: %v: the test tests little", right, len(texts), wrong)
	}
}

var mac = regexp.MustCompile(`"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}"`)

// excepted says whether a document is one of those about which libyang 2.1.30 is
// wrong.
func excepted(document string, v modeltest.Verdict) bool {
	// A leafref to a default in a container without presence that the document does
	// not have: the default exists (RFC 7950 section 7.6.1), and libyang finds it
	// where the container is there for something else.
	if strings.Contains(v.Why, `no target instance "/e:types/e:int8"`) && !strings.Contains(document, "types") {
		return true
	}
	// Unique with a default that is not in use, since the leaf's when does not hold:
	// the entry has no such value (section 7.8.3).
	if strings.Contains(v.Why, `Unique data leaf(s) "weight deep/d"`) {
		return true
	}
	// A container without presence, and with nothing in it, whose when does not hold:
	// it says nothing, and we pass over it.
	m := emptyContainer.FindStringSubmatch(v.Why)
	return m != nil && (strings.Contains(document, m[1]+`":{}`) || strings.Contains(document, "<"+m[1]+"></"))
}

var emptyContainer = regexp.MustCompile(`When condition .* not satisfied.*[/:](\w+)"`)

func reason(err error) string {
	text := err.Error()
	for _, known := range []string{"mandatory", "different in every", "too few", "too many", "refers to", "when", "is needed", "comes twice", "exclude each other", "invalid-value"} {
		if strings.Contains(text, known) {
			return known
		}
	}
	return "other"
}

func TestEveryConstruct(t *testing.T) {
	newTree := modeltest.Use(t)
	for _, c := range []struct{ density, wrong float64 }{{0.15, 0}, {0.3, 0.01}, {0.4, 0}} {
		t.Run(fmt.Sprint(c.density), func(t *testing.T) {
			g := &modeltest.Generator{
				Rand: rand.New(rand.NewPCG(1, uint64(c.density*100))), Density: c.density, Wrong: c.wrong,
				Paths: []string{"/every:types/flag", "/every:item[name='a']/kind", "/every:present", "/every:types/by-user[.='a']", "/every:condition/more:more/flag", "/every:ranked[a='1'][b='x']"},
			}
			agree(t, g, newTree, modeltest.Sources(t), modeltest.Implemented, []string{"every:there", "more:"})
		})
	}
}

func TestOwnModels(t *testing.T) {
	g := &modeltest.Generator{Rand: rand.New(rand.NewPCG(2, 3)), Density: 0.15, Wrong: 0.005, Paths: []string{"/ietf-netconf-acm:nacm"}, Strings: map[string][]string{
		"/vita-esp-gateway-ext:esp/dscp": {"copy", "0", "46"}, "/vita-esp-gateway-ext:esp/df": {"set", "clear"},
		"/vita-esp-gateway:inbound-sa/aead": {"aes-gcm-16-icv"}, "/vita-esp-gateway:outbound-sa/aead": {"aes-gcm-16-icv"},
		"/ietf-netconf-acm:nacm/rule-list/rule/path": {"/", "/vita-esp-gateway:mtu", "/vita-esp-gateway:route4[id='a']", "a", "/vita-esp-gateway:route4/net", "/vita-esp-gateway:route4[id=a]"},
		"/vita-esp-gateway-ext:esp/replay-window":    {"64", "128"}, "/vita-esp-gateway:data-plane": {"true"},
	}}
	newTree := func() any { return &gen.Vita{} }
	agree(t, g, newTree, yang.Sources(), yang.Implemented, []string{"ietf-system:authentication,local-users,ntp,ntp-udp-port", "iana-crypt-hash:"})
}

var top = regexp.MustCompile(`"(refer|device|item|types|condition|present|limits)":([\\[{])`)

// TestReasons checks what an error says, of what the gateway's own modules do not
// have.
func TestReasons(t *testing.T) {
	newTree := modeltest.Use(t)
	for name, c := range map[string]struct{ json, tag, appTag, path, says string }{
		"leafref":              {`"refer":{"device":"a"}`, "data-missing", "instance-required", "/every:refer/device", "not there: a"},
		"leafref by lookup":    {`"refer":{"speed":1}`, "data-missing", "instance-required", "/every:refer/speed", ""},
		"leafref in entry":     {`"device":[{"name":"a","uplink":1,"port":[{"no":2}]},{"name":"b","port":[{"no":1}]}]`, "data-missing", "instance-required", "/every:device[name='a']/uplink", ""},
		"leafref by predicate": {`"refer":{"device":"a","port":1},"device":[{"name":"a","port":[{"no":2}]},{"name":"b","port":[{"no":1}]}]`, "data-missing", "instance-required", "/every:refer/port", ""},
		"leafref of leaf-list": {`"item":[{"name":"a","friend":["a","b"]}]`, "data-missing", "instance-required", "/every:item[name='a']/friend[.='b']", ""},
		"to a leaf-list":       {`"refer":{"letter":"a"},"types":{"by-user":["b"]}`, "data-missing", "instance-required", "/every:refer/letter", ""},
		"leafref in union":     {`"refer":{"mixed":"a"}`, "data-missing", "instance-required", "/every:refer/mixed", ""},
		"instance":             {`"types":{"where":"/every:item[name='a']"}`, "data-missing", "instance-required", "/every:types/where", ""},
		"instance of value":    {`"types":{"where":"/every:types/by-user[.='a']","by-user":["b"]}`, "data-missing", "instance-required", "/every:types/where", ""},
		"when":                 {`"condition":{"a":1}`, "unknown-element", "", "/every:condition/a", "../flag = 'true'"},
		"when of a list":       {`"condition":{"l":[{"k":1}]}`, "unknown-element", "", "/every:condition/l[k='1']", ""},
		"when in a list":       {`"condition":{"mode":"list","l":[{"k":1,"v":"x"}]}`, "unknown-element", "", "/every:condition/l[k='1']/v", ""},
		"when of an augment":   {`"condition":{"more:extra":1}`, "unknown-element", "", "/every:condition/more:extra", ""},
		"when of uses":         {`"condition":{"label":"x"}`, "unknown-element", "", "/every:condition/label", ""},
		"when of a choice":     {`"condition":{"first":1}`, "unknown-element", "", "/every:condition/first", ""},
		"mandatory by when":    {`"condition":{"mode":"strict"}`, "data-missing", "", "/every:condition/strict", "mandatory"},
		"choice by when":       {`"condition":{"mode":"choice"}`, "data-missing", "missing-choice", "/every:condition", "first, second"},
		"mandatory, presence":  {`"present":{"two":[1,2]}`, "data-missing", "", "/every:present/needed", ""},
		"min-elements":         {`"present":{"needed":1,"two":[1]}`, "operation-failed", "too-few-elements", "/every:present/two", ""},
		"max-elements":         {`"types":{"by-system":[1,2,3,4,5]}`, "operation-failed", "too-many-elements", "/every:types/by-system", ""},
		"must of a value":      {`"types":{"pets":["every:dog","every:cat"]}`, "operation-failed", "no-peace", "/every:types/pets[.='every:cat']", "cats and dogs"},
		"must of a default":    {`"present":{"needed":1,"two":[1,2],"inner":{"also":100}}`, "operation-failed", "must-violation", "/every:present/inner/must-be", ""},
		"deep unique":          {`"item":[{"name":"a","kind":"heavy","deep":{"d":1}},{"name":"b","kind":"heavy","deep":{"d":1}}]`, "operation-failed", "data-not-unique", "/every:item[name='b']", "weight and d"},
		"choice in a case":     {`"item":[{"name":"a","fast-1":1}]`, "data-missing", "missing-choice", "/every:item[name='a']", "steam"},
		"deref":                {`"device":[{"name":"a"}],"limits":{"device":"a"}`, "operation-failed", "must-violation", "/every:limits/device", "deref"},
	} {
		// The names at the top get their module.
		_, err := judge(newTree(), "{"+top.ReplaceAllString(c.json, `"every:$1":$2`)+"}")
		all, ok := errors.AsType[rpcerr.Errors](err)
		if one, is := errors.AsType[*rpcerr.Error](err); !ok && is {
			all = rpcerr.Errors{one}
		}
		if len(all) != 1 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e := all[0]; e.Tag != c.tag || e.AppTag != c.appTag || e.Path != c.path || !strings.Contains(e.Message, c.says) {
			t.Errorf("%s: %+v\nwant %s %s at %s", name, e, c.tag, c.appTag, c.path)
		}
	}
}
