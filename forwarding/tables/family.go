package tables

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// v6 reports the gateway's family: that of its private interface's first
// address, or of its first route's gateway where it has none.
func (s *Spec) v6() bool {
	switch {
	case s.Private != nil:
		return isV6(s.Private.IP)
	case len(s.Routes) > 0 && len(s.Routes[0].Gateways) > 0:
		return isV6(s.Routes[0].Gateways[0].IP)
	}
	return false
}

func isV6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }

// of reports whether an address belongs to the family.
func of(v6 bool, a netip.Addr) bool {
	if v6 {
		return isV6(a) && a.Zone() == ""
	}
	return a.Is4()
}

func familyName(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

// murmur3 is the 32-bit MurmurHash3 (Appleby) with seed 0 of an address, the
// rule by which an interface of IPv6 gets its own Ethernet address.
func murmur3(b [16]byte) uint32 {
	h := uint32(0)
	for i := 0; i < len(b); i += 4 {
		k := binary.LittleEndian.Uint32(b[i:]) * 0xcc9e2d51
		h ^= bits.RotateLeft32(k, 15) * 0x1b873593
		h = bits.RotateLeft32(h, 13)*5 + 0xe6546b64
	}
	h ^= uint32(len(b))
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}
