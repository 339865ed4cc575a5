package aesgcm

import (
	"crypto/aes"
	"encoding/binary"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/cpu"
)

//go:generate go run -C ../_gen -trimpath ./aesgcm -out ../aesgcm/kernels_amd64.s -stubs ../aesgcm/kernels_amd64.go -pkg aesgcm

// What the kernels assume of the layouts. A difference of 0 is the only one
// that is a constant index into an array of one.
var (
	_ = [1]int{}[unsafe.Offsetof(context{}.powers)]
	_ = [1]int{}[unsafe.Offsetof(context{}.rounds)-40*16]
	_ = [1]int{}[unsafe.Offsetof(context{}.round)-40*16-16]
	_ = [1]int{}[unsafe.Offsetof(context{}.folded)-40*16-256]
	_ = [1]int{}[unsafe.Offsetof(Op{}.Key)]
	_ = [1]int{}[unsafe.Offsetof(Op{}.Nonce)-8]
	_ = [1]int{}[unsafe.Offsetof(Op{}.AAD)-24]
	_ = [1]int{}[unsafe.Offsetof(Op{}.Buf)-48]
	_ = [1]int{}[unsafe.Offsetof(Op{}.OK)-72]
)

const (
	// smallBuf is the longest Buf that the kernels for small packets take.
	smallBuf = 96 + TagSize
	// callBytes bounds what one call of a kernel takes, since the runtime
	// cannot preempt it: at the slowest tier's 0.2 ns a byte, 7 µs.
	callBytes = 32 << 10
	// callOps bounds how many packets it takes.
	callOps = 32
)

// wide says that the tier avx2 works on 256-bit registers.
var wide = hasWide()

// hasWide asks the processor itself: golang.org/x/sys/cpu tells of VAES only
// where there is AVX-512.
func hasWide() bool {
	const vaes, vpclmulqdq = 1 << 9, 1 << 10
	return missing(avx2Tier) == "" && leaf7()&(vaes|vpclmulqdq) == vaes|vpclmulqdq
}

// missing names what the processor lacks for a tier.
func missing(t tier) string {
	type feature struct {
		has  bool
		name string
	}
	var need []feature
	if t == avx2Tier || t == avx512Tier {
		need = append(need, feature{cpu.X86.HasAES, "AES-NI"}, feature{cpu.X86.HasPCLMULQDQ, "PCLMULQDQ"},
			feature{cpu.X86.HasAVX2, "AVX2"})
	}
	if t == avx512Tier {
		need = append(need, feature{cpu.X86.HasBMI2, "BMI2"}, feature{cpu.X86.HasAVX512F, "AVX512F"},
			feature{cpu.X86.HasAVX512BW, "AVX512BW"}, feature{cpu.X86.HasAVX512DQ, "AVX512DQ"},
			feature{cpu.X86.HasAVX512VL, "AVX512VL"}, feature{cpu.X86.HasAVX512VAES, "VAES"},
			feature{cpu.X86.HasAVX512VPCLMULQDQ, "VPCLMULQDQ"})
	}
	for _, f := range need {
		if !f.has {
			return f.name
		}
	}
	return ""
}

