package schema

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Base is the built-in type that a leaf's type comes down to.
type Base uint8

// The built-in types. A leafref is of the base of what it refers to.
const (
	Bool Base = iota + 1
	Uint
	Int
	String
	Decimal
	Enum
	Bits
	Binary
	Empty
	Union
	Identity
	Instance
)

// Type is the type of a leaf or leaf-list. Its values are kept as text in
// canonical form (RFC 7950 section 9.1) outside of the generated structs, names
// of other modules in it with the module's name, as JSON has them.
type Type struct {
	Name string // as the leaf names it, e.g. "inet:ipv4-prefix"
	Base Base
	Bits int // of Uint and Int: 8, 16, 32 or 64

	XPath   bool     // of String: an expression, whose prefixes are those of where it is written
	Digits  int      // of Decimal: fraction digits
	Enums   []Named  // of Enum and Bits: the names, with value or position
	Members []*Type  // of Union
	Bases   []string // of Identity: "module:name"
	Ref     *Ref     // of a leafref: where to
	Require bool     // of a leafref or Instance: what it names has to exist

	uints      [][2]uint64 // of Uint: the ranges allowed
	ints       [][2]int64  // of Int and Decimal; of Decimal in units of its last digit
	lengths    [][2]uint64 // of String in characters, of Binary in bytes
	patterns   []pattern
	canon      func(string) (string, error) // of String; nil: the text is canonical
	identities map[string]bool              // of Identity: those allowed, "module:name"
	module     string                       // of the leaf
	root       *Node                        // of Instance: what it leads into
	restricted []Named                      // while it is compiled: the enums that a typedef has
	next       int64                        // and the next number
}

// Named is an enum with its value, or a bit with its position.
type Named struct {
	Name  string
	Value int64
}

// Ref is the path of a leafref (section 9.9.2).
type Ref struct {
	Path   string
	Prefix func(prefix string) (module string, ok bool)
	Target *Node
}

type pattern struct {
	text   string
	re     *regexp.Regexp
	invert bool
}

