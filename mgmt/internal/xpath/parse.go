// Package xpath evaluates XPath 1.0 expressions with the functions of YANG
// (RFC 7950 section 10) on trees that it knows by a small interface. Where a
// tree has an index, an entry of a list is found by its keys without a look at
// the others.
//
// It is ours since the general engines for Go know neither: antchfx/xpath
// walks all children of a step whatever its predicates, and has no place for
// functions like current(). It must not know datastores or encodings.
package xpath

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"vita/mgmt/internal/schema"
)

// Limits of an expression.
const (
	maxLength = 16 << 10
	maxDepth  = 64
)

// Expr is a compiled expression. It may be used by many goroutines.
type Expr struct {
	text    string
	root    expr
	resolve Resolve
	names   map[string]bool // of the nodes that it names; nil: it may lead anywhere
}

// Mentions says whether the expression can lead to a node of a name.
func (e *Expr) Mentions(local string) bool { return e.names == nil || e.names[local] }

// String returns the expression as it was written.
func (e *Expr) String() string { return e.text }

// Resolve returns the module that a prefix stands for. "" asks for names
// without a prefix: the module returned may be "", for any.
type Resolve func(prefix string) (module string, ok bool)

// Compile reads an expression.
func Compile(text string, resolve Resolve) (*Expr, error) {
	if len(text) > maxLength {
		return nil, fmt.Errorf("expression of %d bytes: at most %d are taken", len(text), maxLength)
	}
	tokens, err := lex(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens, resolve: resolve, names: map[string]bool{}}
	root, err := p.or()
	if err == nil && p.peek().kind != end {
		err = p.unexpected()
	}
	if err != nil {
		return nil, err
	}
	if p.open {
		p.names = nil
	}
	return &Expr{text, root, resolve, p.names}, nil
}

// CompileReference reads the path of a leafref (RFC 7950 section 9.9.2), of which
// Refers then says whether it leads to a value. Where its target is a key of a
// list the entry is looked up by it.
func CompileReference(text string, resolve Resolve, target *schema.Node) (*Expr, error) {
	e, err := Compile(text, resolve)
	if err != nil {
		return nil, err
	}
	p, ok := e.root.(*path)
	if !ok || p.from != nil || len(p.steps) == 0 {
		return nil, fmt.Errorf("%s is no path", text)
	}
	last := len(p.steps) - 1
	end := p.steps[last]
	if target.IsKey && last > 0 && p.steps[last-1].axis == "child" && end.axis == "child" {
		list := p.steps[last-1]
		list.filter = append(list.filter, &binary{"=", &path{steps: []*step{{axis: "child", module: end.module, name: end.name}}}, variable{}})
		list.keys = nil
		list.findKeys()
	}
	end.filter = append(end.filter, &binary{"=", &path{steps: []*step{{axis: "self", all: true}}}, variable{}})
	return e, nil
}

type kind uint8

const (
	end  kind = iota
	name      // perhaps with a prefix; "*" and "p:*" too
	literal
	numeral
	operator // and, or, div, mod, = != < > <= >= + - * |
	symbol   // ( ) [ ] . .. @ , / // ::
	function // a name before "("
	axisName // a name before "::"
	nodeType // node, text, comment or processing-instruction before "("
)

type token struct {
	kind kind
	text string
	at   int
}

func isStart(r rune) bool {
	return r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= 0x80
}

func isName(r rune) bool {
	return isStart(r) || r >= '0' && r <= '9' || r == '-' || r == '.'
}

// ncname returns the length of the name that s begins with.
func ncname(s string) int {
	for i, r := range s {
		if i == 0 && !isStart(r) || !isName(r) || r == utf8.RuneError {
			return i
		}
	}
	return len(s)
}

