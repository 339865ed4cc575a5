// Package yangtree reads YANG modules and makes one tree of statements of what
// they define together: groupings are put where they are used, augments and
// deviations carried out, and what depends on features that a server does not
// have is gone (RFC 7950 sections 5.6, 7.13, 7.17, 7.20).
//
// It knows what statements do to each other, not what data they describe: that
// is mgmt/internal/schema's. It takes the modules of a program's own and refuses
// what it does not understand.
package yangtree

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	goyang "github.com/openconfig/goyang/pkg/yang"
)

// Statement is a statement of the tree. A tree's statements are its own and may
// be changed.
type Statement struct {
	Keyword  string
	Argument string
	Children []*Statement
	Module   *Module // that it is written in, or its submodule: prefixes are this one's
	In       *Module // that a data definition's name belongs to: where it was put

	// Around says of a when statement that its context is what stands around the
	// node, since it was written at a uses, augment, choice or case (section 7.21.5).
	Around bool

	original *Statement // that this is a copy of, itself for one as it was read
	lexical  *Statement // what it is written in; of originals
	location string
}

// Module is a module, or a submodule under the name of its module.
type Module struct {
	Name       string
	Namespace  string
	Prefix     string
	Revision   string // newest; "" without one
	YANG11     bool
	File       string
	Statement  *Statement   // as it was read
	Body       []*Statement // its data definitions, operations and notifications; of implemented modules
	DeviatedBy []string     // names of the modules whose deviations it has

	set      *Set
	imports  map[string]string // prefix to name
	included []*Module         // submodules, and of a submodule its module
}

// Set is what was made of some modules.
type Set struct {
	Modules     []*Module // in the order of their names
	Implemented []*Module // in the order that was asked for
	byName      map[string]*Module
	features    map[string]map[string]bool
	identities  map[string][]string // by "module:name": all that are derived from it
	bases       map[string][]string // by "module:name": its own bases
}

// Options says what of the modules a server has.
type Options struct {
	Implemented []string
	Features    map[string][]string // by module: those that a server has
}

