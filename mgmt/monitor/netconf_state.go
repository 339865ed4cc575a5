package monitor

import (
	"vita/mgmt/datastore"
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	op "vita/mgmt/operational"
)

const monitoringModule = "ietf-netconf-monitoring"

// netconfState provides /netconf-state (RFC 6022).
type netconfState struct{ m *Monitor }

// Roots names netconf-state.
func (netconfState) Roots() []op.Name {
	return []op.Name{{Module: monitoringModule, Name: "netconf-state"}}
}

// Root returns netconf-state.
func (n netconfState) Root(name op.Name) *op.Node {
	return op.Top(name,
		op.Group("capabilities", op.Items("capability", n.m.Capabilities()...)...),
		n.datastores(), schemas(), n.sessions(), n.statistics())
}

func (n netconfState) datastores() *op.Node {
	locks := n.m.store.Locks()
	var all []*op.Node
	names := []datastore.Name{datastore.Candidate, datastore.Running}
	if n.m.store.HasStartup() {
		names = append(names, datastore.Startup)
	}
	for _, name := range names {
		var lock *op.Node
		if l, ok := locks[name]; ok {
			lock = op.Group("locks", op.Group("global-lock",
				op.Number("locked-by-session", l.Session), op.Time("locked-time", l.Since)))
		}
		all = append(all, op.ListEntry("datastore", 1, op.Text("name", string(name)), lock))
	}
	return op.Group("datastores", all...)
}

func schemas() *op.Node {
	var all []*op.Node
	for _, m := range schema.Modules() {
		all = append(all, op.ListEntry("schema", 3,
			op.Text("identifier", m.Name), op.Text("version", m.Revision), op.IdentityOf("format", monitoringModule, "yang"),
			op.Text("namespace", m.Namespace), op.Items("location", "NETCONF")[0]))
	}
	return op.Group("schemas", all...)
}

func (n netconfState) sessions() *op.Node {
	var all []*op.Node
	for _, s := range n.m.active() {
		all = append(all, op.ListEntry("session", 1, append([]*op.Node{
			op.Number("session-id", s.who.ID), op.IdentityOf("transport", monitoringModule, s.who.Transport),
			op.Text("username", s.who.User), op.Text("source-host", host(s.who.Peer)), op.Time("login-time", s.since),
		}, s.leafs()...)...))
	}
	if all == nil {
		return nil
	}
	return op.Group("sessions", all...)
}

func (c *counters) leafs() []*op.Node {
	return []*op.Node{
		op.Number("in-rpcs", c.inRPCs.Load()), op.Number("in-bad-rpcs", c.inBadRPCs.Load()),
		op.Number("out-rpc-errors", c.outErrors.Load()), op.Number("out-notifications", c.outNotifications.Load()),
	}
}

func (n netconfState) statistics() *op.Node {
	return op.Group("statistics", append([]*op.Node{
		op.Time("netconf-start-time", n.m.started), op.Number("in-bad-hellos", n.m.badHellos.Load()),
		op.Number("in-sessions", n.m.sessionsIn.Load()), op.Number("dropped-sessions", n.m.dropped.Load()),
	}, n.m.total.leafs()...)...)
}

// Schema returns the text of a module (RFC 6022 section 3.1). version and
// format may be "", for any and for YANG.
func Schema(identifier, version, format string) (string, error) {
	bad := func(tag, appTag, message string) error {
		return &rpcerr.Error{Type: rpcerr.Application, Tag: tag, AppTag: appTag, Message: message}
	}
	if format != "" && format != "yang" {
		return "", bad("invalid-value", "", "schemas are to be had in YANG alone")
	}
	found := ""
	for _, m := range schema.Modules() {
		if m.Name == identifier && (version == "" || version == m.Revision) {
			if found != "" {
				return "", bad("operation-failed", "data-not-unique", "there is more than one version of "+identifier)
			}
			found = m.Text
		}
	}
	if found == "" {
		return "", bad("invalid-value", "", "there is no schema "+identifier+" "+version)
	}
	return found, nil
}
