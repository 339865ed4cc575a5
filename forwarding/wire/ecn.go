package wire

// The values of the ECN field (RFC 3168, section 5).
const (
	NotECT = 0
	ECT1   = 1
	ECT0   = 2
	CE     = 3
)

// DecapsulateECN returns the ECN field of a packet that comes out of a tunnel,
// from its own and the outer header's; false where the packet must be dropped
// (RFC 6040, section 4.2).
func DecapsulateECN(inner, outer uint8) (ecn uint8, ok bool) {
	inner, outer = inner&3, outer&3
	switch {
	case inner == NotECT:
		return NotECT, outer != CE
	case outer == CE:
		return CE, true
	case inner == ECT0 && outer == ECT1:
		return ECT1, true
	}
	return inner, true
}
