package nacm

import (
	"cmp"
	"slices"
	"strings"

	"vita/gen"
)

// FromTree returns the configuration of access control that a tree has, with the
// defaults of the model where it says nothing.
func FromTree(root *gen.Vita) Config {
	c := Default()
	n := root.Nacm
	if n == nil {
		return c
	}
	set(&c.Enabled, n.EnableNacm)
	set(&c.External, n.EnableExternalGroups)
	c.ReadDefault = n.ReadDefault != gen.IETFNetconfAcm_Nacm_ReadDefault_deny
	c.WriteDefault = n.WriteDefault == gen.IETFNetconfAcm_Nacm_WriteDefault_permit
	c.ExecDefault = n.ExecDefault != gen.IETFNetconfAcm_Nacm_ExecDefault_deny
	if n.Groups != nil {
		for _, g := range n.Groups.Group {
			c.Groups = append(c.Groups, Group{*g.Name, g.UserName})
		}
	}
	for _, l := range sorted(n.RuleList, func(l *gen.IETFNetconfAcm_Nacm_RuleList) *uint64 { return l.VitaRank }) {
		out := List{Name: *l.Name, Groups: l.Group}
		for _, r := range sorted(l.Rule, func(r *gen.IETFNetconfAcm_Nacm_RuleList_Rule) *uint64 { return r.VitaRank }) {
			out.Rules = append(out.Rules, ruleOf(r))
		}
		c.Lists = append(c.Lists, out)
	}
	return c
}

func set(to, from *bool) {
	if from != nil {
		*to = *from
	}
}

// sorted returns entries in the order that the user has given them.
func sorted[E any](entries map[string]*E, rank func(*E) *uint64) []*E {
	out := make([]*E, 0, len(entries))
	for _, e := range entries {
		out = append(out, e)
	}
	number := func(e *E) uint64 {
		if r := rank(e); r != nil {
			return *r
		}
		return 0
	}
	slices.SortFunc(out, func(a, b *E) int { return cmp.Compare(number(a), number(b)) })
	return out
}

func ruleOf(r *gen.IETFNetconfAcm_Nacm_RuleList_Rule) Rule {
	out := Rule{Name: *r.Name, Module: "*", Ops: AllOps, Permit: r.Action == gen.IETFNetconfAcm_Nacm_RuleList_Rule_Action_permit}
	if r.ModuleName != nil {
		out.Module = *r.ModuleName
	}
	if r.AccessOperations != nil {
		out.Ops = 0
		for name := range strings.FieldsSeq(*r.AccessOperations) {
			out.Ops |= Names[name]
		}
	}
	switch {
	case r.RpcName != nil:
		out.Kind, out.Of = Operation, *r.RpcName
	case r.NotificationName != nil:
		out.Kind, out.Of = Notification, *r.NotificationName
	case r.Path != nil:
		out.Kind, out.Of = DataNode, *r.Path
	}
	return out
}

// State returns the configuration of access control with the counters beside it.
func (c *Control) State(n *gen.IETFNetconfAcm_Nacm) *gen.IETFNetconfAcm_Nacm {
	out := gen.IETFNetconfAcm_Nacm{}
	if n != nil {
		out = *n
	}
	operations, writes, notifications := c.Denied()
	out.DeniedOperations, out.DeniedDataWrites, out.DeniedNotifications = &operations, &writes, &notifications
	return &out
}