// expandAsm makes the key schedule (FIPS 197, section 5.2) and the powers of H.
// No table is indexed by anything secret.
func (c *context) expandAsm(key []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	nk := len(key) / 4
	c.rounds = uint32(nk) + 6
	var w [60]uint32
	defer clear(w[:])
	for i := range nk {
		w[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	rcon := uint32(1)
	for i := nk; i < 4*(int(c.rounds)+1); i++ {
		t := w[i-1]
		switch {
		case i%nk == 0:
			t = subWordAVX(bits.RotateLeft32(t, -8)) ^ rcon
			rcon = rcon<<1 ^ rcon>>7*0x11b // x times the last, in GF(2^8)
		case nk == 8 && i%nk == 4:
			t = subWordAVX(t)
		}
		w[i] = w[i-nk] ^ t
	}
	for i := range 4 * (int(c.rounds) + 1) {
		binary.LittleEndian.PutUint32(c.round[i/4][i%4*4:], w[i])
	}
	// H times x, in reversed bit order.
	h := c.powers[31][:]
	block.Encrypt(h, h)
	hi, lo := binary.BigEndian.Uint64(h), binary.BigEndian.Uint64(h[8:])
	carry := -(hi >> 63)
	hi, lo = hi<<1|lo>>63, lo<<1
	binary.LittleEndian.PutUint64(h, lo^carry&1)
	binary.LittleEndian.PutUint64(h[8:], hi^carry&(0xc2<<56))
	powersAVX((*byte)(unsafe.Pointer(c)))
	c.tier = inUse
	return nil
}

func prefetchAsm(keys []*Key) {
	prefetchKeys((**byte)(unsafe.Pointer(unsafe.SliceData(keys))), len(keys))
}

// group collects ops for one call of a kernel.
type group struct {
	ops   [callOps]*Op
	n     int
	bytes int
}

// room reports whether an op of n bytes may join.
func (g *group) room(n int) bool { return g.n == 0 || g.n < callOps && g.bytes+n <= callBytes }

func (g *group) add(o *Op) {
	g.ops[g.n] = o
	g.n++
	g.bytes += len(o.Buf)
}

func (g *group) first() **byte { return (**byte)(unsafe.Pointer(&g.ops)) }

func sealAsm(ops []Op) { runAsm(ops, false) }

func openAsm(ops []Op) { runAsm(ops, true) }

// runAsm sorts a batch into packets for the one kernel and the other. All
// packets of a call have keys of one size; batches with both are rare. What is
// asked of a key is asked once where neighbours have the same.
func runAsm(ops []Op, open bool) {
	var small, large group
	var last *Key
	rounds := uint32(0)
	longest := smallBuf
	if inUse == avx2Tier {
		longest = 0
	}
	for i := range ops {
		o := &ops[i]
		if o.Key != last || last == nil {
			if o.Key == nil || o.Key.c.tier != inUse {
				o.OK = false
				continue
			}
			last = o.Key
			if r := last.c.rounds; r != rounds {
				flush(&small, &large, rounds, open, true)
				rounds = r
			}
		}
		n := len(o.Buf)
		if n < TagSize || len(o.AAD) > MaxAAD {
			o.OK = false
			continue
		}
		if n <= longest {
			// So small are they that callBytes does not matter.
			if small.n == callOps {
				flush(&small, &large, rounds, open, false)
			}
			small.ops[small.n%callOps] = o
			small.n++
			continue
		}
		if !large.room(n) {
			flush(&small, &large, rounds, open, false)
		}
		large.add(o)
	}
	flush(&small, &large, rounds, open, true)
}

// flush empties both groups but, where it is not the last call for them, for what
// small has beyond a multiple of four; of that the last call makes large ones.
func flush(small, large *group, rounds uint32, open, last bool) {
	if n := small.n &^ 3; n > 0 {
		switch {
		case open && rounds == 10:
			small512Open128(small.first(), n)
		case open:
			small512Open256(small.first(), n)
		case rounds == 10:
			small512Seal128(small.first(), n)
		default:
			small512Seal256(small.first(), n)
		}
		small.n = copy(small.ops[:], small.ops[n:small.n])
	}
	if last && small.n > 0 {
		if large.n+small.n > callOps {
			large.runLarge(rounds, open)
		}
		for _, o := range small.ops[:small.n] {
			large.add(o)
		}
		small.n = 0
	}
	large.runLarge(rounds, open)
}

func (g *group) runLarge(rounds uint32, open bool) {
	if g.n == 0 {
		return
	}
	switch {
	case inUse == avx2Tier && wide && open:
		vaesOpen(g.first(), g.n)
	case inUse == avx2Tier && wide:
		vaesSeal(g.first(), g.n)
	case inUse == avx2Tier && open:
		aesniOpen(g.first(), g.n)
	case inUse == avx2Tier:
		aesniSeal(g.first(), g.n)
	case open && rounds == 10:
		large512Open128(g.first(), g.n)
	case open:
		large512Open256(g.first(), g.n)
	case rounds == 10:
		large512Seal128(g.first(), g.n)
	default:
		large512Seal256(g.first(), g.n)
	}
	g.n, g.bytes = 0, 0
}
