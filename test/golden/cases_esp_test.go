package golden

import (
	"slices"

	"vita/forwarding/client"
	"vita/forwarding/tables"
)

// The cases of what an ESP gateway can be told to do.
func init() {
	cases = append(
		cases,
		&testCase{name: "aes256", spec: spec, sas: sas256, input: outbound},
		&testCase{name: "window64", spec: with(spec, func(s *tables.Spec) { s.ReplayWindow = 64 }), sas: sas, input: windows},
		&testCase{name: "window100", spec: with(spec, func(s *tables.Spec) { s.ReplayWindow = 100 }), sas: sas, input: windows},
		&testCase{name: "window4096", spec: with(spec, func(s *tables.Spec) { s.ReplayWindow = 4096 }), sas: sas, input: windows},
		&testCase{name: "ecn", spec: with(spec, func(s *tables.Spec) { s.ECN = true }), sas: sas, input: ecn},
		&testCase{name: "ecn-off", spec: spec, sas: sas, input: ecn},
		&testCase{name: "dscp-copy", spec: with(spec, func(s *tables.Spec) { s.CopyDSCP = true }), sas: sas, input: classes},
		&testCase{name: "dscp-set", spec: with(spec, func(s *tables.Spec) { s.DSCP, s.ECN = 46, true }), sas: sas, input: classes},
		&testCase{name: "df-clear", spec: with(spec, func(s *tables.Spec) { s.DF = tables.DFClear }), sas: sas, input: classes},
		&testCase{name: "df-copy", spec: with(spec, func(s *tables.Spec) { s.DF = tables.DFCopy }), sas: sas, input: classes},
		&testCase{name: "ecn6", spec: with(spec6, func(s *tables.Spec) { s.ECN = true }), sas: sas, input: ecn6},
		&testCase{name: "dscp-copy6", spec: with(spec6, func(s *tables.Spec) { s.CopyDSCP = true }), sas: sas, input: ecn6},
	)
}

func with(spec func() tables.Spec, change func(*tables.Spec)) func() tables.Spec {
	return func() tables.Spec {
		s := spec()
		change(&s)
		return s
	}
}

var sas256 = []client.SA{{Route: "site2", Queue: 1, Direction: client.Outbound, SPI: 0x1000, Key: slices.Concat(key, key), Salt: salt}}

// windows has numbers at the edges of windows of 64, 100 and 4096.
func windows() (private, public [][]byte) {
	for _, seq := range []uint64{
		1, 10_000, 10_000, 9_937, 9_936, 9_937, 9_901, 9_900, 9_901, 5_905, 5_904, 5_905, 9_936, // 64, 100 and 4096 behind, and one less
		1<<32 + 63, 1<<32 - 0, 1<<32 - 1, 1<<32 - 37, 1<<32 - 36, 1<<32 - 4032, 1<<32 - 4033, 1<<32 + 64,
	} {
		public = append(public, tunnel(inSPI, seq, fromSite2(int(seq%7)).packet()))
	}
	return nil, public
}

// marked gives a frame, and the packet in it, a TOS.
func marked(f []byte, tos byte) []byte {
	f = slices.Clone(f)
	f[15] = tos
	return fixed(f)
}

// ecn has all pairs of inner and outer ECN fields.
func ecn() (private, public [][]byte) {
	for inner := range byte(4) {
		private = append(private, marked(toPrivate(ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 200, payload: text(30)}), 0xb8|inner))
		for outer := range byte(4) {
			p := marked(toPrivate(fromSite2(30)), 0x28|inner)[14:]
			public = append(public, marked(tunnel(inSPI, uint64(len(public)+1), p), 0x48|outer))
		}
	}
	return private, public
}

// classes has packets of several DSCPs, with DF and without.
func classes() (private, public [][]byte) {
	for i, tos := range []byte{0, 0x28, 0xb8, 0xfc, 0xff, 0x02} {
		private = append(private, marked(toPrivate(ip{src: "10.1.0.7", dst: "10.2.0.9", proto: 200, df: i%2 == 0, payload: text(30)}), tos))
	}
	return private, public
}

// class6 gives a frame a traffic class.
func class6(f []byte, class byte) []byte {
	f = slices.Clone(f)
	f[14], f[15] = 0x60|class>>4, class<<4|f[15]&15
	return f
}

func ecn6() (private, public [][]byte) {
	for inner := range byte(4) {
		private = append(private, class6(toPrivate6(ip6{src: here6, dst: there6, next: protoTest, payload: text(30)}), 0xb8|inner))
		for outer := range byte(4) {
			p := class6(toPrivate6(fromSite26(30)), 0x28|inner)[14:]
			public = append(public, class6(tunnel6(inSPI, uint64(len(public)+1), p), 0x48|outer))
		}
	}
	return private, public
}
