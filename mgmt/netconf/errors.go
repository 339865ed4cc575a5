package netconf

import (
	"bytes"
	"errors"
	"fmt"

	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
)

// writeErrors writes an rpc-error for each error (RFC 6241 section 4.3).
func writeErrors(b *bytes.Buffer, err error) {
	var many rpcerr.Errors
	if errors.As(err, &many) && len(many) > 0 {
		for _, e := range many.Bounded() {
			writeError(b, e)
		}
		return
	}
	var one *rpcerr.Error
	if !errors.As(err, &one) {
		one = &rpcerr.Error{Type: "application", Tag: "operation-failed", Message: err.Error()}
	}
	writeError(b, rpcerr.Errors{one}.Bounded()[0])
}

func writeError(b *bytes.Buffer, e *rpcerr.Error) {
	element := func(name, value string) {
		if value == "" {
			return
		}
		fmt.Fprintf(b, "<%s>", name)
		escape(b, value)
		fmt.Fprintf(b, "</%s>", name)
	}
	or := func(s, def string) string {
		if s == "" {
			return def
		}
		return s
	}
	b.WriteString("<rpc-error>")
	element("error-type", or(e.Type, "application"))
	element("error-tag", e.Tag)
	element("error-severity", or(e.Severity, "error"))
	element("error-app-tag", e.AppTag)
	if e.Path != "" {
		rpcerr.WritePathXML(b, "error-path", "", e.Path, schema.Namespace)
	}
	if e.Message != "" {
		b.WriteString(`<error-message xml:lang="en">`)
		escape(b, e.Message)
		b.WriteString("</error-message>")
	}
	e.WriteInfoXML(b, schema.Namespace)
	b.WriteString("</rpc-error>")
}
