package i82599

import "encoding/binary"

// Which frames are received, and by which queue (sections 7.1.1 and 7.1.2):
//
//	frame ── length ── addresses ── VLAN ── pools ── hash ── queue
//
// A frame may go to several pools, each of which gets a copy.

const (
	typeVLAN  = 0x8100
	headerLen = 14
	allPools  = ^uint64(0)
)

// accepted looks at the length that a frame may have, FCS included.
func (d *Device) accepted(f []byte) bool {
	n := len(f) + fcsLen
	most := 1518
	if d.reg[regHLREG0/4]&hlregJumbo != 0 {
		most = int(d.reg[regMAXFRS/4] >> 16)
	}
	if tagged(f) {
		most += 4 // a tag does not count (section 8.2.3.22.12)
	}
	switch {
	case n < 64:
		d.count(statRUC)
	case n > most:
		d.count(statROC)
	default:
		return true
	}
	return false
}

func tagged(f []byte) bool { return len(f) >= 18 && binary.BigEndian.Uint16(f[12:]) == typeVLAN }

// destinations returns the pools that a frame goes to. Without pools (VT_CTL) it
// is one bit, or none where the frame is filtered out.
func (d *Device) destinations(f []byte) uint64 {
	vt := d.reg[regVTCTL/4]
	pools := d.byAddress(f, vt&vtEnable != 0)
	vlan, hasTag := 0, tagged(f)
	if hasTag {
		vlan = int(binary.BigEndian.Uint16(f[14:]) & 0xfff)
	}
	if hasTag && d.reg[regVLNCTRL/4]&vlnctrlVFE != 0 && d.reg[regVFTA/4+uint32(vlan)/32]>>(vlan%32)&1 == 0 {
		return 0
	}
	if vt&vtEnable == 0 {
		return pools & 1
	}
	if pools == 0 && vt&vtNoDefault == 0 && f[0]&1 == 0 {
		pools = 1 << (vt >> 7 & 0x3f)
	}
	pools &= d.byVLAN(vlan, hasTag)
	pools &= uint64(d.reg[regPFVFRE/4]) | uint64(d.reg[regPFVFRE/4+1])<<32
	if vt&vtReplicate == 0 {
		pools &= -pools // the lowest one alone
	}
	return pools
}

// byAddress compares the destination with RAL and RAH, the multicast table and
// what FCTRL and, with pools, PFVML2FLT let in besides.
func (d *Device) byAddress(f []byte, vt bool) uint64 {
	fctrl := d.reg[regFCTRL/4]
	flagged := func(bit uint32) (pools uint64) {
		for p := range 64 {
			if d.reg[regPFVML2FLT/4+p]&bit != 0 {
				pools |= 1 << p
			}
		}
		return pools
	}
	switch {
	case broadcast(f):
		if vt {
			return flagged(l2fltBAM)
		}
		if fctrl&fctrlBAM == 0 {
			return 0
		}
		return allPools
	case f[0]&1 != 0:
		hit := d.reg[regMCSTCTRL/4]&mcstctrlMFE != 0 && d.multicastHit(f)
		exact := d.exact(f)
		if vt {
			pools := flagged(l2fltMPE) | exact
			if hit {
				pools |= flagged(l2fltROMPE)
			}
			return pools
		}
		if hit || exact != 0 || fctrl&fctrlMPE != 0 {
			return allPools
		}
		return 0
	}
	pools := d.exact(f)
	if !vt && (pools != 0 || fctrl&fctrlUPE != 0) {
		return allPools
	}
	return pools
}

// exact returns the pools of the 128 address filters that match.
func (d *Device) exact(f []byte) (pools uint64) {
	low, high := binary.LittleEndian.Uint32(f), uint32(binary.LittleEndian.Uint16(f[4:]))|rahValid
	for i := range uint32(128) {
		if d.reg[regRAL/4+2*i+1]&(rahValid|0xffff) == high && d.reg[regRAL/4+2*i] == low {
			pools |= uint64(d.reg[regMPSAR/4+2*i]) | uint64(d.reg[regMPSAR/4+2*i+1])<<32
			if d.reg[regVTCTL/4]&vtEnable == 0 {
				pools |= 1
			}
		}
	}
	return pools
}

// multicastHit looks 12 bits of the address up, which ones MCSTCTRL.MO says, in
// a table of 4096 (section 7.1.1.2).
func (d *Device) multicastHit(f []byte) bool {
	bits := uint32(f[5])<<8 | uint32(f[4]) // 47:32 of the address
	bits = bits >> (4 - d.reg[regMCSTCTRL/4]&3) & 0xfff
	return d.reg[regMTA/4+bits/32]>>(bits%32)&1 != 0
}

// byVLAN returns the pools that have the VLAN of a frame (PFVLVF and PFVLVFB),
// or take such without a tag.
func (d *Device) byVLAN(vlan int, hasTag bool) (pools uint64) {
	if !hasTag {
		for p := range 64 {
			if d.reg[regPFVML2FLT/4+p]&l2fltAUPE != 0 {
				pools |= 1 << p
			}
		}
		return pools
	}
	for i := range uint32(64) {
		if v := d.reg[regPFVLVF/4+i]; v&vlvfValid != 0 && int(v&0xfff) == vlan {
			return uint64(d.reg[regPFVLVFB/4+2*i]) | uint64(d.reg[regPFVLVFB/4+2*i+1])<<32
		}
	}
	return 0
}

