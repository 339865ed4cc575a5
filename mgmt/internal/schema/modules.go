package schema

import "vita/internal/yangtree"

// Embedded is one of the embedded YANG modules.
type Embedded struct {
	Name       string
	Revision   string // its newest, e.g. "2019-01-04"; "" without one
	Namespace  string
	Prefix     string   // that it gives itself
	YANG11     bool     // yang-version 1.1
	Text       string   // the whole module
	Data       bool     // its data nodes are in the tree below Root
	Features   []string // that the gateway has
	DeviatedBy []string // modules whose deviations it has
}

// Modules returns all embedded modules, in the order of their names.
func Modules() []Embedded { return model().listed }

func describe(set *yangtree.Set, mod *yangtree.Module, text string, data bool) Embedded {
	return Embedded{
		Name: mod.Name, Revision: mod.Revision, Namespace: mod.Namespace, Prefix: mod.Prefix, YANG11: mod.YANG11, Text: text, Data: data,
		Features: set.Features(mod.Name), DeviatedBy: mod.DeviatedBy,
	}
}

// ModuleOf returns the name of the embedded module that has a namespace, ""
// if there is none. Unlike Module it knows those without nodes in the tree.
func ModuleOf(namespace string) string {
	for _, m := range Modules() {
		if m.Namespace == namespace {
			return m.Name
		}
	}
	for name, ns := range textless {
		if ns == namespace {
			return name
		}
	}
	return ""
}
