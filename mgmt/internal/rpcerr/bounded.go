package rpcerr

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// What an answer gives back of names and values that a client has sent: enough
// to find them, not all of what may be megabytes.
const (
	maxErrors  = 1000
	maxText    = 1024
	maxPath    = 4096
	maxElement = 256
)

// Bounded returns the errors as they go to a client: those past the limit are
// counted, long texts are cut, and a path that is too long is left out, for half
// of one would name another node.
func (e Errors) Bounded() Errors {
	n := min(len(e), maxErrors)
	list := make(Errors, n, n+1)
	for i, one := range e[:n] {
		c := *one
		c.Message = cut(c.Message, maxText)
		for _, s := range []*string{&c.BadElement, &c.BadAttribute, &c.BadNamespace, &c.MissingChoice} {
			*s = cut(*s, maxElement)
		}
		if len(c.Path) > maxPath {
			c.Path = ""
		}
		c.NonUnique = nil
		for _, p := range one.NonUnique {
			if len(p) <= maxPath && len(c.NonUnique) < maxErrors {
				c.NonUnique = append(c.NonUnique, p)
			}
		}
		list[i] = &c
	}
	if more := len(e) - n; more > 0 {
		list = append(list, New("operation-failed", "", "%d more errors are not listed", more))
	}
	return list
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.Clone(s[:most]), len(s))
}
