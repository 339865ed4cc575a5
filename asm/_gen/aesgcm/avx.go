package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The kernels for processors with AES-NI and PCLMULQDQ, on 128-bit registers.

var xmm = []VecPhysical{X0, X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12, X13, X14, X15}

// reduce128 brings hi, lo and mid to a field element in hi.
func reduce128(hi, lo, mid, t, p VecPhysical) {
	VPXOR(hi, mid, mid)
	VPXOR(lo, mid, mid)
	VPCLMULQDQ(Imm(0x01), lo, p, t)
	VPSHUFD(Imm(0x4e), lo, lo)
	VPXOR(t, mid, mid)
	VPXOR(lo, mid, mid)
	VPCLMULQDQ(Imm(0x01), mid, p, t)
	VPSHUFD(Imm(0x4e), mid, mid)
	VPXOR(t, hi, hi)
	VPXOR(mid, hi, hi)
}

// block128 adds to hi, lo and mid the product of the block d and the power at
// h. It spoils d, t0 and t1.
func block128(d VecPhysical, h Mem, hi, lo, mid, t0, t1 VecPhysical) {
	VMOVDQU(h, t1)
	VPCLMULQDQ(Imm(0x11), t1, d, t0)
	VPXOR(t0, hi, hi)
	VPCLMULQDQ(Imm(0x00), t1, d, t0)
	VPXOR(t0, lo, lo)
	VPSHUFD(Imm(0x4e), d, t0)
	VPXOR(t0, d, d)
	VPSHUFD(Imm(0x4e), t1, t0)
	VPXOR(t0, t1, t1)
	VPCLMULQDQ(Imm(0x00), t1, d, t0)
	VPXOR(t0, mid, mid)
}

// powersAVX makes the table of powers from its last entry.
func powersAVX() {
	TEXT("powersAVX", NOSPLIT, "func(c *byte)")
	Pragma("noescape")
	Doc("powersAVX makes the powers of H, and the sums of their halves, from H^1, which stands in its place.")
	Load(Param("c"), RDI)
	VMOVDQU(poly, X15)
	VMOVDQU(mem(RDI, ctxPowers+31*16), X0)
	LEAQ(mem(RDI, 31*16), RSI)
	VMOVDQA(X0, X1)
	Label("powersAVX_loop")
	VPSHUFD(Imm(0x4e), X1, X2)
	VPXOR(X1, X2, X2)
	VMOVDQU(X1, mem(RSI, ctxPowers))
	VMOVDQU(X2, mem(RSI, ctxFolded))
	VPXOR(X3, X3, X3)
	VPXOR(X4, X4, X4)
	VPXOR(X5, X5, X5)
	block128(X1, mem(RDI, ctxPowers+31*16), X3, X4, X5, X6, X7)
	reduce128(X3, X4, X5, X6, X15)
	VMOVDQA(X3, X1)
	SUBQ(Imm(16), RSI)
	CMPQ(RSI, RDI)
	JGE(LabelRef("powersAVX_loop"))
	VZEROUPPER()
	RET()
}

func subWordAVX() {
	TEXT("subWordAVX", NOSPLIT, "func(w uint32) uint32")
	Doc("subWordAVX is SubWord of FIPS 197, section 5.2, without a table in memory.")
	Load(Param("w"), EAX)
	VMOVD(EAX, X0)
	VPSHUFD(Imm(0), X0, X0)
	VAESKEYGENASSIST(Imm(0), X0, X0)
	VMOVD(X0, EAX)
	Store(EAX, ReturnIndex(0))
	RET()
}

// prefetch brings what small packets need of their keys into the cache.
func prefetch() {
	TEXT("prefetchKeys", NOSPLIT, "func(keys **byte, n int)")
	Pragma("noescape")
	Doc("prefetchKeys asks for the parts of n contexts, at least one, that a small packet needs.")
	Load(Param("keys"), RDI)
	Load(Param("n"), RSI)
	Label("prefetchKeys_loop")
	MOVQ(mem(RDI, 0), RAX)
	for at := ctxSmall; at < ctxSmallEnd; at += 64 {
		if at == ctxPowers+36*16 {
			continue // of the zeros, which packets of more than three blocks do not need
		}
		PREFETCHT0(mem(RAX, at))
	}
	ADDQ(Imm(8), RDI)
	DECQ(RSI)
	JNZ(LabelRef("prefetchKeys_loop"))
	RET()
}
