package datastore

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vita/gen"
	"vita/mgmt/internal/edit"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/view"
	"vita/mgmt/internal/yangenc"
	"vita/mgmt/nacm"
)

const nsACM = "urn:ietf:params:xml:ns:yang:ietf-netconf-acm"

var rescue = &Session{ID: 9, User: "rescue", Recovery: true}

// guarded opens a datastore with access control. Rules are those of the group
// "joes", whose member is joe; a rule is "permit|deny OPERATIONS PATH".
func guardedStore(t *testing.T, defaults string, rules ...string) (d *Datastore, joe *Session) {
	t.Helper()
	d, err := Open(Options{Dir: t.TempDir(), Applier: &applier{}, Access: &nacm.Control{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	setRules(t, d, defaults, rules...)
	return d, &Session{ID: 7, User: "joe"}
}

func setRules(t *testing.T, d *Datastore, defaults string, rules ...string) {
	t.Helper()
	if err := d.Edit(ctx, rescue, Running, decode(t, acm(defaults, rules...)), merge); err != nil {
		t.Fatal(err)
	}
}

func acm(defaults string, rules ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<nacm xmlns="%[1]s" xmlns:vita-esp-gateway="vita:esp-gateway" xmlns:ietf-netconf-acm="%[1]s">%[2]s<groups><group><name>joes</name><user-name>joe</user-name></group></groups><rule-list nc:operation="replace"><name>l</name><group>joes</group>`, nsACM, defaults)
	for i, r := range rules {
		action, rest, _ := strings.Cut(r, " ")
		ops, path, _ := strings.Cut(rest, " ")
		fmt.Fprintf(&b, `<rule><name>r%d</name><access-operations>%s</access-operations>`, i, strings.ReplaceAll(ops, ",", " "))
		if path != "" {
			fmt.Fprintf(&b, `<path>%s</path>`, path)
		}
		fmt.Fprintf(&b, `<action>%s</action></rule>`, action)
	}
	b.WriteString(`</rule-list></nacm>`)
	return b.String()
}

// seenBy is what a session reads, without access control's own configuration.
func seenBy(t *testing.T, d *Datastore, s *Session, name Name) string {
	t.Helper()
	var b bytes.Buffer
	if err := d.ReadAs(s, name, nil, func(v *view.View) error {
		return yangenc.EncodeXML(&b, v.Root, yangenc.Opts{Content: yangenc.ContentConfig, Hidden: v.Hidden})
	}); err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(b.String(), `<nacm`)
	return before
}

// told is an error as a client sees it.
func told(err error) string {
	if e, ok := errors.AsType[*rpcerr.Error](err); ok {
		return e.Tag + " " + e.Path
	}
	return fmt.Sprint(err)
}

// TestWritesAreJudged has every way in which a node comes, goes or changes, with the
// access operation that it takes.
func TestWritesAreJudged(t *testing.T) {
	const (
		net    = "/vita-esp-gateway:route4[id='site1']/net"
		route  = "/vita-esp-gateway:route4"
		gw     = `xmlns="vita:esp-gateway"`
		denied = "access-denied "
	)
	change := `<route4 ` + gw + `><id>site1</id><net>10.9.0.0/16</net></route4>`
	remove := `<route4 ` + gw + ` nc:operation="delete"><id>site1</id></route4>`
	for what, c := range map[string]struct {
		rules  []string
		config string
		want   string
	}{
		"nodes on the way":                        {[]string{"permit update /vita-esp-gateway:route4/net"}, `none <route4 ` + gw + `><id>site1</id><net nc:operation="merge">10.9.0.0/16</net></route4>`, "<nil>"},
		"nothing is permitted":                    {nil, change, denied + net},
		"update of a leaf":                        {[]string{"permit update " + net}, change, "<nil>"},
		"create is not update":                    {[]string{"permit create " + net}, change, denied + net},
		"another entry":                           {[]string{"permit update /vita-esp-gateway:route4[id='site2']"}, change, denied + net},
		"create of a leaf":                        {[]string{"permit create /vita-esp-gateway:mtu"}, `<mtu ` + gw + `>1400</mtu>`, "<nil>"},
		"update is not create":                    {[]string{"permit update /vita-esp-gateway:mtu"}, `<mtu ` + gw + `>1400</mtu>`, denied + "/vita-esp-gateway:mtu"},
		"create of an entry":                      {[]string{"permit create " + route}, route4(3), "<nil>"},
		"create of an entry without a leaf of it": {[]string{"deny create /vita-esp-gateway:route4/net", "permit create " + route}, route4(3), denied + "/vita-esp-gateway:route4[id='site3']/net"},
		"create of an entry by its key":           {[]string{"permit create /vita-esp-gateway:route4/net"}, route4(3), denied + "/vita-esp-gateway:route4[id='site3']"},
		"delete of an entry":                      {[]string{"permit delete " + route}, remove, "<nil>"},
		"update is not delete":                    {[]string{"permit update,create " + route}, remove, denied + "/vita-esp-gateway:route4[id='site1']/spi"},
		"delete of an entry without a leaf of it": {[]string{"deny delete " + net, "permit delete " + route}, remove, denied + net},
		"replace takes others away": {
			[]string{"permit update,create " + route},
			`<route4 ` + gw + ` nc:operation="replace"><id>site1</id><spi>1001</spi><net>10.0.1.0/24</net><preshared-key>` + strings.Repeat("0", 63) + `1</preshared-key><gateway><ip>203.0.113.9</ip></gateway></route4>`,
			denied + "/vita-esp-gateway:route4[id='site1']/gateway[ip='203.0.113.2']",
		},
		"another case of a choice": {
			[]string{"permit create,update /vita-esp-gateway:private-interface4"},
			`<private-interface4 ` + gw + `><pci>01:00.0</pci></private-interface4>`,
			denied + "/vita-esp-gateway:private-interface4/ifname",
		},
		"no change":                {nil, `<route4 ` + gw + `><id>site1</id><net>10.0.1.0/24</net></route4>`, "<nil>"},
		"default-deny-write":       {[]string{"permit update,create,delete /vita-esp-gateway:route4"}, `<system xmlns="urn:ietf:params:xml:ns:yang:ietf-system"><authentication><user><name>x</name></user></authentication></system>`, denied + "/ietf-system:system/authentication/user[name='x']"},
		"rules of access control":  {[]string{"permit update,create,delete /vita-esp-gateway:route4"}, `<nacm xmlns="` + nsACM + `"><enable-nacm>false</enable-nacm></nacm>`, denied},
		"a value of a leaf-list":   {[]string{"permit read,create /ietf-netconf-acm:nacm/groups/group/user-name[.='ann']", "permit read /ietf-netconf-acm:nacm"}, `<nacm xmlns="` + nsACM + `"><groups><group><name>joes</name><user-name>ann</user-name></group></groups></nacm>`, "<nil>"},
		"another value":            {[]string{"permit read,create /ietf-netconf-acm:nacm/groups/group/user-name[.='ann']", "permit read /ietf-netconf-acm:nacm"}, `<nacm xmlns="` + nsACM + `"><groups><group><name>joes</name><user-name>eve</user-name></group></groups></nacm>`, denied + "/ietf-netconf-acm:nacm/groups/group[name='joes']/user-name"},
		"order of a list of rules": {[]string{"permit read /ietf-netconf-acm:nacm"}, `<nacm xmlns="` + nsACM + `" xmlns:y="urn:ietf:params:xml:ns:yang:1"><rule-list><name>l</name><rule y:insert="last"><name>r0</name></rule></rule-list></nacm>`, "<nil>"},
	} {
		d, joe := guardedStore(t, "", c.rules...)
		if err := d.Edit(ctx, rescue, Running, decode(t, private4+route4(1)+route4(2)), merge); err != nil {
			t.Fatal(err)
		}
		for _, to := range []Name{Candidate, Running} {
			before := xmlOf(t, d, to)
			_, _, counted := writes(d)
			config, def := c.config, edit.Merge
			if rest, ok := strings.CutPrefix(config, "none "); ok {
				config, def = rest, edit.None
			}
			err := d.Edit(ctx, joe, to, decode(t, config), EditOptions{Default: def, Test: TestOnly})
			if got := told(err); got != c.want {
				t.Errorf("%s, %s: %s, want %s", what, to, got, c.want)
			}
			if after := xmlOf(t, d, to); after != before {
				t.Errorf("%s, %s: a test has changed it to\n%s", what, to, after)
			}
			if _, _, n := writes(d); (n > counted) != (err != nil) {
				t.Errorf("%s, %s: denied-data-writes from %d to %d", what, to, counted, n)
			}
		}
	}
}

func writes(d *Datastore) (a, b, writes uint32) {
	a, writes, b = d.Control().Denied()
	return a, b, writes
}

// TestHiddenNodesAreNotTold: whoever cannot read a node gets the same answer whether
// it exists or not, and whatever its value is.
func TestHiddenNodesAreNotTold(t *testing.T) {
	const (
		gw     = `xmlns="vita:esp-gateway"`
		hide   = "deny read /vita-esp-gateway:route4[id='site1']"
		mtu    = "deny read /vita-esp-gateway:mtu"
		writes = "permit update /vita-esp-gateway:route4/net"
	)
	for what, config := range map[string]string{
		"create":           `<route4 ` + gw + ` nc:operation="create"><id>site1</id></route4>`,
		"delete":           `<route4 ` + gw + ` nc:operation="delete"><id>site1</id></route4>`,
		"remove":           `<route4 ` + gw + ` nc:operation="remove"><id>site1</id></route4>`,
		"none":             `none <route4 ` + gw + `><id>site1</id><spi nc:operation="merge">1001</spi></route4>`,
		"nothing at all":   `none <route4 ` + gw + `><id>site1</id></route4>`,
		"a child":          `<route4 ` + gw + `><id>site1</id><spi>1001</spi></route4>`,
		"a secret":         `<route4 ` + gw + `><id>site1</id><preshared-key>` + strings.Repeat("0", 63) + `1</preshared-key></route4>`,
		"merge":            `<route4 ` + gw + `><id>site1</id></route4>`,
		"the same value":   `<mtu ` + gw + `>1400</mtu>`,
		"another value":    `<mtu ` + gw + `>1300</mtu>`,
		"create of a leaf": `<mtu ` + gw + ` nc:operation="create">1300</mtu>`,
		"delete of a leaf": `<mtu ` + gw + ` nc:operation="delete"/>`,
		"remove of a leaf": `<mtu ` + gw + ` nc:operation="remove"/>`,
		"replace":          `<mtu ` + gw + ` nc:operation="replace">1400</mtu>`,
	} {
		d, joe := guardedStore(t, "", hide, mtu, writes)
		if err := d.Edit(ctx, rescue, Running, decode(t, private4+route4(2)), merge); err != nil {
			t.Fatal(err)
		}
		answer := func() string {
			o := merge
			text, none := strings.CutPrefix(config, "none ")
			if none {
				o.Default = edit.None
			}
			return fmt.Sprint(d.Edit(ctx, joe, Candidate, decode(t, text), o), " ", d.Edit(ctx, joe, Running, decode(t, text), o))
		}
		without := answer()
		if err := d.Edit(ctx, rescue, Running, decode(t, route4(1)+`<mtu `+gw+`>1400</mtu>`), merge); err != nil {
			t.Fatal(err)
		}
		if with := answer(); with != without || !strings.Contains(with, "access-denied") {
			t.Errorf("%s: %s where it is there, and %s where it is not", what, with, without)
		}
		if strings.Contains(without, "site1") || strings.Contains(without, "mtu") {
			t.Errorf("%s: %s", what, without)
		}
		if got := seenBy(t, d, joe, Running); strings.Contains(got, "site1") || strings.Contains(got, "mtu") || !strings.Contains(got, "site2") {
			t.Errorf("joe sees %s", got)
		}
	}
}

// TestErrorsConcealWhatIsHidden: a constraint that concerns a hidden node is told
// without it.
func TestErrorsConcealWhatIsHidden(t *testing.T) {
	d, joe := guardedStore(t, "<write-default>permit</write-default>", "deny read /vita-esp-gateway:route4[id='site1']")
	if err := d.Edit(ctx, rescue, Running, decode(t, private4+route4(1)), merge); err != nil {
		t.Fatal(err)
	}
	same := strings.Replace(route4(2), "<spi>1002</spi>", "<spi>1001</spi>", 1)
	err := d.Edit(ctx, joe, Running, decode(t, same), merge)
	if err == nil || strings.Contains(fmt.Sprintf("%+v", err), "site1") {
		t.Errorf("%+v", err)
	}
	for _, e := range all(err) {
		for _, p := range append(e.NonUnique, e.Path, e.Message) {
			if strings.Contains(p, "site1") {
				t.Errorf("the error tells of %s", p)
			}
		}
	}
	// An invalid hidden node: somebody else has left it in the candidate.
	if err := d.Edit(ctx, rescue, Candidate, decode(t, `<route4 xmlns="vita:esp-gateway"><id>site1</id><spi nc:operation="delete"/></route4>`), merge); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"commit": d.Commit(ctx, joe), "validate": d.Validate(ctx, joe, Candidate)} {
		if err == nil || strings.Contains(err.Error(), "site1") || strings.Contains(err.Error(), "spi") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := d.Validate(ctx, rescue, Candidate); err == nil || !strings.Contains(err.Error(), "site1") {
		t.Errorf("who may read it: %v", err)
	}
}

func all(err error) []*rpcerr.Error {
	if many, ok := errors.AsType[rpcerr.Errors](err); ok {
		return many
	}
	if one, ok := errors.AsType[*rpcerr.Error](err); ok {
		return []*rpcerr.Error{one}
	}
	return nil
}

// TestCommitIsJudged: by what it changes in running, whoever has edited it (RFC 8341
// section 3.2.8).
func TestCommitIsJudged(t *testing.T) {
	const mtu = `<mtu xmlns="vita:esp-gateway">%d</mtu>`
	d, joe := guardedStore(t, "", "permit create,update /vita-esp-gateway:mtu")
	set := func(s *Session, n int) {
		t.Helper()
		if err := d.Edit(ctx, s, Candidate, decode(t, fmt.Sprintf(mtu, n)), merge); err != nil {
			t.Fatal(err)
		}
	}
	set(joe, 1400)
	if err := d.Commit(ctx, joe); err != nil {
		t.Fatal(err)
	}
	// What others have staged blocks it, until it is what it was.
	if err := d.Edit(ctx, rescue, Candidate, decode(t, `<tfc xmlns="vita:esp-gateway">true</tfc>`), merge); err != nil {
		t.Fatal(err)
	}
	set(joe, 1300)
	if got := told(d.Commit(ctx, joe)); got != "access-denied /vita-esp-gateway:tfc" {
		t.Errorf("the commit of what another has staged: %s", got)
	}
	if got := told(d.CommitWith(ctx, joe, CommitOptions{Confirmed: true})); got != "access-denied /vita-esp-gateway:tfc" {
		t.Errorf("confirmed: %s", got)
	}
	if got := told(d.Copy(ctx, joe, Candidate, Running)); got != "access-denied " { // that of the rules, which joe cannot read

		t.Errorf("copy: %s", got)
	}
	if err := d.Edit(ctx, rescue, Candidate, decode(t, `<tfc xmlns="vita:esp-gateway" nc:operation="delete"/>`), merge); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(ctx, joe); err != nil {
		t.Errorf("it has come to nothing, and yet: %v", err)
	}
	if got := seenBy(t, d, joe, Running); got != fmt.Sprintf(mtu, 1300) {
		t.Errorf("running is %s", got)
	}
	// To discard is not to write (section 3.2.9).
	if err := d.Edit(ctx, rescue, Candidate, decode(t, `<tfc xmlns="vita:esp-gateway">true</tfc>`), merge); err != nil {
		t.Fatal(err)
	}
	if err := d.Discard(joe); err != nil {
		t.Error(err)
	}
}

// TestCopyLeavesOutWhatIsHidden (RFC 8341 section 3.2.6).
func TestCopyLeavesOutWhatIsHidden(t *testing.T) {
	d, joe := guardedStore(t, "<write-default>permit</write-default>", "deny read /vita-esp-gateway:mtu", "deny * /ietf-netconf-acm:nacm")
	if err := d.Edit(ctx, rescue, Running, decode(t, private4+`<mtu xmlns="vita:esp-gateway">1400</mtu>`), merge); err != nil {
		t.Fatal(err)
	}
	// The rules cannot be read by joe: to copy is to delete them, which is denied.
	if err := d.Copy(ctx, joe, Running, Candidate); tag(err) != "access-denied" {
		t.Errorf("%v", err)
	}
	setRules(t, d, "", "deny read /vita-esp-gateway:mtu", "permit *")
	if err := d.Copy(ctx, joe, Running, Candidate); err != nil {
		t.Fatal(err)
	}
	if got := xmlOf(t, d, Candidate); strings.Contains(got, "mtu") && !strings.Contains(got, ":mtu") || !strings.Contains(got, "eth0") {
		t.Errorf("candidate is %s", got)
	}
	if err := d.Copy(ctx, joe, Candidate, Running); err != nil || strings.Contains(xmlOf(t, d, Running), "<mtu") {
		t.Errorf("%v, running is %s", err, xmlOf(t, d, Running))
	}
}

func TestHistoryIsJudged(t *testing.T) {
	d, joe := guardedStore(t, "", "deny read /vita-esp-gateway:mtu", "permit create,update,delete /vita-esp-gateway:tfc")
	for _, config := range []string{
		`<tfc xmlns="vita:esp-gateway">true</tfc>`,
		`<mtu xmlns="vita:esp-gateway">1400</mtu>`,
		`<mtu xmlns="vita:esp-gateway">1300</mtu><tfc xmlns="vita:esp-gateway">false</tfc>`,
	} {
		if err := d.Edit(ctx, rescue, Running, decode(t, config), merge); err != nil {
			t.Fatal(err)
		}
	}
	all, err := d.History(joe, 10)
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, r := range all {
		if c := r.Diff(); len(c) != 1 || c[0].Path != "/vita-esp-gateway:tfc" || r.Changes != 1 {
			t.Errorf("%+v", c)
		}
	}
	if all, err := d.History(rescue, 10); err != nil || len(all) != 4 {
		t.Errorf("%v, %v", all, err)
	}
	// Back by what he may not write: nothing is lost of what was pending.
	if err := d.Edit(ctx, joe, Candidate, decode(t, `<tfc xmlns="vita:esp-gateway">true</tfc>`), merge); err != nil {
		t.Fatal(err)
	}
	if got := told(d.Rollback(joe, 1)); got != "access-denied " {
		t.Errorf("%s", got)
	}
	if got := seenBy(t, d, joe, Candidate); !strings.Contains(got, "<tfc>true") && !strings.Contains(got, ">true</tfc>") {
		t.Errorf("what was pending is gone: %s", got)
	}
	if err := d.Rollback(rescue, 1); err != nil || !strings.Contains(xmlOf(t, d, Candidate), "1400") {
		t.Errorf("%v", err)
	}
}

// TestRulesComeIntoForceByCommit, and go when the commit is taken back.
func TestRulesComeIntoForceByCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, joe := guardedStore(t, "")
		hidden := func() bool { return !strings.Contains(seenBy(t, d, joe, Running), "eth0") }
		if err := d.Edit(ctx, rescue, Running, decode(t, private4), merge); err != nil {
			t.Fatal(err)
		}
		closed := acm("", "deny read /vita-esp-gateway:private-interface4")
		if err := d.Edit(ctx, rescue, Candidate, decode(t, closed), merge); err != nil || hidden() {
			t.Errorf("hidden before the commit: %v", err)
		}
		if err := d.CommitWith(ctx, rescue, CommitOptions{Confirmed: true, Timeout: 50 * time.Millisecond}); err != nil || !hidden() {
			t.Errorf("not hidden after the commit: %v", err)
		}
		for range 100 {
			if time.Sleep(20 * time.Millisecond); !hidden() {
				break
			}
		}
		if hidden() {
			t.Error("the rules are in force although their commit was taken back")
		}
		// A rule that hits nothing is refused where it is.
		for path, want := range map[string]string{
			"/vita-esp-gateway:nothing": "invalid-value /ietf-netconf-acm:nacm/rule-list[name='l']/rule[name='r0']/path",
			"/ietf-netconf-acm:x":       "invalid-value /ietf-netconf-acm:nacm/rule-list[name='l']/rule[name='r0']/path",
		} {
			if got := told(d.Edit(ctx, rescue, Running, decode(t, acm("", "deny read "+path)), merge)); got != want {
				t.Errorf("%s: %s", path, got)
			}
		}
		// They are in force after a restart.
		setRules(t, d, "", "deny read /vita-esp-gateway:private-interface4")
		dir := d.o.Dir
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if d, err = Open(Options{Dir: dir, Access: &nacm.Control{}}); err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if !hidden() {
			t.Error("not hidden after a restart")
		}
		// The counters stand beside the rules.
		if err := d.Read(Running, Everything, func(root *gen.Vita) error {
			if root.Nacm.DeniedOperations == nil || root.Nacm.RuleList["l"] == nil {
				t.Error("no counters")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestNet(t *testing.T) {
	d, _ := guardedStore(t, "")
	for _, config := range []string{`<mtu xmlns="vita:esp-gateway">1</mtu>`, `<mtu xmlns="vita:esp-gateway">2</mtu>`, route4(1), `<route4 xmlns="vita:esp-gateway" nc:operation="delete"><id>site1</id></route4>`, `<tfc xmlns="vita:esp-gateway">true</tfc>`} {
		if err := d.Edit(ctx, rescue, Candidate, decode(t, config), merge); err != nil {
			t.Fatal(err)
		}
	}
	n := net(d.pending)
	if len(n) != 2 || n[0].New != "2" || n[0].HadOld || n[1].Path() != "/vita-esp-gateway:tfc" {
		t.Errorf("%+v", n)
	}
}
