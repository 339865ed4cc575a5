// Package schema holds the gateway's model as the management plane needs it:
// the tree of data nodes with their types and constraints, compiled once from
// the embedded YANG modules and bound to the generated structs.
//
// The compiler refuses a statement that it does not know what to do with, so
// that no constraint of the model is lost in silence. The package must not
// know datastores, encodings or protocols.
package schema

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Kind says what a data node is.
type Kind uint8

// The kinds of data nodes. Choices and cases are none: see Node.Case.
const (
	Container Kind = iota + 1
	List
	Leaf
	LeafList
)

func (k Kind) String() string {
	return [...]string{"?", "container", "list", "leaf", "leaf-list"}[k]
}

// Node is a data node of the model. Nodes are shared and must not be changed.
type Node struct {
	Name      string
	Module    string // name of the module that the node is in
	Namespace string // namespace of that module
	Kind      Kind
	Parent    *Node   // container or list around it; nil for the root
	Children  []*Node // in the order of the model, those within choices included
	Keys      []*Node // of a list, in the order of its key statement; none in a list of state

	Config    bool // false: state
	DenyAll   bool // nacm:default-deny-all: not to be read or written unless a rule says so
	DenyWrite bool // nacm:default-deny-write
	Secret    bool // a leaf with default-deny-all: written, never given out
	Mandatory bool // a leaf that has to exist
	IsKey     bool // a leaf that is a key of the list around it
	Presence  bool // a container that means something by itself
	ByUser    bool // a list or leaf-list whose order is the user's

	Type    *Type    // of a leaf or leaf-list
	Default []string // of a leaf or leaf-list: its default values, canonical; nil without

	// Rank is, of a list that is ordered by the user, a leaf of its entries that
	// is not in the model: entries stand in the order of its numbers.
	Rank *Node

	Case    *Case     // innermost case that the node stands in; nil outside of choices
	Choices []*Choice // of a container or list: the choices among its children

	Must     []Must
	When     []When
	Unique   [][]*Node // of a list: for each unique statement its leafs, which may be in containers
	Min, Max uint64    // of a list or leaf-list: min-elements, max-elements; Max 0 = unbounded

	// Binding to the generated structs: Field is the node's field in its
	// parent's struct, GoType that struct's type for a container, an entry's
	// for a list, and the value's for a leaf. KeyFields are a list's key
	// leafs' fields in its key struct; nil where the map's key is the value.
	// Direct says that a leaf's field is the value itself, whose zero is none;
	// Texts and Numbers are those of an enumeration there.
	Field     int
	GoType    reflect.Type
	KeyFields []int
	Direct    bool
	Texts     map[int64]string
	Numbers   map[string]int64

	children map[string][]*Node // by name
	path     string
}

// Operation is an operation that a module defines.
type Operation struct {
	Module, Name string
	Input        []*Node // leafs
	DenyAll      bool    // nacm:default-deny-all: not to be invoked unless a rule says so
}

// Operations returns the operations that the gateway's modules define.
func Operations() []*Operation { return model().operations }

// Choice is a choice of the model: at most one of its cases exists.
type Choice struct {
	Name      string
	Module    string
	Mandatory bool
	Config    bool
	Parent    *Node // container or list around it
	Case      *Case // case that the choice stands in; nil outside of choices
	Cases     []*Case
	Default   *Case  // whose defaults are in use where none of the cases exists; nil without
	When      []When // of the choice itself
}

// Case is one of the alternatives of a choice.
type Case struct {
	Name   string
	Choice *Choice
	Nodes  []*Node // its data nodes, those of choices within it included
}

// Must is a must statement.
type Must struct {
	Expr    string                                       // the XPath expression, as it is written
	Prefix  func(prefix string) (module string, ok bool) // what a prefix in it stands for; "" for names without one
	Message string                                       // error-message, white space folded; may be ""
	AppTag  string                                       // error-app-tag; may be ""
}

