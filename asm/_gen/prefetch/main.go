// Command prefetch writes the amd64 kernel of asm/prefetch.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	TEXT("lines", NOSPLIT, "func(p **byte, n, size int)")
	Pragma("noescape")
	Doc("lines asks for the first size bytes, at least one, behind each of n pointers, at least one.")
	Load(Param("p"), RSI)
	Load(Param("n"), RCX)
	Load(Param("size"), RDX)
	Label("pointer")
	MOVQ(Mem{Base: RSI}, RAX)
	LEAQ(Mem{Base: RAX, Index: RDX, Scale: 1}, RBX)
	Label("line")
	PREFETCHT0(Mem{Base: RAX})
	ADDQ(Imm(64), RAX)
	CMPQ(RAX, RBX)
	JB(LabelRef("line"))
	ADDQ(Imm(8), RSI)
	DECQ(RCX)
	JNZ(LabelRef("pointer"))
	RET()
	Generate()
}
