package wire

import (
	"testing"

	"vita/asm/cksum"
)

// TestDecapsulateECN has figure 4 of RFC 6040, row by row.
func TestDecapsulateECN(t *testing.T) {
	const drop = 9
	columns := [4]uint8{NotECT, ECT0, ECT1, CE}
	for inner, row := range map[uint8][4]uint8{
		NotECT: {NotECT, NotECT, NotECT, drop},
		ECT0:   {ECT0, ECT0, ECT1, CE},
		ECT1:   {ECT1, ECT1, ECT1, CE},
		CE:     {CE, CE, CE, CE},
	} {
		for i, want := range row {
			got, ok := DecapsulateECN(0xb8|inner, 0x28|columns[i])
			if !ok {
				got = drop
			}
			if got != want {
				t.Errorf("inner %d, outer %d: %d, want %d", inner, columns[i], got, want)
			}
		}
	}
}

func TestSetECN(t *testing.T) {
	for ecn := range uint8(4) {
		p, _ := ParseIPv4(packet(0x73))
		p.SetECN(ecn)
		if p.TOS() != ecn || !cksum.Valid(p[:20], 0) {
			t.Errorf("ECN %d: header %x", ecn, []byte(p[:20]))
		}
		q := IPv6(packet6(17))
		q[1] = 0x8f
		q.SetClass(0xb8 | ecn)
		if q.Class() != 0xb8|ecn || q[0] != 0x6b || q[1]&15 != 15 {
			t.Errorf("class of %x", []byte(q[:4]))
		}
	}
}
