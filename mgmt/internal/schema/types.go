package schema

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	goyang "github.com/openconfig/goyang/pkg/yang"
)

// Base is the built-in type that a leaf's type comes down to.
type Base uint8

// The built-in types that the model uses.
const (
	Bool Base = iota + 1
	Uint
	Int
	String
)

// Type is the type of a leaf. Its values are kept as text in canonical form
// (RFC 7950 section 9.1) outside of the generated structs.
type Type struct {
	Name string // as the leaf names it, e.g. "inet:ipv4-prefix"
	Base Base
	Bits int // of Uint and Int: 8, 16, 32 or 64

	uints    [][2]uint64 // of Uint: the ranges allowed
	ints     [][2]int64
	lengths  [][2]uint64 // of String, in characters
	patterns []pattern
	canon    func(string) (string, error) // of String; nil: the text is canonical
}

type pattern struct {
	text string
	re   *regexp.Regexp
}

func (t *Type) goKind() reflect.Kind {
	switch t.Base {
	case Bool:
		return reflect.Bool
	case String:
		return reflect.String
	}
	kinds := map[int]reflect.Kind{8: reflect.Uint8, 16: reflect.Uint16, 32: reflect.Uint32, 64: reflect.Uint64}
	if t.Base == Int {
		kinds = map[int]reflect.Kind{8: reflect.Int8, 16: reflect.Int16, 32: reflect.Int32, 64: reflect.Int64}
	}
	return kinds[t.Bits]
}

var bases = map[goyang.TypeKind]Type{
	goyang.Ybool: {Base: Bool}, goyang.Ystring: {Base: String},
	goyang.Yuint8: {Base: Uint, Bits: 8}, goyang.Yuint16: {Base: Uint, Bits: 16},
	goyang.Yuint32: {Base: Uint, Bits: 32}, goyang.Yuint64: {Base: Uint, Bits: 64},
	goyang.Yint8: {Base: Int, Bits: 8}, goyang.Yint16: {Base: Int, Bits: 16},
	goyang.Yint32: {Base: Int, Bits: 32}, goyang.Yint64: {Base: Int, Bits: 64},
}

// canonical forms that a typedef's description asks for (RFC 6991).
var canons = map[string]func(string) (string, error){
	"ip-prefix":            canonPrefix,
	"ipv4-prefix":          canonPrefix,
	"ipv6-prefix":          canonPrefix,
	"ipv6-address":         canonAddr,
	"ipv6-address-no-zone": canonAddr,
	"mac-address":          canonLower,
	"phys-address":         canonLower,
	"hex-string":           canonLower,
	"uuid":                 canonLower,
}

func newType(y *goyang.YangType) (*Type, error) {
	base, ok := bases[y.Kind]
	if !ok {
		return nil, fmt.Errorf("type %s (%v) is not supported yet: teach mgmt/internal/schema", y.Name, y.Kind)
	}
	t := base
	t.Name = y.Name
	for _, r := range y.Range {
		switch t.Base {
		case Uint:
			if r.Min.Negative || r.Max.Negative {
				return nil, fmt.Errorf("type %s: negative range of an unsigned type", y.Name)
			}
			t.uints = append(t.uints, [2]uint64{r.Min.Value, r.Max.Value})
		case Int:
			lo, err := r.Min.Int()
			if err != nil {
				return nil, err
			}
			hi, err := r.Max.Int()
			if err != nil {
				return nil, err
			}
			t.ints = append(t.ints, [2]int64{lo, hi})
		default:
			return nil, fmt.Errorf("type %s has a range", y.Name)
		}
	}
	for _, l := range y.Length {
		t.lengths = append(t.lengths, [2]uint64{l.Min.Value, l.Max.Value})
	}
	for _, p := range y.Pattern {
		re, err := compilePattern(p)
		if err != nil {
			return nil, fmt.Errorf("type %s: %w", y.Name, err)
		}
		t.patterns = append(t.patterns, pattern{p, re})
	}
	if t.Base == String {
		t.canon = canonOf(y)
	}
	return &t, nil
}

// canonOf looks for a typedef with a canonical form along the chain of types.
func canonOf(y *goyang.YangType) func(string) (string, error) {
	for range 16 {
		name := y.Name
		if _, after, ok := strings.Cut(name, ":"); ok {
			name = after
		}
		if c := canons[name]; c != nil {
			return c
		}
		if y.Base == nil || y.Base.YangType == nil || y.Base.YangType == y {
			return nil
		}
		y = y.Base.YangType
	}
	return nil
}

// Canonical checks a value in any of its lexical forms and returns the
// canonical one.
func (t *Type) Canonical(s string) (string, error) {
	switch t.Base {
	case Bool:
		switch v := strings.TrimSpace(s); v {
		case "true", "false":
			return v, nil
		}
		return "", fmt.Errorf("%q is no boolean: want true or false", clip(s))
	case Uint:
		u, err := strconv.ParseUint(strings.TrimPrefix(number(s), "+"), 0, t.Bits)
		if err != nil {
			return "", t.badNumber(s, err)
		}
		for _, r := range t.uints {
			if u >= r[0] && u <= r[1] {
				return strconv.FormatUint(u, 10), nil
			}
		}
		return "", fmt.Errorf("%d is out of range: want %s", u, t.Range())
	case Int:
		i, err := strconv.ParseInt(number(s), 0, t.Bits)
		if err != nil {
			return "", t.badNumber(s, err)
		}
		for _, r := range t.ints {
			if i >= r[0] && i <= r[1] {
				return strconv.FormatInt(i, 10), nil
			}
		}
		return "", fmt.Errorf("%d is out of range: want %s", i, t.Range())
	}
	return t.canonicalString(s)
}

