#include "textflag.h"
#include "go_asm.h"

// MUL Vd.4S, Vn.4S, Vm.4S, which Go's assembler does not know.
#define MUL(m, n, d) WORD $(0x4ea09c00 | (m)<<16 | (n)<<5 | (d))

// One step of phase J, 32 bytes on: X, the sums of the 4 positions J, J+4, J+8
// and J+12 bytes from R0 but 32 before, becomes those of the positions
// themselves.
#define SUM(J, X) \
	VSHL  $3, X.S4, X.S4; \
	FMOVQ (J-3)(R0), F24; \
	VADD  V24.S4, X.S4, X.S4

#define SUMS \
	SUM(0, V0); \
	SUM(1, V1); \
	SUM(2, V2); \
	SUM(3, V3); \
	SUM(16, V4); \
	SUM(17, V5); \
	SUM(18, V6); \
	SUM(19, V7)

// func groupsNEON(p *byte, n int, f *filter) int
//
// V0-V3 are the sums of the four phases for the first 16 of 32 positions, V4-V7
// for the others; V8-V15 the products of a group's first 32 positions, V16-V23
// of its others; V28 the multiplier, V29 the limit.
TEXT ·groupsNEON(SB), NOSPLIT, $256-32
	MOVD p+0(FP), R0
	MOVD n+8(FP), R1
	MOVD f+16(FP), R2
	MOVWU filter_multiplier(R2), R3
	MOVWU filter_limit(R2), R4
	VDUP R3, V28.S4
	VDUP R4, V29.S4

	// What lies before the first position, filterWindow-4 bytes of it.
	VEOR V0.B16, V0.B16, V0.B16
	VEOR V1.B16, V1.B16, V1.B16
	VEOR V2.B16, V2.B16, V2.B16
	VEOR V3.B16, V3.B16, V3.B16
	VEOR V4.B16, V4.B16, V4.B16
	VEOR V5.B16, V5.B16, V5.B16
	VEOR V6.B16, V6.B16, V6.B16
	VEOR V7.B16, V7.B16, V7.B16
	SUB  $320, R0, R0
	MOVD $10, R6
before:
	SUMS
	ADD  $32, R0, R0
	SUBS $1, R6, R6
	BNE  before

	MOVD ZR, R6
loop:
	SUMS
	MUL(28, 0, 8)
	MUL(28, 1, 9)
	MUL(28, 2, 10)
	MUL(28, 3, 11)
	MUL(28, 4, 12)
	MUL(28, 5, 13)
	MUL(28, 6, 14)
	MUL(28, 7, 15)
	ADD  $32, R0, R0
	SUMS
	MUL(28, 0, 16)
	MUL(28, 1, 17)
	MUL(28, 2, 18)
	MUL(28, 3, 19)
	MUL(28, 4, 20)
	MUL(28, 5, 21)
	MUL(28, 6, 22)
	MUL(28, 7, 23)
	ADD  $32, R0, R0
	VUMAX V8.S4, V9.S4, V24.S4
	VUMAX V10.S4, V11.S4, V25.S4
	VUMAX V12.S4, V13.S4, V26.S4
	VUMAX V14.S4, V15.S4, V27.S4
	VUMAX V16.S4, V24.S4, V24.S4
	VUMAX V17.S4, V25.S4, V25.S4
	VUMAX V18.S4, V26.S4, V26.S4
	VUMAX V19.S4, V27.S4, V27.S4
	VUMAX V20.S4, V24.S4, V24.S4
	VUMAX V21.S4, V25.S4, V25.S4
	VUMAX V22.S4, V26.S4, V26.S4
	VUMAX V23.S4, V27.S4, V27.S4
	VUMAX V24.S4, V25.S4, V24.S4
	VUMAX V26.S4, V27.S4, V26.S4
	VUMAX V24.S4, V26.S4, V24.S4
	// Every lane at most the limit, or the group holds something.
	VUMAX V29.S4, V24.S4, V24.S4
	VCMEQ V29.S4, V24.S4, V24.S4
	VMOV  V24.D[0], R7
	VMOV  V24.D[1], R8
	AND   R7, R8, R7
	CMN   $1, R7
	BNE   found
	ADD   $64, R6, R6
	CMP   R1, R6
	BLT   loop
	MOVD  R6, ret+24(FP)
	RET

found:
	// Stored four by four, the products lie in the order of positions.
	MOVD $products-256(SP), R5
	VST4.P [V8.S4, V9.S4, V10.S4, V11.S4], 64(R5)
	VST4.P [V12.S4, V13.S4, V14.S4, V15.S4], 64(R5)
	VST4.P [V16.S4, V17.S4, V18.S4, V19.S4], 64(R5)
	VST4.P [V20.S4, V21.S4, V22.S4, V23.S4], 64(R5)
	SUB  $256, R5, R5
	SUB  $1, R6, R6
next:
	ADD  $1, R6, R6
	MOVWU.P 4(R5), R7
	CMPW R4, R7
	BLS  next
	MOVD R6, ret+24(FP)
	RET
