// Package operational holds operational data of modules that have no generated
// structs: what the management servers say about themselves, and what other
// parts of the control process tell.
//
// Such data come from Providers as small trees, made when a client asks. The
// package writes them in XML and JSON and selects from them by subtree filter
// and by path; both servers put them beside the gateway's own tree. It must not
// know who provides, and checks no schema: the tests of a provider have an
// independent implementation check what it says.
package operational

import (
	"slices"
	"strconv"
	"time"

	"vita/mgmt/internal/schema"
)

// Kind says how a node is written.
type Kind uint8

// The kinds of nodes.
const (
	Container Kind = iota + 1
	Entry          // of a list
	Leaf
	Item // of a leaf-list
)

// Type says how JSON writes a value (RFC 7951 section 6).
type Type uint8

// The types of values.
const (
	String     Type = iota // between quotes: strings, enumerations, 64-bit numbers
	Bare                   // as it is: other numbers, booleans
	Identity               // a name that IdentityModule qualifies
	InstanceID             // an instance-identifier, kept as JSON has it (section 6.11)
	Nothing                // of type empty
)

// Node is one node of a tree. Nodes are made by the functions of this package
// and must not be changed after that.
type Node struct {
	Module   string // its module; "" = the one of the node around it
	Name     string
	Kind     Kind
	Keys     []string // of an entry: the names of its key leafs, in the model's order
	Children []*Node

	Type           Type
	Value          string
	IdentityModule string // of a value of type Identity
}

// Provider is a source of operational data. Its methods are called from any
// goroutine.
type Provider interface {
	// Roots names the nodes at the top of the data tree that it provides.
	Roots() []Name

	// Root returns one of them as it is now, or nil where there is none.
	Root(n Name) *Node
}

// Name is a node's module and name.
type Name struct{ Module, Name string }

// Namespace returns the namespace of the name's module.
func (n Name) Namespace() string { return schema.Namespace(n.Module) }

// Top returns a container at the top of the data tree.
func Top(n Name, children ...*Node) *Node {
	c := Group(n.Name, children...)
	c.Module = n.Module
	return c
}

// Group returns a container. Children that are nil are left out, here and below.
func Group(name string, children ...*Node) *Node {
	return &Node{Name: name, Kind: Container, Children: present(children)}
}

// ListEntry returns an entry of a list, whose first children are its keys.
func ListEntry(name string, keys int, children ...*Node) *Node {
	n := &Node{Name: name, Kind: Entry, Children: present(children)}
	for _, k := range n.Children[:keys] {
		n.Keys = append(n.Keys, k.Name)
	}
	return n
}

func present(children []*Node) []*Node {
	return slices.DeleteFunc(children, func(c *Node) bool { return c == nil })
}

// Text returns a leaf with a string.
func Text(name, value string) *Node { return &Node{Name: name, Kind: Leaf, Value: value} }

// Number returns a leaf with a number of up to 32 bits.
func Number(name string, value uint32) *Node {
	return &Node{Name: name, Kind: Leaf, Type: Bare, Value: strconv.FormatUint(uint64(value), 10)}
}

// Bool returns a leaf of type boolean.
func Bool(name string, value bool) *Node {
	return &Node{Name: name, Kind: Leaf, Type: Bare, Value: strconv.FormatBool(value)}
}

// Time returns a leaf of type date-and-time.
func Time(name string, t time.Time) *Node { return Text(name, t.UTC().Format(time.RFC3339Nano)) }

// IdentityOf returns a leaf with an identity of a module.
func IdentityOf(name, module, value string) *Node {
	return &Node{Name: name, Kind: Leaf, Type: Identity, Value: value, IdentityModule: module}
}

// Instance returns a leaf with an instance-identifier in the form of JSON.
func Instance(name, path string) *Node {
	return &Node{Name: name, Kind: Leaf, Type: InstanceID, Value: path}
}

// Empty returns a leaf of type empty.
func Empty(name string) *Node { return &Node{Name: name, Kind: Leaf, Type: Nothing} }

// Items returns the items of a leaf-list of strings.
func Items(name string, values ...string) []*Node {
	out := make([]*Node, len(values))
	for i, v := range values {
		out[i] = &Node{Name: name, Kind: Item, Value: v}
	}
	return out
}

// child returns the first child of a name.
func (n *Node) child(name string) *Node {
	for _, c := range n.Children {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// key returns the values of an entry's keys.
func (n *Node) key() []string {
	out := make([]string, len(n.Keys))
	for i, k := range n.Keys {
		if c := n.child(k); c != nil {
			out[i] = c.Value
		}
	}
	return out
}
