package schema

import (
	"fmt"
	"regexp"
	"strings"
)

// CompilePattern turns a regular expression of XML Schema (RFC 7950 section
// 9.4.5), which matches whole values, into one of Go. ^ and $ are ordinary
// characters there, \w is "neither punctuation, separator nor other", which
// leaves letters, marks, numbers and symbols.
func CompilePattern(xsd string) (*regexp.Regexp, error) {
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