func lex(s string) ([]token, error) {
	var out []token
	for i := 0; i < len(s); {
		c := s[i]
		rest := s[i:]
		// An operator stands after an operand, a name elsewhere (section 3.7).
		after := false
		if len(out) > 0 {
			switch last := out[len(out)-1]; last.kind {
			case operator, axisName:
			case symbol:
				after = !strings.Contains("@ :: ( [ , / //", last.text)
			default:
				after = true
			}
		}
		add := func(k kind, n int) {
			out = append(out, token{k, s[i : i+n], i})
			i += n
		}
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '"' || c == '\'':
			n := strings.IndexByte(rest[1:], c)
			if n < 0 {
				return nil, fmt.Errorf("byte %d: literal without an end", i)
			}
			out = append(out, token{literal, rest[1 : n+1], i})
			i += n + 2
		case c >= '0' && c <= '9' || c == '.' && len(rest) > 1 && rest[1] >= '0' && rest[1] <= '9':
			n := 0
			for dots := 0; n < len(rest) && (rest[n] >= '0' && rest[n] <= '9' || rest[n] == '.' && dots == 0); n++ {
				if rest[n] == '.' {
					dots++
				}
			}
			add(numeral, n)
		case strings.HasPrefix(rest, "::"), strings.HasPrefix(rest, ".."), strings.HasPrefix(rest, "//"):
			if c == ':' && len(out) > 0 && out[len(out)-1].kind == name {
				out[len(out)-1].kind = axisName
			}
			add(symbol, 2)
		case strings.HasPrefix(rest, "!="), strings.HasPrefix(rest, "<="), strings.HasPrefix(rest, ">="):
			add(operator, 2)
		case strings.IndexByte("=<>+-|", c) >= 0, c == '*' && after:
			add(operator, 1)
		case strings.IndexByte("()[].@,/", c) >= 0:
			if c == '(' && len(out) > 0 && out[len(out)-1].kind == name {
				out[len(out)-1].kind = function
				switch out[len(out)-1].text {
				case "node", "text", "comment", "processing-instruction":
					out[len(out)-1].kind = nodeType
				}
			}
			add(symbol, 1)
		case c == '*':
			add(name, 1)
		default:
			n := ncname(rest)
			if n == 0 {
				return nil, fmt.Errorf("byte %d: unexpected %q", i, rest[:1])
			}
			if word := rest[:n]; after && (word == "and" || word == "or" || word == "div" || word == "mod") {
				add(operator, n)
				continue
			}
			if n < len(rest) && rest[n] == ':' && !strings.HasPrefix(rest[n:], "::") {
				m := ncname(rest[n+1:])
				if m == 0 && strings.HasPrefix(rest[n+1:], "*") {
					m = 1
				}
				if m == 0 {
					return nil, fmt.Errorf("byte %d: prefix without a name", i)
				}
				n += 1 + m
			}
			add(name, n)
		}
	}
	return append(out, token{end, "the end", len(s)}), nil
}

type parser struct {
	tokens  []token
	at      int
	depth   int
	resolve Resolve
	names   map[string]bool
	open    bool
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) unexpected() error {
	return fmt.Errorf("byte %d: unexpected %s", p.peek().at, p.peek().text)
}

// take consumes a token if it is the one asked for.
func (p *parser) take(k kind, text string) bool {
	if t := p.peek(); t.kind == k && t.text == text {
		p.at++
		return true
	}
	return false
}

func (p *parser) want(text string) error {
	if !p.take(symbol, text) {
		return p.unexpected()
	}
	return nil
}

// levels are the binary operators, the weakest first (section 3.4, 3.5).
var levels = [][]string{{"or"}, {"and"}, {"=", "!="}, {"<", "<=", ">", ">="}, {"+", "-"}, {"*", "div", "mod"}}

func (p *parser) or() (expr, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("byte %d: more than %d levels", p.peek().at, maxDepth)
	}
	defer func() { p.depth-- }()
	return p.binary(0)
}

func (p *parser) binary(level int) (expr, error) {
	if level == len(levels) {
		return p.unary()
	}
	left, err := p.binary(level + 1)
	for err == nil {
		op := ""
		for _, o := range levels[level] {
			if p.take(operator, o) {
				op = o
			}
		}
		if op == "" {
			break
		}
		var right expr
		if right, err = p.binary(level + 1); err == nil {
			left = &binary{op, left, right}
		}
	}
	return left, err
}

func (p *parser) unary() (expr, error) {
	negative, any := false, false
	for p.take(operator, "-") {
		negative, any = !negative, true
	}
	e, err := p.path()
	for err == nil && p.take(operator, "|") {
		var right expr
		if right, err = p.path(); err == nil {
			e = &union{e, right}
		}
	}
	if err == nil && any {
		return &negate{e, negative}, nil
	}
	return e, err
}

