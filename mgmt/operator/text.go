package operator

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

/*
Vita's own configuration format is that of YANG statements (RFC 7950 section
6.3) with the names of nodes in the place of keywords:

	private-interface4 {
	  ifname eth1;             // a leaf
	  ip 192.168.10.1;
	}
	route4 {                   // one entry of a list
	  id site2;
	  preshared-key "00112233 44556677 ...";
	}

A value is a word, or stands between quotes; pieces between quotes are joined by
a plus sign. Comments are those of C++.
*/

// statement is one statement of a text.
type statement struct {
	line     int
	name     string
	value    string
	hasValue bool
	block    bool // it has braces
	children []*statement
}

// Limits of a text that nobody has a reason to come near.
const (
	maxTextDepth  = 64
	maxTextErrors = 20
)

// LineError is an error at a line of a text.
type LineError struct {
	Line int
	Path string // of the node it is about, as an operator writes it; may be ""
	Err  error
}

// Error returns "line N: PATH: what is wrong".
func (e *LineError) Error() string {
	if e.Path != "" {
		return fmt.Sprintf("line %d: %s: %v", e.Line, e.Path, e.Err)
	}
	return fmt.Sprintf("line %d: %v", e.Line, e.Err)
}

// Unwrap returns what is wrong.
func (e *LineError) Unwrap() error { return e.Err }

type scanner struct {
	text string
	at   int
	line int
}

// token kinds: ';', '{', '}', '+', 'w' for a word, '"' for a quoted string, 0 at
// the end.
type token struct {
	kind byte
	text string
	line int
}

func (s *scanner) fail(line int, format string, a ...any) error {
	return &LineError{Line: line, Err: fmt.Errorf(format, a...)}
}

// skip passes white space and comments.
func (s *scanner) skip() error {
	for s.at < len(s.text) {
		rest := s.text[s.at:]
		switch {
		case rest[0] == '\n':
			s.line++
			s.at++
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\r':
			s.at++
		case strings.HasPrefix(rest, "//"):
			if i := strings.IndexByte(rest, '\n'); i >= 0 {
				s.at += i
			} else {
				s.at = len(s.text)
			}
		case strings.HasPrefix(rest, "/*"):
			i := strings.Index(rest[2:], "*/")
			if i < 0 {
				return s.fail(s.line, "a comment that begins here has no end")
			}
			s.line += strings.Count(rest[:i+4], "\n")
			s.at += i + 4
		default:
			return nil
		}
	}
	return nil
}

func (s *scanner) next() (token, error) {
	if err := s.skip(); err != nil {
		return token{}, err
	}
	t := token{line: s.line}
	if s.at == len(s.text) {
		return t, nil
	}
	switch c := s.text[s.at]; c {
	case ';', '{', '}':
		t.kind = c
		s.at++
		return t, nil
	case '"', '\'':
		t.kind = '"'
		text, err := s.quoted(c)
		t.text = text
		return t, err
	}
	end := s.at
	for end < len(s.text) && !strings.ContainsRune(" \t\r\n;{}\"'", rune(s.text[end])) {
		end++
	}
	t.kind, t.text = 'w', s.text[s.at:end]
	if t.text == "+" {
		t.kind = '+'
	}
	s.at = end
	return t, nil
}

func (s *scanner) quoted(quote byte) (string, error) {
	begin := s.line
	var b strings.Builder
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == quote:
			s.at++
			return b.String(), nil
		case c == '\\' && quote == '"' && s.at+1 < len(s.text):
			s.at++
			switch e := s.text[s.at]; e {
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case '"', '\\':
				b.WriteByte(e)
			default:
				return "", s.fail(s.line, `\%c is no escape: have \n, \t, \" and \\`, e)
			}
		default:
			if c == '\n' {
				s.line++
			}
			b.WriteByte(c)
		}
	}
	return "", s.fail(begin, "a string that begins here has no end")
}

// parseText reads a text in Vita's format. The error is a LineError.
func parseText(text string) ([]*statement, error) {
	if !utf8.ValidString(text) {
		return nil, &LineError{Line: 1, Err: errors.New("the text is not UTF-8")}
	}
	s := &scanner{text: strings.TrimPrefix(text, "\ufeff"), line: 1}
	return s.statements(0, 0)
}

// statements reads up to the closing brace, or at depth 0 to the end.
func (s *scanner) statements(depth, opened int) ([]*statement, error) {
	if depth > maxTextDepth {
		return nil, s.fail(s.line, "more than %d levels of braces", maxTextDepth)
	}
	var all []*statement
	for {
		t, err := s.next()
		if err != nil {
			return nil, err
		}
		switch {
		case t.kind == 0 && depth > 0:
			return nil, s.fail(opened, "the brace that is opened here is not closed")
		case t.kind == 0 || t.kind == '}' && depth > 0:
			return all, nil
		case t.kind == '}':
			return nil, s.fail(t.line, "a brace is closed that was not opened")
		case t.kind != 'w':
			return nil, s.fail(t.line, "want a name, not %s", t)
		}
		one := &statement{line: t.line, name: t.text}
		if err := s.rest(one, depth); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
}

// rest reads what follows a name: a value, and a semicolon or a block.
func (s *scanner) rest(one *statement, depth int) error {
	t, err := s.next()
	if err != nil {
		return err
	}
	if t.kind == 'w' || t.kind == '"' {
		one.hasValue, one.value = true, t.text
		quoted := t.kind == '"'
		if t, err = s.next(); err != nil {
			return err
		}
		for quoted && t.kind == '+' {
			if t, err = s.next(); err != nil {
				return err
			}
			if t.kind != '"' {
				return s.fail(t.line, "want a string between quotes after +, not %s", t)
			}
			one.value += t.text
			if t, err = s.next(); err != nil {
				return err
			}
		}
	}
	switch t.kind {
	case ';':
		return nil
	case '{':
		one.block = true
		one.children, err = s.statements(depth+1, t.line)
		return err
	}
	return s.fail(t.line, "want ; or { after %s, not %s", one.name, t)
}

// String names a token without what it says, which may be a secret.
func (t token) String() string {
	switch t.kind {
	case 0:
		return "the end of the text"
	case 'w':
		return "another word: a value with blanks in it stands between quotes"
	case '"':
		return "a string"
	}
	return string(t.kind)
}

// quoteText writes a value so that parseText reads it back.
func quoteText(v string) string {
	if v != "" && v != "+" && !strings.ContainsAny(v, " \t\r\n;{}\"'\\") && !strings.Contains(v, "//") && !strings.Contains(v, "/*") {
		return v
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(v) + `"`
}
