/* kv.h - rows of a KV cache on AVX2: storing a row of f32, loading part of a row as f32. The same bits as
 * core/num/kv.h, which says what the formats are. */
#ifndef OCTAVO_ISA_AVX2_KV_H
#define OCTAVO_ISA_AVX2_KV_H
#include "core/core.h"
#include "core/num/kv.h"
#include "isa/avx2/num.h"

/* The first n of 8 elements in memory; what lies behind them is not read, and is 0. */
INLINE __m256 load_bf16x8(const uint16_t *p, int64_t n)
{
    return bf16_to_f32x8(n >= 8 ? _mm_loadu_si128((const __m128i *)p) : load_bytes(p, 2 * n));
}
INLINE __m256 load_f32x8(const float *p, int64_t n)
{
    return n >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, first_lanes(n));
}
/* To memory as bf16; what lies behind n is not written. */
INLINE void store_bf16x8(uint16_t *p, __m256 v, int64_t n)
{
    if (n >= 8) _mm_storeu_si128((__m128i *)p, f32x8_to_bf16(v));
    else store_bytes(p, f32x8_to_bf16(v), 2 * n);
}

/* ---- Storing ---------------------------------------------------------------------------------------------------- */

/* NaN is ignored: minps and maxps give their second operand then. */
INLINE void f32_range(const float *x, int64_t n, float *mn, float *mx)
{
    __m256 lo = _mm256_set1_ps(INFINITY), hi = _mm256_set1_ps(-INFINITY);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        lo = _mm256_min_ps(v, lo);
        hi = _mm256_max_ps(v, hi);
    }
    if (i < n) {
        const __m256i first = first_lanes(n - i);
        const __m256 v = _mm256_maskload_ps(x + i, first), in = _mm256_castsi256_ps(first);
        lo = _mm256_min_ps(_mm256_blendv_ps(lo, v, in), lo);
        hi = _mm256_max_ps(_mm256_blendv_ps(hi, v, in), hi);
    }
    __m128 l = _mm_min_ps(_mm256_castps256_ps128(lo), _mm256_extractf128_ps(lo, 1));
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(hi), _mm256_extractf128_ps(hi, 1));
    l = _mm_min_ps(l, _mm_movehl_ps(l, l));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    *mn = _mm_cvtss_f32(_mm_min_ss(l, _mm_movehdup_ps(l))) + 0.0f;
    *mx = _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h))) + 0.0f;
}

/* Scale and shift as a pair of f16. */
INLINE void put_f16_pair(uint8_t *p, float scale, float shift)
{
    const __m128 v = _mm_setr_ps(scale, shift, 0, 0);
    const __m128i h = _mm_blendv_epi8(_mm_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT), _mm_set1_epi16(0x7e00),
                                      _mm_packs_epi32(_mm_castps_si128(_mm_cmpunord_ps(v, v)), _mm_setzero_si128()));
    const int32_t pair = _mm_cvtsi128_si32(h);
    __builtin_memcpy(p, &pair, 4);
}

INLINE void kv_store_f8(uint8_t *row, const float *x, int64_t d)
{
    float mn, mx;
    f32_range(x, d, &mn, &mx);
    const oct_kv_f8 s = oct_kv_f8_from_range(mn, mx);
    const __m256 mul = _mm256_set1_ps(s.mul), add = _mm256_set1_ps(s.add);
    int64_t i = 0;
    put_f16_pair(row, s.scale, s.shift);
    for (row += 4; i + 32 <= d; i += 32) {
        __m256 v[4];
        for (int j = 0; j < 4; j++) v[j] = _mm256_fmadd_ps(_mm256_loadu_ps(x + i + 8 * j), mul, add);
        _mm256_storeu_si256((__m256i *)(row + i), f32x32_to_f8e4m3fn(v[0], v[1], v[2], v[3]));
    }
    for (; i < d; i += 8) {
        const int64_t n = oct_min(8, d - i);
        const __m128i codes = f32x8_to_f8e4m3fn(_mm256_fmadd_ps(load_f32x8(x + i, n), mul, add));
        if (n == 8) _mm_storel_epi64((__m128i *)(row + i), codes);
        else store_bytes(row + i, codes, n);
    }
}

