/* num.h - number formats on AVX2: loads, stores and conversions of 8 or 32 elements. Everything static: this header
 * is compiled with -mavx2, and a symbol with linkage could be taken by the linker for other files. */
#ifndef OCTAVO_ISA_AVX2_NUM_H
#define OCTAVO_ISA_AVX2_NUM_H
#include "core/num/bf16.h"
#include "core/num/f8.h"
#include "octavo.h"
#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

/* Mask of the first n of 8 lanes, 0 <= n <= 8, for masked loads and stores. */
INLINE __m256i first_lanes(int64_t n)
{ return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }

/* 8 f8e4m3fn codes, sign-extended to dwords -> 8 f32, exact, NaN included: magnitude shifted to f32's place, then the
 * exponent rebiased by a multiplication with 2^120, which also makes subnormals right. */
INLINE __m256 f8e4m3fn_dwords_to_f32x8(__m256i c)
{
    const __m256i mag = _mm256_and_si256(c, _mm256_set1_epi32(0x7f));
    const __m256 v = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(mag, 20)), _mm256_set1_ps(0x1p120f));
    const __m256i sign = _mm256_and_si256(c, _mm256_set1_epi32((int)0x80000000));
    const __m256i nan = _mm256_cmpeq_epi32(mag, _mm256_set1_epi32(0x7f));
    const __m256 r = _mm256_or_ps(v, _mm256_castsi256_ps(sign));
    return _mm256_blendv_ps(r, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)), _mm256_castsi256_ps(nan));
}
/* The same of codes in the low 8 bytes. */
INLINE __m256 f8e4m3fn_to_f32x8(__m128i codes) { return f8e4m3fn_dwords_to_f32x8(_mm256_cvtepi8_epi32(codes)); }

/* f32 -> f8e4m3fn. The element's own power of two e (at least that of the smallest normal code, 2^-6), times 2^20, is
 * a number whose last bit is worth one code step: adding it rounds the element to the code grid, nearest even, and
 * leaves the count n of steps in the low bits and e's exponent in the high ones. code = n + 8 (exponent + 6).
 *
 * 8 magnitudes, none above 464 and none NaN -> words of 16 (code + 1128) in dwords: below 2^15, ready for packing. */
INLINE __m256i f8e4m3fn_steps(__m256 a)
{
    const __m256i exponent = _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(0x7f800000));
    const __m256 e = _mm256_castsi256_ps(_mm256_max_epi32(exponent, _mm256_set1_epi32(0x3c800000)));
    const __m256i s = _mm256_castps_si256(_mm256_fmadd_ps(e, _mm256_set1_ps(0x1p20f), a));
    return _mm256_madd_epi16(s, _mm256_set1_epi32(1 << 16 | 16)); /* 16 n + 128 (biased exponent + 20) */
}
/* 16 such words -> codes. */
INLINE __m256i f8e4m3fn_codes(__m256i w)
{ return _mm256_srli_epi16(_mm256_sub_epi16(w, _mm256_set1_epi16(16 * 1128)), 4); }

INLINE __m256 f32x8_abs(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
INLINE __m256 f32x8_clamp_f8(__m256 a) { return _mm256_min_ps(a, _mm256_set1_ps(OCT_F8E4M3FN_MAX)); } /* NaN: 448 */

/* Four times 8 dwords, taken as signed, to bytes with saturation, in the order of the packs; and back in order. */
INLINE __m256i pack_f32x32(__m256 a, __m256 b, __m256 c, __m256 d)
{
    return _mm256_packs_epi16(_mm256_packs_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)),
                              _mm256_packs_epi32(_mm256_castps_si256(c), _mm256_castps_si256(d)));
}
INLINE __m256i unpack_order(__m256i v)
{ return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)); }

/* 32 magnitudes, none above 464 and none NaN -> codes in the order of the packs. */
INLINE __m256i magnitudes_to_f8e4m3fn(__m256 a, __m256 b, __m256 c, __m256 d)
{
    return _mm256_packus_epi16(f8e4m3fn_codes(_mm256_packs_epi32(f8e4m3fn_steps(a), f8e4m3fn_steps(b))),
                               f8e4m3fn_codes(_mm256_packs_epi32(f8e4m3fn_steps(c), f8e4m3fn_steps(d))));
}
INLINE __m256i sign_bytes(__m256 a, __m256 b, __m256 c, __m256 d)
{ return _mm256_and_si256(pack_f32x32(a, b, c, d), _mm256_set1_epi8((char)0x80)); }

/* 32 f32 -> 32 codes in order, nearest even, saturating, NaN gives 0x7F. */
INLINE __m256i f32x32_to_f8e4m3fn(__m256 a, __m256 b, __m256 c, __m256 d)
{
    const __m256i mag = magnitudes_to_f8e4m3fn(f32x8_clamp_f8(f32x8_abs(a)), f32x8_clamp_f8(f32x8_abs(b)),
                                               f32x8_clamp_f8(f32x8_abs(c)), f32x8_clamp_f8(f32x8_abs(d)));
    const __m256i nan = pack_f32x32(_mm256_cmp_ps(a, a, _CMP_UNORD_Q), _mm256_cmp_ps(b, b, _CMP_UNORD_Q),
                                    _mm256_cmp_ps(c, c, _CMP_UNORD_Q), _mm256_cmp_ps(d, d, _CMP_UNORD_Q));
    const __m256i code = _mm256_or_si256(mag, sign_bytes(a, b, c, d));
    return unpack_order(_mm256_blendv_epi8(code, _mm256_set1_epi8(0x7f), nan));
}