// Read reads modules from their texts by file name: the implemented ones, and
// all that they import.
func Read(sources map[string]string, o Options) (*Set, error) {
	s := &Set{byName: map[string]*Module{}, features: map[string]map[string]bool{}, identities: map[string][]string{}, bases: map[string][]string{}}
	for module, names := range o.Features {
		s.features[module] = map[string]bool{}
		for _, n := range names {
			s.features[module][n] = true
		}
	}
	if err := s.parse(sources); err != nil {
		return nil, err
	}
	for _, m := range s.Modules {
		if err := s.identitiesOf(m); err != nil {
			return nil, err
		}
	}
	s.derive()
	for _, name := range o.Implemented {
		m := s.byName[name]
		if m == nil {
			return nil, fmt.Errorf("module %s is not among the sources", name)
		}
		for _, in := range append([]*Module{m}, m.included...) {
			body, err := expand(in.Statement.Children, m, 0)
			if err != nil {
				return nil, err
			}
			m.Body = append(m.Body, body...)
		}
		s.Implemented = append(s.Implemented, m)
	}
	if err := s.augment(); err != nil {
		return nil, err
	}
	if err := s.deviate(); err != nil {
		return nil, err
	}
	for _, m := range s.Implemented {
		var err error
		if m.Body, err = s.prune(m.Body); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// parse reads the texts, modules before the submodules that they include.
func (s *Set) parse(sources map[string]string) error {
	submodules := map[string]*Statement{}
	for _, file := range slices.Sorted(maps.Keys(sources)) {
		list, err := goyang.Parse(sources[file], file)
		if err != nil {
			return err
		}
		for _, g := range list {
			switch g.Keyword {
			case "module":
				m := &Module{Name: g.Argument, File: file, set: s}
				if s.byName[m.Name] != nil {
					return fmt.Errorf("%s: module %s is there twice", file, m.Name)
				}
				m.Statement = m.copyOf(g, nil)
				s.byName[m.Name] = m
				s.Modules = append(s.Modules, m)
			case "submodule":
				submodules[g.Argument] = (&Module{File: file, set: s}).copyOf(g, nil)
			default:
				return fmt.Errorf("%s: %s is no module", file, g.Keyword)
			}
		}
	}
	slices.SortFunc(s.Modules, func(a, b *Module) int { return strings.Compare(a.Name, b.Name) })
	for _, m := range slices.Clone(s.Modules) {
		if err := m.header(m.Statement); err != nil {
			return err
		}
		if err := m.include(m.Statement, submodules); err != nil {
			return err
		}
	}
	return nil
}

// copyOf takes over a statement as the parser has read it.
func (m *Module) copyOf(g *goyang.Statement, lexical *Statement) *Statement {
	c := &Statement{Keyword: g.Keyword, Argument: g.Argument, Module: m, lexical: lexical, location: g.Location()}
	c.original = c
	for _, sub := range g.SubStatements() {
		c.Children = append(c.Children, m.copyOf(sub, c))
	}
	return c
}

func (m *Module) header(st *Statement) error {
	m.imports = map[string]string{}
	for _, c := range st.Children {
		switch c.Keyword {
		case "namespace":
			m.Namespace = c.Argument
		case "prefix":
			m.Prefix = c.Argument
		case "belongs-to":
			m.Prefix = c.Value("prefix")
		case "yang-version":
			m.YANG11 = c.Argument == "1.1"
		case "revision":
			m.Revision = max(m.Revision, c.Argument)
		case "import":
			if m.set.byName[c.Argument] == nil {
				return c.Errorf("module %s is not among the sources", c.Argument)
			}
			m.imports[c.Value("prefix")] = c.Argument
		}
	}
	return nil
}

func (m *Module) include(st *Statement, submodules map[string]*Statement) error {
	for _, c := range st.Children {
		if c.Keyword != "include" {
			continue
		}
		sub := submodules[c.Argument]
		switch {
		case sub == nil || sub.Value("belongs-to") != m.Name:
			return c.Errorf("submodule %s of %s is not among the sources", c.Argument, m.Name)
		case slices.Contains(m.included, sub.Module):
			continue
		}
		part := sub.Module
		part.Name, part.Namespace, part.Statement = m.Name, m.Namespace, sub
		m.included = append(m.included, part)
		if err := part.header(sub); err != nil {
			return err
		}
		if err := m.include(sub, submodules); err != nil {
			return err
		}
	}
	for _, part := range m.included {
		part.included = append([]*Module{m}, slices.DeleteFunc(slices.Clone(m.included), func(o *Module) bool { return o == part })...)
	}
	return nil
}

// Errorf returns an error that says where the statement is.
func (st *Statement) Errorf(format string, a ...any) error {
	return fmt.Errorf("%s: %s %s: %w", st.location, st.Keyword, st.Argument, fmt.Errorf(format, a...))
}

// Find returns the first substatement of a keyword, or nil.
func (st *Statement) Find(keyword string) *Statement {
	for _, c := range st.Children {
		if c.Keyword == keyword {
			return c
		}
	}
	return nil
}

// Value returns the argument of the first substatement of a keyword, or "".
func (st *Statement) Value(keyword string) string {
	if c := st.Find(keyword); c != nil {
		return c.Argument
	}
	return ""
}

// All returns the substatements of a keyword.
func (st *Statement) All(keyword string) []*Statement {
	var out []*Statement
	for _, c := range st.Children {
		if c.Keyword == keyword {
			out = append(out, c)
		}
	}
	return out
}

// Module returns a module by its name, or nil.
func (s *Set) Module(name string) *Module { return s.byName[name] }

// Prefixed returns the module that a prefix stands for, or nil; "" stands for
// the module itself.
func (m *Module) Prefixed(prefix string) *Module {
	if prefix == "" || prefix == m.Prefix {
		return m.set.byName[m.Name]
	}
	return m.set.byName[m.imports[prefix]]
}

// Resolve splits a name at its prefix and returns the module that it is of.
func (st *Statement) Resolve(name string) (*Module, string, error) {
	prefix, local, ok := strings.Cut(name, ":")
	if !ok {
		prefix, local = "", name
	}
	m := st.Module.Prefixed(prefix)
	if m == nil {
		return nil, "", st.Errorf("prefix %q is not declared", prefix)
	}
	return m, local, nil
}

// Definition finds the typedef or grouping that a name stands for at a
// statement (section 5.5).
func (st *Statement) Definition(keyword, name string) (*Statement, error) {
	prefix, local, ok := strings.Cut(name, ":")
	if !ok {
		prefix, local = "", name
	}
	m := st.Module
	if prefix == "" || prefix == m.Prefix {
		for up := st.original; up != nil; up = up.lexical {
			for _, c := range up.Children {
				if c.Keyword == keyword && c.Argument == local {
					return c, nil
				}
			}
		}
	} else if m = m.Prefixed(prefix); m == nil {
		return nil, st.Errorf("prefix %q is not declared", prefix)
	}
	for _, in := range append([]*Module{m}, m.included...) {
		for _, c := range in.Statement.Children {
			if c.Keyword == keyword && c.Argument == local {
				return c, nil
			}
		}
	}
	return nil, st.Errorf("there is no %s %s", keyword, name)
}

// Features returns the features of a module that a server has, sorted.
func (s *Set) Features(module string) []string {
	return slices.Sorted(maps.Keys(s.features[module]))
}

// Identity says whether there is an identity, "module:name".
func (s *Set) Identity(name string) bool { _, ok := s.bases[name]; return ok }

// Derived returns the identities that are derived from one, each "module:name".
func (s *Set) Derived(name string) []string { return s.identities[name] }

func (s *Set) identitiesOf(m *Module) error {
	for _, in := range append([]*Module{m}, m.included...) {
		for _, c := range in.Statement.Children {
			if c.Keyword != "identity" {
				continue
			}
			ok, err := s.has(c)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			var bases []string
			for _, b := range c.All("base") {
				of, local, err := b.Resolve(b.Argument)
				if err != nil {
					return err
				}
				bases = append(bases, of.Name+":"+local)
			}
			s.bases[m.Name+":"+c.Argument] = bases
		}
	}
	return nil
}

// derive finds for every identity all that are derived from it.
func (s *Set) derive() {
	var climb func(name, at string, seen map[string]bool)
	climb = func(name, at string, seen map[string]bool) {
		for _, b := range s.bases[at] {
			if !seen[b] {
				seen[b] = true
				s.identities[b] = append(s.identities[b], name)
				climb(name, b, seen)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.bases)) {
		climb(name, name, map[string]bool{name: true})
	}
}