// number trims the white space around a number, and makes forms that Go has
// and YANG has not ("0b1", "0o7", "1_000") no number.
func number(s string) string {
	s = strings.TrimSpace(s)
	if strings.ContainsAny(s, "_bBoO") && !strings.HasPrefix(strings.TrimLeft(s, "+-"), "0x") || strings.Contains(s, "_") {
		return ""
	}
	return s
}

func (t *Type) badNumber(s string, err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%q is out of range: want %s", clip(s), t.Range())
	}
	return fmt.Errorf("%q is no number: want %s", clip(s), t.Range())
}

// Range returns the values allowed of a number, e.g. "256..4294967295".
func (t *Type) Range() string {
	var parts []string
	for _, r := range t.uints {
		parts = append(parts, fmt.Sprintf("%d..%d", r[0], r[1]))
	}
	for _, r := range t.ints {
		parts = append(parts, fmt.Sprintf("%d..%d", r[0], r[1]))
	}
	return strings.Join(parts, " | ")
}

func (t *Type) canonicalString(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errors.New("not valid UTF-8")
	}
	for _, r := range s { // RFC 7950 section 14, yang-char
		if r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef {
			return "", fmt.Errorf("character %U is not allowed", r)
		}
	}
	if len(t.lengths) > 0 {
		n := uint64(utf8.RuneCountInString(s))
		ok := false
		for _, l := range t.lengths {
			ok = ok || n >= l[0] && n <= l[1]
		}
		if !ok {
			return "", fmt.Errorf("a length of %d is not allowed", n)
		}
	}
	for _, p := range t.patterns {
		if !p.re.MatchString(s) {
			return "", fmt.Errorf("the value does not match the pattern %s of type %s", p.text, t.Name)
		}
	}
	if t.canon == nil {
		return s, nil
	}
	v, err := t.canon(s)
	if err != nil {
		return "", fmt.Errorf("%q is no %s: %w", clip(s), t.Name, err)
	}
	return v, nil
}

// clip shortens a value for a message.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// Compare orders two canonical values: numbers by value, the rest as text.
func (t *Type) Compare(a, b string) int {
	if t.Base == Uint && len(a) != len(b) {
		return len(a) - len(b)
	}
	if t.Base == Int {
		x, errX := strconv.ParseInt(a, 10, 64)
		y, errY := strconv.ParseInt(b, 10, 64)
		if errX == nil && errY == nil && x != y {
			return int(math.Copysign(1, float64(x)-float64(y)))
		}
	}
	return strings.Compare(a, b)
}

func canonAddr(s string) (string, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return "", err
	}
	return a.String(), nil
}

func canonPrefix(s string) (string, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return "", err
	}
	return p.Masked().String(), nil
}

func canonLower(s string) (string, error) { return strings.ToLower(s), nil }

// compilePattern turns a regular expression of XML Schema (RFC 7950 section
// 9.4.5), which matches whole values, into one of Go. ^ and $ are ordinary
// characters there, \w is "neither punctuation, separator nor other", which
// leaves letters, marks, numbers and symbols.
func compilePattern(xsd string) (*regexp.Regexp, error) {
	var b strings.Builder
	b.WriteString(`\A(?:`)
	class := 0
	rs := []rune(xsd)
	for i := 0; i < len(rs); i++ {
		r := rs[i]
		switch {
		case r == '\\':
			i++
			if i == len(rs) {
				return nil, fmt.Errorf("pattern %q ends in a backslash", xsd)
			}
			if err := escape(&b, rs[i], class > 0); err != nil {
				return nil, fmt.Errorf("pattern %q: %w", xsd, err)
			}
		case r == '[' && class > 0:
			if i > 0 && rs[i-1] == '-' {
				return nil, fmt.Errorf("pattern %q: subtraction of classes is not supported", xsd)
			}
			b.WriteString(`\[`)
		case r == '[':
			class++
			b.WriteRune(r)
		case r == ']' && class > 0:
			class--
			b.WriteRune(r)
		case class == 0 && (r == '^' || r == '$'):
			b.WriteRune('\\')
			b.WriteRune(r)
		case class == 0 && r == '.':
			b.WriteString(`[^\n\r]`)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteString(`)\z`)
	return regexp.Compile(b.String())
}

func escape(b *strings.Builder, r rune, class bool) error {
	sets := map[rune]string{
		'w': `\p{L}\p{M}\p{N}\p{S}`, 's': ` \t\n\r`, 'd': `\p{Nd}`,
		'i': `\p{L}_:`, 'c': `\p{L}\p{M}\p{Nd}_:.\-`,
	}
	if set, ok := sets[r]; ok {
		if !class {
			set = "[" + set + "]"
		}
		b.WriteString(set)
		return nil
	}
	negated := map[rune]string{'W': sets['w'], 'S': sets['s'], 'D': sets['d']}
	if set, ok := negated[r]; ok {
		if class {
			return fmt.Errorf("\\%c within a class is not supported", r)
		}
		b.WriteString("[^" + set + "]")
		return nil
	}
	b.WriteRune('\\')
	b.WriteRune(r)
	return nil
}

// Few returns the values of a type that has only a few, nil for others.
func (t *Type) Few() []string {
	if t.Base == Bool {
		return []string{"false", "true"}
	}
	return nil
}
