/* tile.h - what matrix kernels share on AVX2: weights to f32 in registers, transposition, sums over lanes. */
#ifndef OCTAVO_ISA_AVX2_TILE_H
#define OCTAVO_ISA_AVX2_TILE_H
#include "isa/avx2/num.h"

#define UNROLL _Pragma("GCC unroll 16") /* or gcc keeps arrays of accumulators in memory */

/* ---- 32 elements of a row to four vectors of f32, in an order that is cheap ----
 * Of f8e4m3fn, vector v, lane l holds element 4 l + {0, 2, 1, 3}[v], times 2^-120: the code's bits moved to where f32
 * has them, but not rebiased. Right for every code but NaN, which reads as 480. Of bf16, it holds element
 * 16 (v/2) + 2 l + v % 2, unscaled. */
enum { STEP = 32 };
#define F8_TILE_SCALE 0x1p-120f
INLINE int64_t step_bytes(int f8) { return f8 ? STEP : 2 * STEP; }

INLINE __m256 f32_bits(__m256i v) { return _mm256_castsi256_ps(v); }
INLINE __m256i low_half_up(__m256i v) { return _mm256_slli_epi32(v, 16); }
INLINE __m256i high_half(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000)); }

INLINE void widen_f8(__m256i codes, __m256 o[4])
{
    __m256i sixteen = _mm256_set1_epi16(16);
    __asm__("" : "+x"(sixteen)); /* hidden, or compilers turn the multiplication into two shifts */
    const __m256i keep = _mm256_set1_epi16((short)0x87f0); /* bf16 of the code times 2^-120: s0000eee emmm0000 */
    const __m256i even = _mm256_and_si256(_mm256_maddubs_epi16(sixteen, codes), keep);
    const __m256i odd = _mm256_and_si256(_mm256_srai_epi16(codes, 4), keep);
    o[0] = f32_bits(low_half_up(even));
    o[1] = f32_bits(high_half(even));
    o[2] = f32_bits(low_half_up(odd));
    o[3] = f32_bits(high_half(odd));
}
INLINE void widen_bf16(__m256i a, __m256i b, __m256 o[4])
{
    o[0] = f32_bits(low_half_up(a));
    o[1] = f32_bits(high_half(a));
    o[2] = f32_bits(low_half_up(b));
    o[3] = f32_bits(high_half(b));
}
INLINE __m256i load32(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE void widen(const char *p, int f8, __m256 o[4])
{
    if (f8) widen_f8(load32(p), o);
    else widen_bf16(load32(p), load32(p + 32), o);
}

/* ---- f8e4m3fn NaN ---- */

/* Gathers what tells whether any of the codes is NaN; 0 at the beginning. */
INLINE __m256i nan_gather(__m256i seen, __m256i codes) { return _mm256_max_epu8(seen, _mm256_add_epi8(codes, codes)); }
INLINE int nan_seen(__m256i seen) { return _mm256_movemask_epi8(_mm256_cmpeq_epi8(seen, _mm256_set1_epi8((char)0xfe))) != 0; }

/* What widen_f8 gave, with NaN where the code was NaN. */
INLINE __m256 nan_restore(__m256 v)
{
    const __m256i mag = _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff));
    const __m256i nan = _mm256_cmpeq_epi32(mag, _mm256_set1_epi32(0x7f << 20));
    return _mm256_or_ps(v, f32_bits(_mm256_and_si256(nan, _mm256_set1_epi32(0x7fc00000))));
}

/* ---- Sums over lanes ---- */

/* The sums of 8 vectors; the order of addition is that of one vector alone. */
INLINE __m256 sum_lanes(const __m256 v[8])
{
    const __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    const __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

/* ---- 8 x 8 dwords ---- */

INLINE void transpose8(__m256i r[8])
{
    __m256i t[8], u[8];
    UNROLL for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    UNROLL for (int i = 0; i < 2; i++) {
        u[4 * i] = _mm256_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 1] = _mm256_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        u[4 * i + 2] = _mm256_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        u[4 * i + 3] = _mm256_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
    }
}
#endif
