package notify

import (
	"vita/mgmt/datastore"
	"vita/mgmt/nacm"
	op "vita/mgmt/operational"
)

// Readable returns what somebody may hear of an event, nil for nothing (RFC 8341
// section 3.4.6). A change of the configuration is told with those of its targets
// that may be read; one that has no others is not told.
func Readable(a *nacm.Access, content *op.Node) *op.Node {
	if !a.Notification(content.Module, content.Name, false) {
		return nil
	}
	read := a.Root(nacm.Read)
	if read == nil || content.Module != baseModule || content.Name != "netconf-config-change" {
		return content
	}
	out := *content
	out.Children = nil
	targets, shown := 0, 0
	for _, c := range content.Children {
		if c.Name == "edit" {
			targets++
			if !datastore.Readable(read, c.Children[0].Value) {
				continue
			}
			shown++
		}
		out.Children = append(out.Children, c)
	}
	if shown == 0 && (targets > 0 || read.None()) {
		return nil
	}
	return &out
}
