package schema

import (
	"fmt"
	"slices"
	"strings"
)

// translate gives the prefixes of an XPath expression, as a client has written
// it, the names of the modules that they stand for.
func translate(s string, resolve func(prefix string) (string, bool)) (string, error) {
	var b strings.Builder
	var bad error
	prefixed(s, func(text, prefix string) {
		b.WriteString(text)
		if prefix == "" {
			return
		}
		module, ok := resolve(prefix)
		if !ok && bad == nil {
			bad = fmt.Errorf("prefix %q is not declared", clip(prefix))
		}
		b.WriteString(module)
	})
	return b.String(), bad
}

// XPathModules returns the modules whose names are prefixes in an expression.
func XPathModules(s string) []string {
	var out []string
	prefixed(s, func(_, prefix string) {
		if prefix != "" && Namespace(prefix) != "" && !slices.Contains(out, prefix) {
			out = append(out, prefix)
		}
	})
	return out
}

// prefixed calls fn with the parts of an expression: text, and the prefix that
// follows it, or none at the end. What is between quotes has no prefixes.
func prefixed(s string, fn func(text, prefix string)) {
	from := 0
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '"' || c == '\'':
			n := strings.IndexByte(s[i+1:], c)
			if n < 0 {
				i = len(s)
				continue
			}
			i += n + 2
		case nameByte(c):
			end := i
			for end < len(s) && nameByte(s[end]) {
				end++
			}
			if end+1 < len(s) && s[end] == ':' && (nameByte(s[end+1]) || s[end+1] == '*') {
				fn(s[from:i], s[i:end])
				from = end
				end++
				for end < len(s) && nameByte(s[end]) {
					end++
				}
			}
			i = end
		default:
			i++
		}
	}
	fn(s[from:], "")
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c >= 0x80
}

// nodeInstance is the type of paths in access rules (RFC 8341 section 3.5.5).
const nodeInstance = "node-instance-identifier"

// isNodeInstance says whether a text has the form of an instance-identifier, in
// which keys may be left out, or is /.
func isNodeInstance(s string) bool {
	if s == "/" {
		return true
	}
	first := true
	for s != "" {
		rest, ok := strings.CutPrefix(s, "/")
		n := nameLength(rest)
		if !ok || n == 0 || first && !strings.Contains(rest[:n], ":") {
			return false
		}
		first = false
		for s = rest[n:]; strings.HasPrefix(s, "["); {
			if i := strings.IndexByte(s, ']'); i > 1 && strings.Trim(s[1:i], "0123456789") == "" {
				s = s[i+1:] // a position
				continue
			}
			key, _, after, ok := instancePredicate(s)
			if !ok || key != "." && nameLength(key) != len(key) {
				return false
			}
			s = after
		}
	}
	return !first
}

// nameLength returns the length of the name that a text begins with, which may
// have a prefix.
func nameLength(s string) int {
	n := 0
	colons := 0
	for n < len(s) && (nameByte(s[n]) || s[n] == ':' && n > 0) {
		if s[n] == ':' {
			if colons++; colons > 1 {
				return 0
			}
		}
		n++
	}
	if n > 0 && (s[0] >= '0' && s[0] <= '9' || s[0] == '-' || s[0] == '.' || s[n-1] == ':') {
		return 0
	}
	return n
}
