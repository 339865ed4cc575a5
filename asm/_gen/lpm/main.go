// Command lpm writes the amd64 kernels of asm/lpm.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	first512()
	prefetchLines()
	Generate()
}

// lanes is how many addresses a vector holds.
const lanes = 16

// first512 takes 16 addresses at a time. A gather asks for 16 entries with few
// instructions, so that the processor has more of them under way at once than a
// loop that loads one by one. What short has to answer is asked in a second
// pass, if there is any in the batch at all: that is as good as always so, or
// never, where a branch for each vector would be guessed.
func first512() {
	TEXT("first512", NOSPLIT, "func(dst, addrs *uint32, n int, direct, short *uint32, shift uint64) (open, ends uint64)")
	Pragma("noescape")
	Doc("first512 looks n addresses up in direct and short, at most 64; see first.")
	dst, addrs := Load(Param("dst"), GP64()), Load(Param("addrs"), GP64())
	n := Load(Param("n"), GP64()).(GPVirtual)
	direct, short := Load(Param("direct"), GP64()).(GPVirtual), Load(Param("short"), GP64()).(GPVirtual)
	shift, more := XMM(), XMM()
	s := Load(Param("shift"), GP64()).(GPVirtual)
	VMOVQ(s, shift)
	ADDQ(Imm(8), s)
	VMOVQ(s, more)
	minus := ZMM()
	VPTERNLOGD(Imm(0xff), minus, minus, minus)

	all := GP64() // a bit for each address
	MOVQ(I64(-1), all)
	BZHIQ(n, all, all)
	at, left, bits := GP64(), GP64(), GP64()
	open, ends, none := GP64(), GP64(), GP64()
	XORQ(at, at)
	XORQ(open, open)
	XORQ(ends, ends)
	XORQ(none, none)
	MOVQ(all, left)

	// collect adds a vector's mask to a word of all.
	collect := func(k OpmaskVirtual, word GPVirtual) {
		KMOVW(k, bits.As32())
		SHLXQ(at, bits, bits)
		ORQ(bits, word)
	}
	Label("vector")
	mask, gather, found := K(), K(), K()
	a, e, d := ZMM(), ZMM(), ZMM()
	KMOVW(left.As32(), mask)
	VMOVDQU32_Z(Mem{Base: addrs.(GPVirtual), Index: at, Scale: 4}, mask, a)
	VPSRLD(shift, a, a)
	KMOVW(mask, gather)
	VPXORD(e, e, e)
	VPGATHERDD(Mem{Base: direct, Index: a, Scale: 4}, gather, e)
	VPTESTNMD(e, e, mask, found)
	collect(found, none)
	VPADDD(minus, e, d)
	VMOVDQU32(d, mask, Mem{Base: dst.(GPVirtual), Index: at, Scale: 4})
	VPMOVD2M(d, found)
	KANDW(mask, found, found)
	collect(found, open)
	VPSLLD(Imm(1), d, d)
	VPMOVD2M(d, found)
	KANDW(mask, found, found)
	collect(found, ends)
	ADDQ(Imm(lanes), at)
	SHRQ(Imm(lanes), left)
	JNZ(LabelRef("vector"))

	TESTQ(none, none)
	JZ(LabelRef("done"))
	ANDNQ(open, none, open)
	XORQ(at, at)
	Label("shorter")
	KMOVW(none.As32(), mask)
	VMOVDQU32_Z(Mem{Base: addrs.(GPVirtual), Index: at, Scale: 4}, mask, a)
	VPSRLD(more, a, a)
	KMOVW(mask, gather)
	VPXORD(e, e, e)
	VPGATHERDD(Mem{Base: short, Index: a, Scale: 4}, gather, e)
	VPADDD(minus, e, d)
	VMOVDQU32(d, mask, Mem{Base: dst.(GPVirtual), Index: at, Scale: 4})
	VPMOVD2M(d, found) // there is none in short either: to be looked at again
	KANDW(mask, found, found)
	collect(found, open)
	collect(found, ends)
	ADDQ(Imm(lanes), at)
	SHRQ(Imm(lanes), none)
	JNZ(LabelRef("shorter"))

	Label("done")
	VZEROUPPER()
	Store(open, ReturnIndex(0))
	Store(ends, ReturnIndex(1))
	RET()
}

// prefetchLines asks for the lines of all addresses before the first is looked
// at, which takes more instructions than the processor looks ahead for some.
func prefetchLines() {
	TEXT("prefetchLines", NOSPLIT, "func(entries *uint32, which uint64, lines *uint32)")
	Pragma("noescape")
	Doc("prefetchLines asks for the lines that the entries with a bit in which, at least one, lead to.")
	entries, which := Load(Param("entries"), GP64()).(GPVirtual), Load(Param("which"), GP64()).(GPVirtual)
	lines := Load(Param("lines"), GP64()).(GPVirtual)
	i, e := GP64(), GP64()
	Label("next")
	TZCNTQ(which, i)
	MOVL(Mem{Base: entries, Index: i, Scale: 4}, e.As32())
	ANDL(U32(1<<30-1), e.As32())
	SHLQ(Imm(6), e)
	PREFETCHT0(Mem{Base: lines, Index: e, Scale: 1})
	BLSRQ(which, which)
	JNZ(LabelRef("next"))
	RET()
}