/* 8 f32 -> 8 codes in the low 8 bytes, nearest even, saturating, NaN gives 0x7F. */
INLINE __m128i f32x8_to_f8e4m3fn(__m256 x)
{
    const __m256i steps = f8e4m3fn_steps(f32x8_clamp_f8(f32x8_abs(x)));
    const __m256i w = f8e4m3fn_codes(_mm256_packs_epi32(steps, _mm256_setzero_si256()));
    const __m256i sign = _mm256_packs_epi32(_mm256_castps_si256(x), _mm256_setzero_si256());
    const __m256i nan =
        _mm256_packs_epi32(_mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)), _mm256_setzero_si256());
    const __m256i code = _mm256_or_si256(w, _mm256_and_si256(_mm256_srli_epi16(sign, 8), _mm256_set1_epi16(0x80)));
    const __m256i c = _mm256_blendv_epi8(code, _mm256_set1_epi16(0x7f), nan);
    const __m256i in_order = _mm256_permute4x64_epi64(c, 0xd8);
    return _mm_packus_epi16(_mm256_castsi256_si128(in_order), _mm_setzero_si128());
}

/* 8 bf16 -> 8 f32, exact. */
INLINE __m256 bf16_to_f32x8(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }

/* The bits of 8 f32 that are not NaN, rounded to bf16 (nearest even) in the low words; the high ones are 0. */
INLINE __m256i f32x8_round_bf16(__m256 x)
{
    const __m256i u = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    return _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
}
/* 16 f32, none NaN -> 16 bf16. */
INLINE __m256i f32x16_to_bf16_numbers(__m256 a, __m256 b)
{ return _mm256_permute4x64_epi64(_mm256_packus_epi32(f32x8_round_bf16(a), f32x8_round_bf16(b)), 0xd8); }
/* 8 f32 -> 8 bf16, nearest even; NaN gives 0x7FC0. */
INLINE __m128i f32x8_to_bf16(__m256 x)
{
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i r = _mm256_blendv_epi8(f32x8_round_bf16(x), _mm256_set1_epi32(0x7fc0), nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}

INLINE int64_t bytes_of(int32_t dtype) { return dtype == OCT_F32 ? 4 : 2; }

/* 8 of f32, bf16 or f16 -> 8 f32. */
INLINE __m256 load_8(const void *x, int32_t dtype, int64_t at)
{
    if (dtype == OCT_F16) return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)x + at)));
    if (dtype == OCT_BF16) return bf16_to_f32x8(_mm_loadu_si128((const __m128i *)((const uint16_t *)x + at)));
    return _mm256_loadu_ps((const float *)x + at);
}

/* Up to 8 elements through a buffer: what lies behind n is neither read nor written. */
INLINE __m128i load_bytes(const void *p, int64_t n)
{
    char b[16] = { 0 };
    __builtin_memcpy(b, p, (size_t)n);
    return _mm_loadu_si128((const __m128i *)b);
}
INLINE void store_bytes(void *p, __m128i v, int64_t n)
{
    char b[16];
    _mm_storeu_si128((__m128i *)b, v);
    __builtin_memcpy(p, b, (size_t)n);
}

/* The first n of 8 of f32, bf16 or f16 (n above 8 counts as 8); what lies behind them is not read, and is 0. */
INLINE __m256 load_first(const void *x, int32_t dtype, int64_t at, int64_t n)
{
    if (n >= 8) return load_8(x, dtype, at);
    if (dtype != OCT_F32) {
        const __m128i h = load_bytes((const uint16_t *)x + at, 2 * n);
        return dtype == OCT_F16 ? _mm256_cvtph_ps(h) : bf16_to_f32x8(h);
    }
    return _mm256_maskload_ps((const float *)x + at, first_lanes(n));
}

/* The first n of 8 f32 -> f32, bf16 or f16 at y + at; every NaN becomes the canonical one. */
INLINE void store_first(void *y, int32_t dtype, int64_t at, __m256 v, int64_t n)
{
    if (dtype != OCT_BF16)
        v = _mm256_blendv_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)), _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    if (dtype != OCT_F32) {
        const __m128i h = dtype == OCT_F16 ? _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT) : f32x8_to_bf16(v);
        if (n >= 8) _mm_storeu_si128((__m128i *)((uint16_t *)y + at), h);
        else store_bytes((uint16_t *)y + at, h, 2 * n);
        return;
    }
    if (n >= 8) _mm256_storeu_ps((float *)y + at, v);
    else _mm256_maskstore_ps((float *)y + at, first_lanes(n), v);
}
#endif
