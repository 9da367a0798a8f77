//go:build amd64 && gc && !purego

#include "textflag.h"

// A round of BlaMka on four 64-bit words of each of A, B, C and D, twice: registers that
// end with 0 are of one set, those that end with 1 of another, so that neither waits for
// the products of the other. Y8 and Y9 are for what is in between, Y10 and Y11 rotate the
// words to the right by 24 and 16 bits.

// x += y + 2*lo(x)*lo(y)
#define ADD(x, y, t) \
	VPMULUDQ y, x, t; \
	VPADDQ   y, x, x; \
	VPADDQ   t, t, t; \
	VPADDQ   t, x, x

#define HALVES(A0, A1, B0, B1, C0, C1, D0, D1) \
	ADD(A0, B0, Y8); \
	ADD(A1, B1, Y9); \
	VPXOR    A0, D0, D0; \
	VPXOR    A1, D1, D1; \
	VPSHUFD  $0xb1, D0, D0; \
	VPSHUFD  $0xb1, D1, D1; \
	ADD(C0, D0, Y8); \
	ADD(C1, D1, Y9); \
	VPXOR    C0, B0, B0; \
	VPXOR    C1, B1, B1; \
	VPSHUFB  Y10, B0, B0; \
	VPSHUFB  Y10, B1, B1; \
	ADD(A0, B0, Y8); \
	ADD(A1, B1, Y9); \
	VPXOR    A0, D0, D0; \
	VPXOR    A1, D1, D1; \
	VPSHUFB  Y11, D0, D0; \
	VPSHUFB  Y11, D1, D1; \
	ADD(C0, D0, Y8); \
	ADD(C1, D1, Y9); \
	VPXOR    C0, B0, B0; \
	VPXOR    C1, B1, B1; \
	VPADDQ   B0, B0, Y8; \
	VPADDQ   B1, B1, Y9; \
	VPSRLQ   $63, B0, B0; \
	VPSRLQ   $63, B1, B1; \
	VPXOR    Y8, B0, B0; \
	VPXOR    Y9, B1, B1

// The sixteen words of a row lie one after the other, so the diagonals come in place by
// turning B, C and D by one, two and three words. The registers are two rows.
#define ROWS \
	HALVES(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7); \
	VPERMQ $0x39, Y2, Y2; \
	VPERMQ $0x39, Y3, Y3; \
	VPERMQ $0x4e, Y4, Y4; \
	VPERMQ $0x4e, Y5, Y5; \
	VPERMQ $0x93, Y6, Y6; \
	VPERMQ $0x93, Y7, Y7; \
	HALVES(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7); \
	VPERMQ $0x93, Y2, Y2; \
	VPERMQ $0x93, Y3, Y3; \
	VPERMQ $0x4e, Y4, Y4; \
	VPERMQ $0x4e, Y5, Y5; \
	VPERMQ $0x39, Y6, Y6; \
	VPERMQ $0x39, Y7, Y7

// The words of a column lie two by two, and a register has two of each of two columns: words
// 0 and 1 are in Y0, 2 and 3 in Y1, 4 and 5 in Y2, and so on. So turning is done across two
// registers, and for C by their names.
#define COLUMNS \
	HALVES(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7); \
	VPALIGNR $8, Y2, Y3, Y8; \
	VPALIGNR $8, Y3, Y2, Y3; \
	VMOVDQA  Y8, Y2; \
	VPALIGNR $8, Y7, Y6, Y8; \
	VPALIGNR $8, Y6, Y7, Y7; \
	VMOVDQA  Y8, Y6; \
	HALVES(Y0, Y1, Y2, Y3, Y5, Y4, Y6, Y7); \
	VPALIGNR $8, Y3, Y2, Y8; \
	VPALIGNR $8, Y2, Y3, Y3; \
	VMOVDQA  Y8, Y2; \
	VPALIGNR $8, Y6, Y7, Y8; \
	VPALIGNR $8, Y7, Y6, Y7; \
	VMOVDQA  Y8, Y6