// path reads a PathExpr: a location path, or another expression with
// predicates and steps behind it.
func (p *parser) path() (expr, error) {
	t := p.peek()
	switch {
	case t.kind == symbol && t.text == "/":
		p.at++
		l := &path{absolute: true}
		if n := p.peek(); n.kind == name || n.kind == axisName || n.kind == nodeType || n.kind == symbol && strings.Contains(". .. @", n.text) {
			return l, p.steps(l)
		}
		p.open = true
		return l, nil
	case t.kind == symbol && t.text == "//":
		l := &path{absolute: true}
		return l, p.steps(l)
	case t.kind == literal:
		p.at++
		return constant{t.text}, nil
	case t.kind == numeral:
		p.at++
		f, err := strconv.ParseFloat(t.text, 64)
		return constant{f}, err
	case t.kind == function, t.kind == symbol && t.text == "(":
		e, err := p.primary()
		if err != nil {
			return nil, err
		}
		l := &path{from: e}
		for p.peek().kind == symbol && p.peek().text == "[" {
			e, err := p.predicate()
			if err != nil {
				return nil, err
			}
			l.filter = append(l.filter, e)
		}
		if n := p.peek(); n.kind == symbol && (n.text == "/" || n.text == "//") {
			p.take(symbol, "/")
			return l, p.steps(l)
		}
		if l.filter == nil {
			return e, nil
		}
		return l, nil
	}
	l := &path{}
	return l, p.steps(l)
}

func (p *parser) primary() (expr, error) {
	if p.take(symbol, "(") {
		e, err := p.or()
		if err == nil {
			err = p.want(")")
		}
		return e, err
	}
	t := p.peek()
	p.at += 2 // the name and "("
	c := &call{name: t.text}
	for !p.take(symbol, ")") {
		if len(c.args) > 0 {
			if err := p.want(","); err != nil {
				return nil, err
			}
		}
		e, err := p.or()
		if err != nil {
			return nil, err
		}
		c.args = append(c.args, e)
	}
	f, ok := functions[c.name]
	switch {
	case !ok:
		return nil, fmt.Errorf("byte %d: there is no function %s", t.at, c.name)
	case len(c.args) < f.least || len(c.args) > f.most:
		return nil, fmt.Errorf("byte %d: function %s takes %d to %d arguments", t.at, c.name, f.least, f.most)
	}
	c.fn = f.fn
	return c, nil
}

func (p *parser) predicate() (expr, error) {
	if err := p.want("["); err != nil {
		return nil, err
	}
	e, err := p.or()
	if err == nil {
		err = p.want("]")
	}
	return e, err
}

// steps reads a relative location path.
func (p *parser) steps(l *path) error {
	for {
		if p.take(symbol, "//") {
			l.steps = append(l.steps, &step{axis: "descendant-or-self", all: true})
		}
		s, err := p.step()
		if err != nil {
			return err
		}
		l.steps = append(l.steps, s)
		if n := p.peek(); n.kind == symbol && n.text == "//" {
			continue
		}
		if !p.take(symbol, "/") {
			return nil
		}
	}
}

var axes = map[string]bool{
	"child": true, "descendant": true, "parent": true, "ancestor": true, "self": true, "descendant-or-self": true,
	"ancestor-or-self": true, "following-sibling": true, "preceding-sibling": true, "following": true, "preceding": true,
	"attribute": true, "namespace": true,
}

func (p *parser) step() (*step, error) {
	s := &step{axis: "child"}
	switch t := p.peek(); {
	case p.take(symbol, "."):
		s.axis, s.all, p.open = "self", true, true
		return s, nil
	case p.take(symbol, ".."):
		s.axis, s.all, p.open = "parent", true, true
		return s, nil
	case p.take(symbol, "@"):
		s.axis = "attribute"
	case t.kind == axisName:
		if !axes[t.text] {
			return nil, fmt.Errorf("byte %d: axis %s is not supported", t.at, t.text)
		}
		s.axis = t.text
		p.at++
		if err := p.want("::"); err != nil {
			return nil, err
		}
	}
	t := p.peek()
	switch t.kind {
	case nodeType:
		p.at += 2
		p.take(literal, p.peek().text)
		if err := p.want(")"); err != nil {
			return nil, err
		}
		p.open = true
		s.all, s.none = t.text == "node", t.text != "node" // data have no text nodes of their own
	case name:
		p.at++
		prefix, local, qualified := strings.Cut(t.text, ":")
		if !qualified {
			prefix, local = "", t.text
		}
		module, ok := p.resolve(prefix)
		if !ok {
			return nil, fmt.Errorf("byte %d: prefix %q is not declared", t.at, prefix)
		}
		if local == "*" && !qualified {
			module = ""
		}
		s.module, s.name = module, local
		if p.names[local] = true; local == "*" {
			p.open = true
		}
	default:
		return nil, p.unexpected()
	}
	for p.peek().kind == symbol && p.peek().text == "[" {
		e, err := p.predicate()
		if err != nil {
			return nil, err
		}
		s.filter = append(s.filter, e)
	}
	s.findKeys()
	return s, nil
}
