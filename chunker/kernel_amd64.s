#include "textflag.h"
#include "go_asm.h"

// One step of phase J, 32 bytes on: X, the sums of the 8 positions J, J+4, ...,
// J+28 bytes from SI but 32 before, becomes those of the positions themselves.
#define SUM(J, X) \
	VPSLLD $3, X, X; \
	VPADDD (J-3)(SI), X, X

// The same, and the products.
#define STEP(J, X, H) \
	SUM(J, X); \
	VPMULLD Y12, X, H

// H becomes all ones where it is not above the limit, all zeros where it is.
#define REFUSED(H) \
	VPMAXUD  Y15, H, H; \
	VPCMPEQD Y15, H, H

// The answers of four phases, by lanes, become R: bits in the order of
// positions, one where one is nominated. Byte J of a lane is of phase J.
#define ORDER(H0, H1, H2, H3, R) \
	REFUSED(H0); \
	REFUSED(H1); \
	REFUSED(H2); \
	REFUSED(H3); \
	VPBLENDW  $0xaa, H2, H0, H0; \
	VPBLENDW  $0xaa, H3, H1, H1; \
	VPSRLW    $8, H0, H0; \
	VPSLLW    $8, H1, H1; \
	VPOR      H0, H1, H0; \
	VPMOVMSKB H0, R; \
	NOTL      R

// func groupsAVX2(p *byte, n int, f *filter) int
//
// Y0-Y3 are the sums of the four phases, Y4-Y7 the products of a group's first
// 32 positions, Y8-Y11 of its others, Y12 the multiplier, Y15 the limit.
TEXT ·groupsAVX2(SB), NOSPLIT, $0-32
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX
	MOVQ f+16(FP), DX
	VPBROADCASTD filter_multiplier(DX), Y12
	VPBROADCASTD filter_limit(DX), Y15

	// What lies before the first position, filterWindow-4 bytes of it.
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	SUBQ $320, SI
	MOVQ $10, AX
before:
	SUM(0, Y0)
	SUM(1, Y1)
	SUM(2, Y2)
	SUM(3, Y3)
	ADDQ $32, SI
	DECQ AX
	JNZ  before

	XORQ AX, AX
loop:
	PREFETCHT0 1024(SI)
	STEP(0, Y0, Y4)
	STEP(1, Y1, Y5)
	STEP(2, Y2, Y6)
	STEP(3, Y3, Y7)
	STEP(32, Y0, Y8)
	STEP(33, Y1, Y9)
	STEP(34, Y2, Y10)
	STEP(35, Y3, Y11)
	VPMAXUD Y4, Y5, Y13
	VPMAXUD Y6, Y7, Y14
	VPMAXUD Y13, Y14, Y13
	VPMAXUD Y8, Y13, Y13
	VPMAXUD Y9, Y10, Y14
	VPMAXUD Y11, Y14, Y14
	VPMAXUD Y13, Y14, Y13
	REFUSED(Y13)
	VPMOVMSKB Y13, DX
	CMPL DX, $-1
	JNE  found
	ADDQ $64, SI
	ADDQ $64, AX
	CMPQ AX, CX
	JLT  loop

done:
	VZEROUPPER
	MOVQ AX, ret+24(FP)
	RET

found:
	ORDER(Y4, Y5, Y6, Y7, DX)
	ORDER(Y8, Y9, Y10, Y11, BX)
	SHLQ $32, BX
	ORQ  BX, DX
	BSFQ DX, DX
	ADDQ DX, AX
	JMP  done