/* 8 values as codes in dwords. */
INLINE __m256i i4_codes(__m256 x, __m256 shift, __m256 mul)
{
    const __m256 r = _mm256_max_ps(_mm256_mul_ps(_mm256_sub_ps(x, shift), mul), _mm256_setzero_ps()); /* NaN: 0 */
    return _mm256_cvtps_epi32(_mm256_min_ps(r, _mm256_set1_ps(15.0f)));
}
INLINE void kv_store_i4(uint8_t *row, const float *x, int64_t d, int64_t groups)
{
    const int64_t n = d / groups;
    uint8_t *codes = row + 4 * groups;
    for (int64_t g = 0; g < groups; g++, x += n, codes += n / 2) {
        float mn, mx;
        f32_range(x, n, &mn, &mx);
        const oct_kv_i4 s = oct_kv_i4_from_range(mn, mx);
        const __m256 shift = _mm256_set1_ps(s.shift), mul = _mm256_set1_ps(s.mul);
        put_f16_pair(row + 4 * g, s.scale, s.shift);
        for (int64_t i = 0; i < n; i += 32) {
            __m256i c[4];
            for (int j = 0; j < 4; j++) c[j] = i4_codes(load_f32x8(x + i + 8 * j, oct_max(0, oct_min(8, n - i - 8 * j))), shift, mul);
            const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(_mm256_packs_epi32(c[0], c[1]), _mm256_packs_epi32(c[2], c[3])),
                                                              _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            const __m256i pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi16(0x1001)); /* low + 16 high */
            const __m128i out = _mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
            if (n - i >= 32) _mm_storeu_si128((__m128i *)(codes + i / 2), out);
            else store_bytes(codes + i / 2, out, (n - i) / 2);
        }
    }
}

/* Writes d values as a row of kv's format. */
INLINE void kv_store_row(const oct_kv *kv, uint8_t *row, const float *x)
{
    if (kv->format == OCT_KV_F8_TOKEN) kv_store_f8(row, x, kv->d);
    else if (kv->format == OCT_KV_I4) kv_store_i4(row, x, kv->d, kv->groups);
    else
        for (int64_t i = 0; i < kv->d; i += 8) store_bf16x8((uint16_t *)(void *)row + i, _mm256_loadu_ps(x + i), oct_min(8, kv->d - i));
}

/* ---- Loading ---------------------------------------------------------------------------------------------------- */

INLINE float get_f16(const uint8_t *p)
{
    uint16_t h;
    __builtin_memcpy(&h, p, 2);
    return _cvtsh_ss(h);
}

/* 8 nibbles of 4 bytes -> their values in order. */
INLINE __m256 i4_to_f32x8(uint32_t nibbles)
{
    const __m256i n = _mm256_srlv_epi32(_mm256_set1_epi32((int)nibbles), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
    return _mm256_cvtepi32_ps(_mm256_and_si256(n, _mm256_set1_epi32(15)));
}

/* Elements [e, e + n) of a row as f32 in y, which has room for n rounded up to 8; e is even. */
INLINE void kv_load_row(const oct_kv *kv, const uint8_t *row, int64_t e, int64_t n, float *y)
{
    if (kv->format == OCT_KV_BF16) {
        for (int64_t i = 0; i < n; i += 8) _mm256_storeu_ps(y + i, load_bf16x8((const uint16_t *)(const void *)row + e + i, n - i));
    } else if (kv->format == OCT_KV_F8_TOKEN) {
        const __m256 scale = _mm256_set1_ps(get_f16(row)), shift = _mm256_set1_ps(get_f16(row + 2));
        for (int64_t i = 0; i < n; i += 8) {
            const uint8_t *p = row + 4 + e + i;
            const __m128i codes = n - i >= 8 ? _mm_loadl_epi64((const __m128i *)p) : load_bytes(p, n - i);
            _mm256_storeu_ps(y + i, _mm256_fmadd_ps(scale, f8e4m3fn_to_f32x8(codes), shift));
        }
    } else {
        const int64_t size = kv->d / kv->groups;
        for (int64_t i = 0; i < n;) { /* to the end of the group, or of the part */
            const uint8_t *param = row + 4 * ((e + i) / size), *p = row + 4 * kv->groups + (e + i) / 2;
            const __m256 scale = _mm256_set1_ps(get_f16(param)), shift = _mm256_set1_ps(get_f16(param + 2));
            const int64_t end = oct_min(n, i + size - (e + i) % size);
            for (; i < end; i += oct_min(8, end - i), p += 4) {
                uint32_t nibbles = 0;
                if (end - i >= 8) __builtin_memcpy(&nibbles, p, 4);
                else __builtin_memcpy(&nibbles, p, (size_t)(end - i) / 2);
                _mm256_storeu_ps(y + i, _mm256_fmadd_ps(scale, i4_to_f32x8(nibbles), shift));
            }
        }
    }
}
#endif
