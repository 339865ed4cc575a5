package golden

import (
	"slices"

	"vita/forwarding/tables"
)

func init() {
	cases = append(
		cases,
		&testCase{name: "vlan", spec: vlanSpec, sas: sas, input: inVLANs(outbound, inbound, arp, icmp)},
		&testCase{name: "vlan6", spec: vlanSpec6, sas: sas, input: inVLANs(outbound6, inbound6, nd, icmp6)},
		&testCase{name: "vlan-other", spec: vlanSpec, sas: sas, input: otherVLANs},
		&testCase{name: "vlan-none", spec: spec, sas: sas, input: otherVLANs},
	)
}

const privateVLAN, publicVLAN = 10, 4094

func vlanSpec() tables.Spec {
	s := spec()
	s.Private.VLAN, s.Public[0].VLAN = privateVLAN, publicVLAN
	return s
}

func vlanSpec6() tables.Spec {
	s := spec6()
	s.Private.VLAN, s.Public[0].VLAN = privateVLAN, publicVLAN
	return s
}

func tagged(f []byte, tci uint16) []byte {
	return slices.Concat(f[:12], []byte{0x81, 0, byte(tci >> 8), byte(tci)}, f[12:])
}

// inVLANs are the inputs of other cases, each side's in its VLAN, some with a
// priority.
func inVLANs(inputs ...func() (private, public [][]byte)) func() (private, public [][]byte) {
	return func() (private, public [][]byte) {
		for _, input := range inputs {
			p, q := input()
			for i, f := range p {
				private = append(private, tagged(f, privateVLAN|uint16(i%8)<<13))
			}
			for i, f := range q {
				public = append(public, tagged(f, publicVLAN|uint16(i%8)<<13))
			}
		}
		return private, public
	}
}

// otherVLANs are frames in no VLAN, the right one, another, the other side's,
// and with a priority alone; once and twice.
func otherVLANs() (private, public [][]byte) {
	out, _ := outbound()
	_, in := inbound()
	for i, tci := range []uint16{0, privateVLAN, publicVLAN, 11, 0xe000 | publicVLAN, 0xe000} {
		f, g := out[0], in[i]
		private = append(private, f, tagged(f, tci), tagged(tagged(f, tci), tci))
		public = append(public, in[6+i], tagged(g, tci), tagged(tagged(g, tci), tci))
	}
	return private, public
}
