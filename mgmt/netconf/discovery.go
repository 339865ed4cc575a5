package netconf

import (
	"bytes"
	"fmt"
	"strings"

	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/monitor"
)

// getSchema gives out a YANG module (RFC 6022 section 3.1).
func (n *session) getSchema(rpc *xmltree.Element, out *bytes.Buffer) error {
	p, err := params(rpc, "identifier", "version", "format")
	if err != nil {
		return err
	}
	if p["identifier"] == nil {
		return missing(rpc, "identifier")
	}
	text := func(name string) string {
		if p[name] == nil {
			return ""
		}
		return strings.TrimSpace(p[name].Text)
	}
	format := text("format")
	if prefix, local, ok := strings.Cut(format, ":"); ok {
		if ns, _ := p["format"].Lookup(prefix); ns != nsMonitoring {
			return &rpcerr.Error{
				Type: "application", Tag: "invalid-value", BadElement: "format",
				Message: fmt.Sprintf("<format>: %q is no schema format", format),
			}
		}
		format = local
	}
	schema, err := monitor.Schema(text("identifier"), text("version"), format)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `<data xmlns="%s">`, nsMonitoring)
	escape(out, schema)
	out.WriteString("</data>")
	return nil
}