// When is a when statement on which a node depends.
type When struct {
	Expr   string
	Prefix func(prefix string) (module string, ok bool)
	Around bool // its context is what stands around the node (RFC 7950 section 7.21.5)
}

var compiled = sync.OnceValues(compile)

// replaced is the model that a test uses in place of the gateway's.
var replaced atomic.Pointer[Model]

func model() *Model {
	if m := replaced.Load(); m != nil {
		return m
	}
	m, err := compiled()
	if err != nil {
		panic("schema: the embedded model cannot be compiled: " + err.Error())
	}
	return m
}

// Root returns the root of the gateway's data tree, a container without a
// name. The model is part of the program: one that cannot be compiled is a
// defect that the tests find, so that Root panics instead of returning an
// error.
func Root() *Node { return model().root }

// Namespace returns the namespace of a module, "" for one that is unknown.
func Namespace(module string) string {
	if ns, ok := model().namespaces[module]; ok {
		return ns
	}
	return textless[module]
}

// textless are the namespaces of standard modules that the servers speak, and
// whose text no package of the distribution carries as it was published.
var textless = map[string]string{
	"nc-notifications":         "urn:ietf:params:xml:ns:netmod:notification",
	"ietf-restconf-monitoring": "urn:ietf:params:xml:ns:yang:ietf-restconf-monitoring",
}

// Module returns the name of the module that has a namespace and nodes in the
// tree, "" if there is none.
func Module(namespace string) string { return model().modules[namespace] }

// DerivedFrom says whether an identity, MODULE:NAME, is derived from another.
func DerivedFrom(identity, base string) bool {
	return slices.Contains(model().set.Derived(base), identity)
}

// Child returns a child by its module and name; an empty module stands for
// the node's own, or at the root for any.
func (n *Node) Child(module, name string) *Node {
	for _, c := range n.children[name] {
		if c.Module == module || module == "" && (n.Parent == nil || n.Module == c.Module) {
			return c
		}
	}
	return nil
}

// find is Child for a node that may not be bound yet.
func (n *Node) find(module, name string) *Node {
	for _, c := range n.Children {
		if c.Name == name && c.Module == module {
			return c
		}
	}
	return nil
}

// HasValue says whether a node is a leaf or a leaf-list.
func (n *Node) HasValue() bool { return n.Kind == Leaf || n.Kind == LeafList }

// Separator stands between the values of a leaf-list that are kept as one text.
// No value has it in it.
const Separator = "\x00"

// Stored checks the text that a change of the node carries, as it was stored:
// that of a leaf, of all values of a leaf-list, or of the presence of a container.
func (n *Node) Stored(text string) (string, error) {
	switch n.Kind {
	case Container:
		return "", nil
	case LeafList:
		values := strings.Split(text, Separator)
		for i, v := range values {
			var err error
			if values[i], err = n.Type.Canonical(v); err != nil {
				return "", err
			}
		}
		return strings.Join(values, Separator), nil
	}
	return n.Type.Canonical(text)
}

// Path returns the schema path, which names every module once, for example
// "/vita-esp-gateway:route4/gateway/ip".
func (n *Node) Path() string { return n.path }

// QName returns the node's name as it stands below its parent in JSON and in
// instance paths: with the module where it differs from the parent's.
func (n *Node) QName() string {
	if n.Parent == nil || n.Parent.Module == n.Module {
		return n.Name
	}
	return n.Module + ":" + n.Name
}

// Walk calls fn for every data node below n, parents first.
func (n *Node) Walk(fn func(*Node)) {
	for _, c := range n.Children {
		fn(c)
		c.Walk(fn)
	}
}

// Within says whether the node stands in a case, at any depth of choices.
func (n *Node) Within(c *Case) bool {
	for at := n.Case; at != nil; at = at.Choice.Case {
		if at == c {
			return true
		}
	}
	return false
}

// RankText and RankNumber turn a rank into text and back.
func RankText(rank uint64) string { return strconv.FormatUint(rank, 10) }

// RankNumber returns the number of a rank.
func RankNumber(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64) // it was checked by its type
	return n
}