// Form says how a value is written. The zero Form is the canonical one.
type Form struct {
	// Prefix gives the module that a prefix stands for, "" the one for names
	// without; nil: prefixes are names of modules.
	Prefix func(prefix string) (module string, ok bool)

	// JSON is the kind of JSON value that it comes as: '"', '0' a number, 't' a
	// boolean, '[' is [null]; 0: it does not come as JSON.
	JSON byte
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

// JSON returns the kind of JSON value of the type, 0 where it depends on the
// value (RFC 7951 section 6).
func (t *Type) JSON() byte {
	switch t.Base {
	case Bool:
		return 't'
	case Uint, Int:
		if t.Bits < 64 {
			return '0'
		}
	case Empty:
		return '['
	case Union:
		return 0
	}
	return '"'
}

// Of returns the type that a canonical value is of: the member of a union that
// takes it, otherwise the type itself.
func (t *Type) Of(value string) *Type {
	for _, m := range t.Members {
		if v, err := m.Canonical(value); err == nil && v == value {
			return m.Of(value)
		}
	}
	return t
}

// Canonical checks a value in any of its lexical forms and returns the
// canonical one.
func (t *Type) Canonical(s string) (string, error) { return t.Parse(s, Form{}) }

// Parse checks a value as it comes in some form and returns the canonical one.
func (t *Type) Parse(s string, in Form) (string, error) {
	if kind := t.JSON(); in.JSON != 0 && kind != 0 && kind != in.JSON {
		return "", fmt.Errorf("want a JSON %s", jsonKinds[kind])
	}
	switch t.Base {
	case Bool:
		if s == "true" || s == "false" {
			return s, nil
		}
		return "", fmt.Errorf("%q is no boolean: want true or false", clip(s))
	case Uint:
		digits := strings.TrimPrefix(number(s), "+")
		if minus, ok := strings.CutPrefix(digits, "-"); ok && minus != "" && strings.Trim(minus, "0") == "" {
			digits = minus // zero may have a sign
		}
		u, err := strconv.ParseUint(digits, 0, t.Bits)
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
		if t.inRange(i) {
			return strconv.FormatInt(i, 10), nil
		}
		return "", fmt.Errorf("%d is out of range: want %s", i, t.Range())
	case Decimal:
		i, err := decimal(strings.TrimSpace(s), t.Digits)
		if err != nil {
			return "", fmt.Errorf("%q is no number with up to %d digits behind the point", clip(s), t.Digits)
		}
		if t.inRange(i) {
			return formatDecimal(i, t.Digits), nil
		}
		return "", fmt.Errorf("%s is out of range: want %s", formatDecimal(i, t.Digits), t.Range())
	case Enum:
		if slices.ContainsFunc(t.Enums, func(e Named) bool { return e.Name == s }) {
			return s, nil
		}
		return "", fmt.Errorf("%q is unknown: want one of %s", clip(s), t.names())
	case Bits:
		return t.bits(s)
	case Binary:
		return t.binary(s)
	case Empty:
		if s != "" {
			return "", fmt.Errorf("%q: the type empty has no value", clip(s))
		}
		return "", nil
	case Union:
		return t.union(s, in)
	case Identity:
		return t.identity(s, in)
	case Instance:
		return ParseInstance(t.root, s, in)
	}
	if t.XPath && in.Prefix != nil {
		var err error
		if s, err = translate(s, in.Prefix); err != nil {
			return "", err
		}
	}
	return t.canonicalString(s)
}

var jsonKinds = map[byte]string{'"': "string", '0': "number", 't': "boolean", '[': "value [null]"}

func (t *Type) inRange(i int64) bool {
	return slices.ContainsFunc(t.ints, func(r [2]int64) bool { return i >= r[0] && i <= r[1] })
}

func (t *Type) names() string {
	var out []string
	for _, e := range t.Enums {
		out = append(out, e.Name)
	}
	return strings.Join(out, ", ")
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

// decimal reads a number in units of its last digit (section 9.3).
func decimal(s string, digits int) (int64, error) {
	sign := ""
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign, s = s[:1], s[1:]
	}
	whole, fraction, point := strings.Cut(s, ".")
	if whole == "" || strings.Trim(whole+fraction, "0123456789") != "" || point && fraction == "" {
		return 0, strconv.ErrSyntax
	}
	if fraction = strings.TrimRight(fraction, "0"); len(fraction) > digits {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(sign+whole+fraction+strings.Repeat("0", digits-len(fraction)), 10, 64)
}

func formatDecimal(i int64, digits int) string {
	sign := ""
	s := strconv.FormatInt(i, 10)
	if i < 0 {
		sign, s = "-", s[1:]
	}
	if len(s) <= digits {
		s = strings.Repeat("0", digits+1-len(s)) + s
	}
	at := len(s) - digits
	fraction := strings.TrimRight(s[at:], "0")
	if fraction == "" {
		fraction = "0"
	}
	return sign + s[:at] + "." + fraction
}

// bits puts the names into the order of their positions (section 9.7.2).
func (t *Type) bits(s string) (string, error) {
	names := strings.Fields(s)
	var out []string
	for _, b := range t.Enums {
		if slices.Contains(names, b.Name) {
			out = append(out, b.Name)
		}
	}
	if len(out) != len(names) {
		return "", fmt.Errorf("%q: want some of %s, each once", clip(s), t.names())
	}
	return strings.Join(out, " "), nil
}

func (t *Type) binary(s string) (string, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		return "", errors.New("the value is not in base64")
	}
	if !inside(t.lengths, len(b)) {
		return "", fmt.Errorf("a length of %d bytes is not allowed", len(b))
	}
	return base64.StdEncoding.EncodeToString(b), nil
}

func inside(lengths [][2]uint64, n int) bool {
	return len(lengths) == 0 || slices.ContainsFunc(lengths, func(l [2]uint64) bool { return uint64(n) >= l[0] && uint64(n) <= l[1] })
}

func (t *Type) union(s string, in Form) (string, error) {
	for _, m := range t.Members {
		if v, err := m.Parse(s, in); err == nil {
			return v, nil
		}
	}
	return "", fmt.Errorf("%q is of no type of the union %s", clip(s), t.Name)
}

// identity reads the name of an identity. Without a prefix it is one of the
// leaf's own module, or in XML of the default namespace.
func (t *Type) identity(s string, in Form) (string, error) {
	prefix, local, ok := strings.Cut(s, ":")
	if !ok {
		prefix, local = "", s
	}
	module := prefix
	switch {
	case in.Prefix != nil:
		if module, ok = in.Prefix(prefix); !ok {
			return "", fmt.Errorf("%q: its prefix is not declared", clip(s))
		}
	case prefix == "":
		module = t.module
	}
	if name := module + ":" + local; t.identities[name] {
		return name, nil
	}
	return "", fmt.Errorf("%q is no identity derived from %s", clip(s), strings.Join(t.Bases, " and "))
}

// Range returns the values allowed of a number, e.g. "256..4294967295".
func (t *Type) Range() string {
	var parts []string
	for _, r := range t.uints {
		parts = append(parts, fmt.Sprintf("%d..%d", r[0], r[1]))
	}
	for _, r := range t.ints {
		if t.Base == Decimal {
			parts = append(parts, formatDecimal(r[0], t.Digits)+".."+formatDecimal(r[1], t.Digits))
			continue
		}
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
		if n := utf8.RuneCountInString(s); !inside(t.lengths, n) {
			return "", fmt.Errorf("a length of %d is not allowed", n)
		}
	}
	for _, p := range t.patterns {
		if p.re.MatchString(s) == p.invert {
			return "", fmt.Errorf("the value does not match the pattern %s of type %s", p.text, t.Name)
		}
	}
	if t.Name == nodeInstance && !isNodeInstance(s) {
		return "", fmt.Errorf("%q is no %s: want / or a path such as /MODULE:NAME[KEY='VALUE']/NAME", clip(s), nodeInstance)
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

// Few returns the values of a type that has only a few, nil for others.
func (t *Type) Few() []string {
	switch t.Base {
	case Bool:
		return []string{"false", "true"}
	case Enum:
		out := make([]string, len(t.Enums))
		for i, e := range t.Enums {
			out[i] = e.Name
		}
		return out
	case Identity:
		return slices.Sorted(maps.Keys(t.identities))
	}
	return nil
}