// in1 is at BX, in2 at CX, the scratch block at DX, out at DI.
#define LOAD(at, y) \
	VMOVDQU at(BX), y; \
	VPXOR   at(CX), y, y

#define TWO_ROWS(at) \
	LOAD(at+0, Y0); \
	LOAD(at+32, Y2); \
	LOAD(at+64, Y4); \
	LOAD(at+96, Y6); \
	LOAD(at+128, Y1); \
	LOAD(at+160, Y3); \
	LOAD(at+192, Y5); \
	LOAD(at+224, Y7); \
	ROWS; \
	VMOVDQU Y0, at+0(DX); \
	VMOVDQU Y2, at+32(DX); \
	VMOVDQU Y4, at+64(DX); \
	VMOVDQU Y6, at+96(DX); \
	VMOVDQU Y1, at+128(DX); \
	VMOVDQU Y3, at+160(DX); \
	VMOVDQU Y5, at+192(DX); \
	VMOVDQU Y7, at+224(DX)

#define SET(at, y) \
	VPXOR   at(BX), y, y; \
	VPXOR   at(CX), y, y; \
	VMOVDQU y, at(DI)

#define XOR(at, y) \
	VPXOR   at(DI), y, y; \
	SET(at, y)

#define TWO_COLUMNS(at, STORE) \
	VMOVDQU at+0(DX), Y0; \
	VMOVDQU at+128(DX), Y1; \
	VMOVDQU at+256(DX), Y2; \
	VMOVDQU at+384(DX), Y3; \
	VMOVDQU at+512(DX), Y4; \
	VMOVDQU at+640(DX), Y5; \
	VMOVDQU at+768(DX), Y6; \
	VMOVDQU at+896(DX), Y7; \
	COLUMNS; \
	STORE(at+0, Y0); \
	STORE(at+128, Y1); \
	STORE(at+256, Y2); \
	STORE(at+384, Y3); \
	STORE(at+512, Y4); \
	STORE(at+640, Y5); \
	STORE(at+768, Y6); \
	STORE(at+896, Y7)

#define BEGIN \
	MOVQ    out+0(FP), DI; \
	MOVQ    in1+8(FP), BX; \
	MOVQ    in2+16(FP), CX; \
	MOVQ    scratch+24(FP), DX; \
	VMOVDQU right24<>(SB), Y10; \
	VMOVDQU right16<>(SB), Y11; \
	TWO_ROWS(0); \
	TWO_ROWS(256); \
	TWO_ROWS(512); \
	TWO_ROWS(768)

// func setBlockAVX2(out, in1, in2, scratch *Block)
TEXT ·setBlockAVX2(SB), NOSPLIT, $0-32
	BEGIN
	TWO_COLUMNS(0, SET)
	TWO_COLUMNS(32, SET)
	TWO_COLUMNS(64, SET)
	TWO_COLUMNS(96, SET)
	VZEROUPPER
	RET

// func xorBlockAVX2(out, in1, in2, scratch *Block)
TEXT ·xorBlockAVX2(SB), NOSPLIT, $0-32
	BEGIN
	TWO_COLUMNS(0, XOR)
	TWO_COLUMNS(32, XOR)
	TWO_COLUMNS(64, XOR)
	TWO_COLUMNS(96, XOR)
	VZEROUPPER
	RET

DATA right24<>+0(SB)/8, $0x0201000706050403
DATA right24<>+8(SB)/8, $0x0a09080f0e0d0c0b
DATA right24<>+16(SB)/8, $0x0201000706050403
DATA right24<>+24(SB)/8, $0x0a09080f0e0d0c0b
GLOBL right24<>(SB), RODATA|NOPTR, $32

DATA right16<>+0(SB)/8, $0x0100070605040302
DATA right16<>+8(SB)/8, $0x09080f0e0d0c0b0a
DATA right16<>+16(SB)/8, $0x0100070605040302
DATA right16<>+24(SB)/8, $0x09080f0e0d0c0b0a
GLOBL right16<>(SB), RODATA|NOPTR, $32
