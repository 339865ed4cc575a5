package netconf

import (
	"vita/mgmt/internal/rpcerr"
	"vita/mgmt/internal/schema"
	"vita/mgmt/internal/xmltree"
	"vita/mgmt/nacm"
)

// access returns what the session may do, by the rules that are in force now.
func (n *session) access() *nacm.Access { return n.server.o.Datastore.Access(n.ds) }

// notificationsModule is the module of RFC 5277's operation, for which the RFC has
// no module in YANG; other servers call it so.
const notificationsModule = "notifications"

// permitted says whether the session may invoke an operation (RFC 8341 section
// 3.4.4). What there is no operation of is found out later.
func (n *session) permitted(op *xmltree.Element) error {
	module, denyAll := schema.ModuleOf(op.Name.Space), false
	if op.Name == createSubscription {
		module = notificationsModule
	}
	if o := n.server.o.Operations.Find(op.Name.Space, op.Name.Local); o != nil {
		denyAll = o.DenyAll
	}
	if n.access().Operation(module, op.Name.Local, denyAll) {
		return nil
	}
	n.server.o.Datastore.Control().DeniedOperation()
	return &rpcerr.Error{
		Type: rpcerr.Protocol, Tag: "access-denied", Path: "/ietf-netconf:rpc/" + module + ":" + op.Name.Local,
		Message: "the operation " + op.Name.Local + " is denied by the rules for this user",
	}
}