// queue returns which queue of a pool a frame goes to (section 7.1.2.2).
func (d *Device) queue(pool int, k *packet) int {
	mrqc := d.reg[regMRQC/4]
	for i := range 8 { // EtherType filters (section 7.1.2.3)
		f, to := d.reg[regETQF/4+i], d.reg[regETQS/4+i]
		if f&etqfEnable != 0 && to&etqsEnable != 0 && uint16(f) == k.etherType {
			return int(to >> 16 & 0x7f)
		}
	}
	index := 0 // what has no hash is the first queue's
	if k.rssType != 0 {
		i := k.hash & 127
		index = int(d.reg[regRETA/4+i/4] >> (8 * (i % 4)) & 0xf)
	}
	switch mrqc & 0xf {
	case 0x0: // no RSS, no pools
		return 0
	case 0x1: // RSS
		return index
	case 0x8: // 64 pools
		return pool * 2
	case 0xA: // 32 pools of 4 queues
		return pool%32*4 + index&3
	case 0xB: // 64 pools of 2 queues
		return pool*2 + index&1
	}
	d.fault("MRQC.MRQE is %#x, which the model does not have", mrqc&0xf)
	return 0
}

// packet is what the parser and the hash make of a frame.
type packet struct {
	etherType uint16 // behind a tag
	kind      uint32 // packet type of the write-back descriptor, bits 16:4
	rssType   uint32
	hash      uint32
	checked   uint32 // status bits: IPCS, L4CS
	bad       uint32 // error bits: IPE, L4E
}

// parse looks at the headers (section 7.1.6.2 has the packet types, section
// 7.1.2.8 the hash).
func (d *Device) parse(f []byte) (k packet) {
	kind, p := binary.BigEndian.Uint16(f[12:]), f[headerLen:]
	if kind == typeVLAN && len(p) >= 4 {
		kind, p = binary.BigEndian.Uint16(p[2:]), p[4:]
	}
	k.etherType = kind
	const ipv4, ipv6, tcp, udp = 1 << 4, 1 << 6, 1 << 8, 1 << 9
	var rest []byte
	var proto byte
	var in []byte
	var key [36]byte
	switch {
	case kind == 0x0800 && len(p) >= 20 && p[0]>>4 == 4:
		head, total := int(p[0]&15)*4, int(binary.BigEndian.Uint16(p[2:]))
		if head < 20 || head > total || total > len(p) {
			return k
		}
		k.kind |= ipv4
		k.checked |= statusIPCS
		if sum(p[:head], 0) != 0xffff {
			k.bad |= errorIPE
		}
		in = append(key[:0], p[12:20]...)
		if binary.BigEndian.Uint16(p[6:])&0x3fff == 0 {
			proto, rest = p[9], p[head:total]
		}
	case kind == 0x86dd && len(p) >= 40 && p[0]>>4 == 6:
		total := 40 + int(binary.BigEndian.Uint16(p[4:]))
		if total > len(p) {
			return k
		}
		k.kind |= ipv6
		in = append(key[:0], p[8:40]...)
		proto, rest = p[6], p[40:total]
	default:
		return k
	}
	v4 := k.kind&ipv4 != 0
	pseudo := pseudoSum(in, proto, len(rest))
	switch {
	case proto == 6 && len(rest) >= 20:
		k.kind |= tcp
		k.checked |= statusL4CS
		if sum(rest, pseudo) != 0xffff {
			k.bad |= errorL4E
		}
	case proto == 17 && len(rest) >= 8:
		k.kind |= udp
		if binary.BigEndian.Uint16(rest[6:]) != 0 {
			k.checked |= statusL4CS | statusUDPCS
			if sum(rest, pseudo) != 0xffff {
				k.bad |= errorL4E
			}
		}
	}
	d.hash(&k, in, rest, v4, k.kind&tcp != 0, k.kind&udp != 0)
	return k
}

// hash computes what MRQC enables: the most that is enabled for a kind of packet.
func (d *Device) hash(k *packet, in, l4 []byte, v4, tcp, udp bool) {
	const tcp4, ip4, ip6, tcp6, udp4, udp6 = 1 << 16, 1 << 17, 1 << 20, 1 << 21, 1 << 22, 1 << 23
	mrqc := d.reg[regMRQC/4]
	switch mode := mrqc & 0xf; {
	case mode != 1 && mode != 0xA && mode != 0xB:
		return
	case v4 && tcp && mrqc&tcp4 != 0:
		k.rssType, in = 1, append(in, l4[:4]...)
	case v4 && udp && mrqc&udp4 != 0:
		k.rssType, in = 7, append(in, l4[:4]...)
	case v4 && mrqc&ip4 != 0:
		k.rssType = 2
	case !v4 && tcp && mrqc&tcp6 != 0:
		k.rssType, in = 3, append(in, l4[:4]...)
	case !v4 && udp && mrqc&udp6 != 0:
		k.rssType, in = 8, append(in, l4[:4]...)
	case !v4 && mrqc&ip6 != 0:
		k.rssType = 5
	default:
		return
	}
	// A window of 32 bits of the key moves along with the bits of the input; bit
	// 0 of the key is the highest of its first byte (RSSRK holds bytes in order).
	keyBit := func(i int) uint32 {
		return d.reg[regRSSRK/4+i/32] >> (8*(i/8%4) + 7 - i%8) & 1
	}
	window := uint32(0)
	for i := range 32 {
		window = window<<1 | keyBit(i)
	}
	for i := range 8 * len(in) {
		if in[i/8]>>(7-i%8)&1 != 0 {
			k.hash ^= window
		}
		window = window<<1 | keyBit(i+32)
	}
}

// sum is the Internet checksum without its final complement.
func sum(b []byte, start uint32) uint16 {
	s := start
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func pseudoSum(addresses []byte, proto byte, n int) uint32 {
	return uint32(sum(addresses, uint32(proto)+uint32(n)))
}
