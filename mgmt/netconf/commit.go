package netconf

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"vita/mgmt/datastore"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/internal/yangenc"
)

// commit makes the candidate the running configuration, for good or until it
// is confirmed (RFC 6241 sections 8.3.4.1, 8.4.5.1).
func (n *session) commit(ctx context.Context, op *xmltree.Element) error {
	p, err := params(op, "confirmed", "confirm-timeout", "persist", "persist-id")
	if err != nil {
		return err
	}
	o := datastore.CommitOptions{Confirmed: p["confirmed"] != nil}
	for _, name := range []string{"confirm-timeout", "persist"} {
		if p[name] != nil && !o.Confirmed {
			return invalid(name, "<%s> goes with <confirmed/>", name)
		}
	}
	if e := p["confirm-timeout"]; e != nil {
		s, err := strconv.ParseUint(strings.TrimSpace(e.Text), 10, 32)
		if err != nil || s == 0 {
			return invalid("confirm-timeout", "<confirm-timeout> is %q: want seconds, 1 to 4294967295", strings.TrimSpace(e.Text))
		}
		o.Timeout = time.Duration(s) * time.Second
	}
	if o.Persist, err = name(p["persist"]); err != nil {
		return err
	}
	if o.PersistID, err = name(p["persist-id"]); err != nil {
		return err
	}
	return n.server.o.Datastore.CommitWith(ctx, n.ds, o)
}

// cancelCommit takes a confirmed commit back (RFC 6241 section 8.4.4.1).
func (n *session) cancelCommit(op *xmltree.Element) error {
	p, err := params(op, "persist-id")
	if err != nil {
		return err
	}
	id, err := name(p["persist-id"])
	if err != nil {
		return err
	}
	return n.server.o.Datastore.CancelCommit(n.ds, id)
}

// name reads the name of a confirmed commit.
func name(e *xmltree.Element) (string, error) {
	switch {
	case e == nil:
		return "", nil
	case e.Text == "" || len(e.Text) > 255:
		return "", invalid(e.Name.Local, "<%s> has %d characters: want 1 to 255", e.Name.Local, len(e.Text))
	}
	return e.Text, nil
}

func invalid(element, format string, a ...any) error {
	return &rpcerr.Error{Type: "protocol", Tag: "invalid-value", BadElement: element, Message: fmt.Sprintf(format, a...)}
}

// defaults reads a <with-defaults> (RFC 6243 section 4).
func defaults(e *xmltree.Element) (yangenc.Defaults, error) {
	if e == nil {
		return yangenc.Explicit, nil
	}
	mode, ok := yangenc.ParseDefaults(strings.TrimSpace(e.Text))
	if !ok {
		return 0, invalid("with-defaults", "<with-defaults> is %q: want explicit, report-all, report-all-tagged or trim", strings.TrimSpace(e.Text))
	}
	return mode, nil
}
