package schema

import (
	"strings"

	goyang "github.com/openconfig/goyang/pkg/yang"
)

// Embedded is one of the embedded YANG modules.
type Embedded struct {
	Name      string
	Revision  string // its newest, e.g. "2019-01-04"; "" without one
	Namespace string
	Prefix    string // that it gives itself
	YANG11    bool   // yang-version 1.1
	Text      string // the whole module
	Data      bool   // its data nodes are in the tree below Root
}

// Modules returns all embedded modules, in the order of their names.
func Modules() []Embedded {
	Root()
	m, _ := compiled() // Root has seen that there is no error
	return m.listed
}

func describe(mod *goyang.Module, sources map[string]string, data bool) Embedded {
	d := Embedded{Name: mod.Name, Revision: mod.Current(), Namespace: mod.Namespace.Name, Prefix: mod.Prefix.Name, Data: data}
	d.YANG11 = mod.YangVersion != nil && mod.YangVersion.Name == "1.1"
	for file, text := range sources {
		name, _, _ := strings.Cut(strings.TrimSuffix(file, ".yang"), "@")
		if name == mod.Name {
			d.Text = text
		}
	}
	return d
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
