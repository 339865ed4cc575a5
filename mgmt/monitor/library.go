package monitor

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"vita/mgmt/internal/schema"
	op "vita/mgmt/operational"
)

const libraryModule = "ietf-yang-library"

// LibraryRevision is the revision of ietf-yang-library that describes the
// server's modules.
const LibraryRevision = "2019-01-04"

// implemented names the modules whose nodes, operations or notifications the
// servers have, with their features, beside those of the gateway's own data.
// All others are there to be imported.
var implemented = map[string][]string{
	"ietf-netconf":               {"candidate", "confirmed-commit", "rollback-on-error", "validate", "writable-running", "xpath"},
	"ietf-netconf-monitoring":    nil,
	"ietf-netconf-notifications": nil,
	"ietf-netconf-with-defaults": nil,
	"ietf-yang-patch":            nil,
	"ietf-yang-library":          nil,
}

// base are the NETCONF server's capabilities without those of modules.
var base = []string{
	"urn:ietf:params:netconf:base:1.0",
	"urn:ietf:params:netconf:base:1.1",
	"urn:ietf:params:netconf:capability:writable-running:1.0",
	"urn:ietf:params:netconf:capability:candidate:1.0",
	"urn:ietf:params:netconf:capability:confirmed-commit:1.1",
	"urn:ietf:params:netconf:capability:rollback-on-error:1.0",
	"urn:ietf:params:netconf:capability:validate:1.0",
	"urn:ietf:params:netconf:capability:validate:1.1",
	"urn:ietf:params:netconf:capability:xpath:1.0",
	"urn:ietf:params:netconf:capability:notification:1.0",
	"urn:ietf:params:netconf:capability:interleave:1.0",
	"urn:ietf:params:netconf:capability:with-defaults:1.0?basic-mode=explicit&also-supported=report-all,report-all-tagged,trim",
}

// library provides /yang-library and /modules-state. They are the same as long
// as the program runs.
type library struct {
	id            string // content-id and module-set-id
	full, modules *op.Node

	implemented map[string][]string // modules with their features
	startup     bool
}

func newLibrary(startup bool) *library {
	l := &library{implemented: implemented, startup: startup}
	datastores := []string{"candidate", "running"}
	if startup {
		datastores = append(datastores, "startup")
		l.implemented = maps.Clone(implemented)
		l.implemented["ietf-netconf"] = append(slices.Clone(implemented["ietf-netconf"]), "startup")
	}
	sum := sha256.New()
	var implement, importOnly, flat []*op.Node
	for _, m := range schema.Modules() {
		features, is := l.implemented[m.Name]
		is = is || m.Data
		features = slices.Sorted(slices.Values(append(slices.Clone(features), m.Features...)))
		fmt.Fprintf(sum, "%s %s %v %v %d\n%s", m.Name, m.Revision, is, features, len(m.Text), m.Text)
		conformance := "implement"
		if is {
			implement = append(implement, op.ListEntry("module", 1, append([]*op.Node{
				op.Text("name", m.Name), op.Text("revision", m.Revision), op.Text("namespace", m.Namespace),
			}, append(op.Items("feature", features...), op.Items("deviation", m.DeviatedBy...)...)...)...))
		} else {
			conformance = "import"
			importOnly = append(importOnly, op.ListEntry("import-only-module", 2,
				op.Text("name", m.Name), op.Text("revision", m.Revision), op.Text("namespace", m.Namespace)))
		}
		flat = append(flat, op.ListEntry("module", 2, append(append([]*op.Node{
			op.Text("name", m.Name), op.Text("revision", m.Revision), op.Text("namespace", m.Namespace),
		}, append(op.Items("feature", features...), deviations(m)...)...), op.Text("conformance-type", conformance))...))
	}
	l.id = hex.EncodeToString(sum.Sum(nil)[:16])

	const all = "all"
	full := []*op.Node{
		op.ListEntry("module-set", 1, append(append([]*op.Node{op.Text("name", all)}, implement...), importOnly...)...),
		op.ListEntry("schema", 1, append([]*op.Node{op.Text("name", all)}, op.Items("module-set", all)...)...),
	}
	for _, name := range datastores {
		full = append(full, op.ListEntry("datastore", 1, op.IdentityOf("name", "ietf-datastores", name), op.Text("schema", all)))
	}
	full = append(full, op.Text("content-id", l.id))
	l.full = op.Top(op.Name{Module: libraryModule, Name: "yang-library"}, full...)
	l.modules = op.Top(op.Name{Module: libraryModule, Name: "modules-state"}, append([]*op.Node{op.Text("module-set-id", l.id)}, flat...)...)
	return l
}

// deviations are a module's in the older library, which names them with their
// revisions.
func deviations(m schema.Embedded) []*op.Node {
	var out []*op.Node
	for _, by := range m.DeviatedBy {
		for _, d := range schema.Modules() {
			if d.Name == by {
				out = append(out, op.ListEntry("deviation", 2, op.Text("name", d.Name), op.Text("revision", d.Revision)))
			}
		}
	}
	return out
}

// Roots names yang-library and modules-state.
func (*library) Roots() []op.Name {
	return []op.Name{{Module: libraryModule, Name: "yang-library"}, {Module: libraryModule, Name: "modules-state"}}
}

// Root returns one of the two.
func (l *library) Root(n op.Name) *op.Node {
	if n.Name == "modules-state" {
		return l.modules
	}
	return l.full
}

// Capabilities returns what the hello announces. Modules of YANG 1 have a
// capability each (RFC 6020 section 5.6.4), which is what older clients go by;
// those of YANG 1.1 are in the library alone (RFC 7950 section 5.6.4).
func (m *Monitor) Capabilities() []string {
	all := slices.Clone(base)
	if m.library.startup {
		all = append(all, "urn:ietf:params:netconf:capability:startup:1.0")
	}
	out := append(all,
		"urn:ietf:params:netconf:capability:yang-library:1.0?revision="+LibraryRevision+"&module-set-id="+m.library.id,
		"urn:ietf:params:netconf:capability:yang-library:1.1?revision="+LibraryRevision+"&content-id="+m.library.id)
	for _, mod := range schema.Modules() {
		features, is := m.library.implemented[mod.Name]
		features = append(slices.Clone(features), mod.Features...)
		if !is && !mod.Data || mod.YANG11 {
			continue
		}
		uri := mod.Namespace + "?module=" + mod.Name + "&revision=" + mod.Revision
		if len(features) > 0 {
			uri += "&features=" + strings.Join(features, ",")
		}
		if len(mod.DeviatedBy) > 0 {
			uri += "&deviations=" + strings.Join(mod.DeviatedBy, ",")
		}
		out = append(out, uri)
	}
	return out
}
