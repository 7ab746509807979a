/* num.h - number formats on AVX2: loads, stores and conversions of 8 or 32 elements. Everything static: this header
 * is compiled with -mavx2, and a symbol with linkage could be taken by the linker for other files. */
#ifndef OCTAVO_ISA_AVX2_NUM_H
#define OCTAVO_ISA_AVX2_NUM_H
#include "core/num/bf16.h"
#include "core/num/f8.h"
#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

/* Mask of the first n of 8 lanes, 0 <= n <= 8, for masked loads and stores. */
INLINE __m256i first_lanes(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* 8 f8e4m3fn codes in the low 8 bytes -> 8 f32, exact, NaN included: magnitude shifted to f32's place, then the
 * exponent rebiased by a multiplication with 2^120, which also makes subnormals right. */
INLINE __m256 f8e4m3fn_to_f32x8(__m128i codes)
{
    const __m256i c = _mm256_cvtepi8_epi32(codes); /* sign copied upward */
    const __m256i mag = _mm256_and_si256(c, _mm256_set1_epi32(0x7f));
    const __m256 v = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(mag, 20)), _mm256_set1_ps(0x1p120f));
    const __m256i sign = _mm256_and_si256(c, _mm256_set1_epi32((int)0x80000000));
    const __m256i nan = _mm256_cmpeq_epi32(mag, _mm256_set1_epi32(0x7f));
    const __m256 r = _mm256_or_ps(v, _mm256_castsi256_ps(sign));
    return _mm256_blendv_ps(r, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)), _mm256_castsi256_ps(nan));
}

/* 8 bf16 -> 8 f32, exact. */
INLINE __m256 bf16_to_f32x8(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }

/* 8 f32 -> 8 bf16, nearest even; NaN gives 0x7FC0. */
INLINE __m128i f32x8_to_bf16(__m256 x)
{
    const __m256i u = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    r = _mm256_blendv_epi8(r, _mm256_set1_epi32(0x7fc0), _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(r, r), 0xd8));
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
#endif
