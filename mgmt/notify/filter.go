package notify

import (
	"vita/gen"
	"vita/mgmt/internal/nav"
	"vita/mgmt/internal/xpath"
	op "vita/mgmt/operational"
)

// Matches says whether an expression holds of an event, which stands at the top
// of a tree of its own (RFC 5277 section 3.6, RFC 8040 section 4.8.4).
func Matches(e *xpath.Expr, content *op.Node) (bool, error) {
	return e.Bool(nav.Root(&gen.Vita{}, nav.Options{More: []*op.Node{content}}))
}
