package rpcerr

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

// NamespaceYANG is the namespace of YANG's own error-info elements (RFC 7950
// section 15.1).
const NamespaceYANG = "urn:ietf:params:xml:ns:yang:1"

// WritePathXML writes an element that holds an instance path as an XPath
// expression, with a namespace declaration for each prefix in it. ns is the
// element's own namespace ("" = inherited), namespace maps a module's name to
// its namespace.
func WritePathXML(b *bytes.Buffer, element, ns, path string, namespace func(module string) string) {
	expr, modules := XPath(path)
	fmt.Fprintf(b, "<%s", element)
	declare := func(attr, uri string) {
		fmt.Fprintf(b, ` %s="`, attr)
		_ = xml.EscapeText(b, []byte(uri)) // a bytes.Buffer takes every write
		b.WriteByte('"')
	}
	if ns != "" {
		declare("xmlns", ns)
	}
	for _, m := range modules {
		declare("xmlns:"+m, namespace(m))
	}
	b.WriteByte('>')
	_ = xml.EscapeText(b, []byte(expr))
	fmt.Fprintf(b, "</%s>", element)
}

// WriteInfoXML writes the error-info of an error, if it has one. Elements of
// the protocol inherit their namespace, those of RFC 7950 section 15 have
// YANG's. namespace maps a module's name to its namespace.
func (e *Error) WriteInfoXML(b *bytes.Buffer, namespace func(module string) string) {
	if !e.hasInfo() {
		return
	}
	element := func(name, attrs, value string) {
		if value == "" {
			return
		}
		fmt.Fprintf(b, "<%s%s>", name, attrs)
		_ = xml.EscapeText(b, []byte(value)) // a bytes.Buffer takes every write
		fmt.Fprintf(b, "</%s>", name)
	}
	b.WriteString("<error-info>")
	element("bad-attribute", "", e.BadAttribute)
	element("bad-element", "", e.BadElement)
	element("bad-namespace", "", e.BadNamespace)
	element("session-id", "", e.SessionID)
	element("missing-choice", ` xmlns="`+NamespaceYANG+`"`, e.MissingChoice)
	for _, p := range e.NonUnique {
		WritePathXML(b, "non-unique", NamespaceYANG, p, namespace)
	}
	b.WriteString("</error-info>")
}

func (e *Error) hasInfo() bool {
	return e.BadAttribute != "" || e.BadElement != "" || e.BadNamespace != "" || e.SessionID != "" ||
		e.MissingChoice != "" || len(e.NonUnique) > 0
}

// XPath turns a path whose steps name a module only where it changes
// ("/m:a/b[k='v']", RFC 7951 section 6.11) into an XPath expression in which
// every name has a prefix, since in XPath 1.0 a name without one is in no
// namespace. It returns the prefixes, which are module names.
func XPath(path string) (expr string, modules []string) {
	var out strings.Builder
	module := ""
	use := func(m string) {
		if slices.Contains(modules, m) {
			return
		}
		modules = append(modules, m)
	}
	var quote byte
	for i := range len(path) {
		c := path[i]
		out.WriteByte(c)
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
			continue
		case c == '\'' || c == '"':
			quote = c
			continue
		case c != '/' && c != '[':
			continue
		}
		name := path[i+1:]
		if end := strings.IndexAny(name, "/[]='\""); end >= 0 {
			name = name[:end]
		}
		if name == "" || name == "." {
			continue
		}
		if m, _, ok := strings.Cut(name, ":"); ok {
			if c == '/' {
				module = m
			}
			use(m)
		} else if module != "" {
			out.WriteString(module + ":")
			use(module)
		}
	}
	return out.String(), modules
}
