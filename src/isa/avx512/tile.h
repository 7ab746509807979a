/* tile.h - what matrix kernels share on AVX-512 with VBMI and BF16: f8e4m3fn to bf16, pair products, transposition.
 * Everything static, as in isa/avx2, whose helpers serve here too: these CPUs have AVX2. */
#ifndef OCTAVO_ISA_AVX512_TILE_H
#define OCTAVO_ISA_AVX512_TILE_H
#include "isa/avx2/tile.h"

/* ---- f8e4m3fn to bf16: every code is a normal bf16, zero or NaN, looked up by its 7 bits of magnitude ---- */
#define F8_BITS(c)                                                                                                     \
    ((c) == 127 ? 0x7fc0 : (c) >= 8 ? ((c) << 4) + 0x3c00 : (c) >= 4 ? 0x3c00 + (((c) - 4) << 5)                       \
     : (c) == 3 ? 0x3bc0 : (c) == 2 ? 0x3b80 : (c) == 1 ? 0x3b00 : 0)
#define F8_HIGH(c) (uint8_t)(F8_BITS(c) >> 8)
#define F8_LOW(c) (uint8_t)(F8_BITS(c) & 0xff)
#define F8_8(F, c) F(c), F((c) + 1), F((c) + 2), F((c) + 3), F((c) + 4), F((c) + 5), F((c) + 6), F((c) + 7)
#define F8_64(F, c)                                                                                                    \
    F8_8(F, c), F8_8(F, (c) + 8), F8_8(F, (c) + 16), F8_8(F, (c) + 24), F8_8(F, (c) + 32), F8_8(F, (c) + 40),          \
        F8_8(F, (c) + 48), F8_8(F, (c) + 56)
static const uint8_t f8_bytes[4][64] __attribute__((aligned(64))) = {
    { F8_64(F8_HIGH, 0) }, { F8_64(F8_HIGH, 64) }, { F8_64(F8_LOW, 0) }, { F8_64(F8_LOW, 64) } };
#undef F8_BITS
#undef F8_HIGH
#undef F8_LOW
#undef F8_8
#undef F8_64

typedef struct f8_table { __m512i high[2], low[2]; } f8_table;
INLINE f8_table f8_table_load(void)
{
    return (f8_table){ { _mm512_load_si512(f8_bytes[0]), _mm512_load_si512(f8_bytes[1]) },
                       { _mm512_load_si512(f8_bytes[2]), _mm512_load_si512(f8_bytes[3]) } };
}

/* 64 codes -> twice 32 bf16, each pair of neighbours in one dword: eights 0, 2, 4, 6 of the codes, then 1, 3, 5, 7. */
INLINE void f8_to_bf16(__m512i codes, const f8_table *t, __m512i o[2])
{
    __asm__("" : "+v"(codes)); /* or gcc loads them anew for each use */
    const __m512i magnitude = _mm512_permutex2var_epi8(t->high[0], codes, t->high[1]);
    const __m512i low = _mm512_permutex2var_epi8(t->low[0], codes, t->low[1]);
    const __m512i high = _mm512_ternarylogic_epi32(magnitude, codes, _mm512_set1_epi8((char)0x80), 0xf8); /* a | b & c */
    o[0] = _mm512_unpacklo_epi8(low, high);
    o[1] = _mm512_unpackhi_epi8(low, high);
}

/* The first n of 64 bytes; the others are not read, and 0. */
INLINE __m512i load_first64(const void *p, int64_t n)
{ return n >= 64 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8((1ull << n) - 1, p); }

/* Each of 16 sums plus the products of its two pairs. Takes subnormals for 0, whatever MXCSR says: codes and their
 * products have none. */
INLINE __m512 add_pairs(__m512 sum, __m512i a, __m512i b)
{ return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }

INLINE __m256 halves_added(__m512 v) { return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); }

/* 16 x 16 dwords. */
INLINE void transpose16(__m512i r[16])
{
    __m512i t[16];
    UNROLL for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++) { /* 128-bit lanes: even and odd ones of rows 0..7, then of 8..15 */
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}
#endif
