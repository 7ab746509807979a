/* kv.h - rows of a KV cache on AVX2: storing a row of f32, loading part of a row as f32. The same bits as
 * core/num/kv.h, which says what the formats are. */
#ifndef OCTAVO_ISA_AVX2_KV_H
#define OCTAVO_ISA_AVX2_KV_H
#include "core/core.h"
#include "core/num/kv.h"
#include "isa/avx2/num.h"

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
        const __m128i codes = f32x8_to_f8e4m3fn(_mm256_fmadd_ps(load_first(x + i, OCT_F32, 0, n), mul, add));
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
            for (int j = 0; j < 4; j++) c[j] = i4_codes(load_first(x + i + 8 * j, OCT_F32, 0, oct_max(0, oct_min(8, n - i - 8 * j))), shift, mul);
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
        for (int64_t i = 0; i < kv->d; i += 8) store_first((uint16_t *)(void *)row + i, OCT_BF16, 0, _mm256_loadu_ps(x + i), oct_min(8, kv->d - i));
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
        for (int64_t i = 0; i < n; i += 8) _mm256_storeu_ps(y + i, load_first((const uint16_t *)(const void *)row + e + i, OCT_BF16, 0, n - i));
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
                if (end - i >= 8) {
                    __builtin_memcpy(&nibbles, p, 4);
                    _mm256_storeu_ps(y + i, _mm256_fmadd_ps(scale, i4_to_f32x8(nibbles), shift));
                } else {
                    __builtin_memcpy(&nibbles, p, (size_t)(end - i) / 2);
                    _mm256_maskstore_ps(y + i, first_lanes(end - i), _mm256_fmadd_ps(scale, i4_to_f32x8(nibbles), shift));
                }
            }
        }
    }
}

/* ---- Panels: parts of 32 rows transposed, for products with many queries ------------------------------------------ */

enum { KV_PANEL = 32 }; /* rows (of K), or columns (of V), of a panel */

/* 32 bytes of each of 8 rows, at `at` -> w[j]: dword j of the 8 rows. */
INLINE void transpose_dwords(const uint8_t *const row[8], int64_t at, __m256i w[8])
{
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        __m256i a[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            a[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(row[i] + at + 16 * half))),
                                           _mm_loadu_si128((const __m128i *)(row[i + 4] + at + 16 * half)), 1);
        const __m256i lo01 = _mm256_unpacklo_epi32(a[0], a[1]), hi01 = _mm256_unpackhi_epi32(a[0], a[1]);
        const __m256i lo23 = _mm256_unpacklo_epi32(a[2], a[3]), hi23 = _mm256_unpackhi_epi32(a[2], a[3]);
        w[4 * half + 0] = _mm256_unpacklo_epi64(lo01, lo23);
        w[4 * half + 1] = _mm256_unpackhi_epi64(lo01, lo23);
        w[4 * half + 2] = _mm256_unpacklo_epi64(hi01, hi23);
        w[4 * half + 3] = _mm256_unpackhi_epi64(hi01, hi23);
    }
}

/* The (f16 scale, f16 shift) pairs at `at` in each of 8 rows. */
INLINE void load_params(const uint8_t *const row[8], int64_t at, __m256 *scale, __m256 *shift)
{
    int32_t pair[8];
    for (int i = 0; i < 8; i++) __builtin_memcpy(&pair[i], row[i] + at, 4);
    const __m256i v = _mm256_loadu_si256((const __m256i *)pair);
    const __m256i h = _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_and_si256(v, _mm256_set1_epi32(0xffff)), _mm256_srli_epi32(v, 16)), 0xd8);
    *scale = _mm256_cvtph_ps(_mm256_castsi256_si128(h));
    *shift = _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1));
}

/* f8e4m3fn codes as f32 2^-120 times as large, without a multiplication: the magnitude in f32's place. The words of x
 * hold two codes each; e receives the even bytes' values, o the odd bytes', as bf16 pairs. NaN codes become numbers. */
INLINE void f8_words(__m256i x, __m256i *e, __m256i *o)
{
    const __m256i mask = _mm256_set1_epi16((short)0x87f0);
    __m256i sixteen = _mm256_set1_epi16(16);
    __asm__("" : "+x"(sixteen)); /* or clang makes two shifts of it */
    *e = _mm256_and_si256(_mm256_maddubs_epi16(sixteen, x), mask);
    *o = _mm256_and_si256(_mm256_srai_epi16(x, 4), mask);
}
/* All scales are below 2^7, so that 2^120 times one is a number. */
INLINE int scales_are_small(__m256 scale)
{
    const __m256 size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), scale);
    return _mm256_movemask_ps(_mm256_cmp_ps(size, _mm256_set1_ps(128.0f), _CMP_LT_OQ)) == 255;
}

/* 8 codes, or nibbles, of a row as they lie -> 8 f32 before scale and shift; F8: 2^-120 of the value. */
INLINE __m256 f8_raw(const uint8_t *p)
{
    const __m256i c = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_slli_epi32(c, 20), _mm256_set1_epi32((int)0x87f00000)));
}
INLINE __m256 i4_raw(const uint8_t *p)
{
    uint32_t nibbles;
    __builtin_memcpy(&nibbles, p, 4);
    return i4_to_f32x8(nibbles);
}

/* What 8 rows share in a step: parameters of element e on, and how many elements they hold for. */
typedef struct kv_params {
    __m256 scale, shift, mul; /* F8: mul = 2^120 scale */
    int64_t group, left;
    int small;
} kv_params;

INLINE void next_group(const oct_kv *kv, const uint8_t *const row[8], kv_params *p)
{
    load_params(row, 4 * p->group++, &p->scale, &p->shift);
    p->left = kv->d / kv->groups;
}

/* 32 bytes of each of 8 rows, at `at` (n elements; those behind are written too): out[32 e + i] = element e of row i. */
INLINE void load_step(const oct_kv *kv, const uint8_t *const params[8], const uint8_t *const row[8], int64_t at, int64_t n, kv_params *p, float *out)
{
    const __m256i high = _mm256_set1_epi32((int)0xffff0000), nibble = _mm256_set1_epi32(15);
    __m256i w[8], nan = _mm256_setzero_si256();
    transpose_dwords(row, at, w);
    if (kv->format == OCT_KV_BF16) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            _mm256_storeu_ps(out + KV_PANEL * (2 * j), _mm256_castsi256_ps(_mm256_slli_epi32(w[j], 16)));
            _mm256_storeu_ps(out + KV_PANEL * (2 * j + 1), _mm256_castsi256_ps(_mm256_and_si256(w[j], high)));
        }
    } else if (kv->format == OCT_KV_F8_TOKEN) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            __m256i even, odd;
            nan = _mm256_max_epu8(nan, _mm256_add_epi8(w[j], w[j]));
            f8_words(w[j], &even, &odd);
            const __m256i v[4] = { _mm256_slli_epi32(even, 16), _mm256_slli_epi32(odd, 16), _mm256_and_si256(even, high), _mm256_and_si256(odd, high) };
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) _mm256_storeu_ps(out + KV_PANEL * (4 * j + i), _mm256_fmadd_ps(_mm256_castsi256_ps(v[i]), p->mul, p->shift));
        }
        if (__builtin_expect(!p->small || _mm256_movemask_epi8(_mm256_cmpeq_epi8(nan, _mm256_set1_epi8((char)0xfe))), 0))
            for (int j = 0; j < 8; j++) /* NaN, or huge scales */
                for (int i = 0; i < 4; i++) {
                    const __m256i c = _mm256_srai_epi32(_mm256_sllv_epi32(w[j], _mm256_set1_epi32(24 - 8 * i)), 24);
                    _mm256_storeu_ps(out + KV_PANEL * (4 * j + i), _mm256_fmadd_ps(p->scale, f8e4m3fn_dwords_to_f32x8(c), p->shift));
                }
    } else {
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++, p->left -= 8) {
            if (kv->groups > 1 && !p->left && 8 * j < n) next_group(kv, params, p);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                const __m256i c = _mm256_and_si256(_mm256_srli_epi32(w[j], 4 * i), nibble);
                _mm256_storeu_ps(out + KV_PANEL * (8 * j + i), _mm256_fmadd_ps(p->scale, _mm256_cvtepi32_ps(c), p->shift));
            }
        }
    }
}

/* Elements [e, e + n) of 8 rows: y[32 i + j] = element e + i of row j. n <= 64, e is a multiple of 64; what follows n up
 * to 64 may be written. */
INLINE void kv_load_8_rows(const oct_kv *kv, const uint8_t *const row[8], int64_t e, int64_t n, float *y)
{
    const int bits = kv->format == OCT_KV_BF16 ? 16 : kv->format == OCT_KV_F8_TOKEN ? 8 : 4, step = 256 / bits;
    const int64_t first = (kv->format == OCT_KV_BF16 ? 0 : 4 * kv->groups) + e * bits / 8;
    kv_params p = { .group = 0 };
    if (kv->format == OCT_KV_I4 && kv->groups > 1) {
        const int64_t size = kv->d / kv->groups;
        if (size % 8) { /* groups end within a dword */
            for (int64_t i = 0; i < n; i++)
                for (int j = 0; j < 8; j++) {
                    const oct_kv_parts v = oct_kv_load(kv, row[j], e + i);
                    y[KV_PANEL * i + j] = fmaf(v.scale, v.code, v.shift);
                }
            return;
        }
        p.group = e / size;
        next_group(kv, row, &p);
        p.left -= e % size;
    } else if (kv->format != OCT_KV_BF16) {
        load_params(row, 0, &p.scale, &p.shift);
        p.small = scales_are_small(p.scale);
        p.mul = _mm256_mul_ps(p.scale, _mm256_set1_ps(0x1p120f));
    }
    int64_t i = 0;
    for (; i + step <= n; i += step) load_step(kv, row, row, first + i * bits / 8, step, &p, y + KV_PANEL * i);
    if (i < n) {
        uint8_t tail[8][32];
        const uint8_t *end[8];
        for (int j = 0; j < 8; j++) {
            memset(tail[j], 0, 32);
            memcpy(tail[j], row[j] + first + i * bits / 8, (size_t)((n - i) * bits / 8));
            end[j] = tail[j];
        }
        load_step(kv, row, end, 0, n - i, &p, y + KV_PANEL * i);
    }
}

/* Elements [e0, e0 + m) of n rows at data + at[i]: y[32 i + (e - e0)]. m <= 32; what follows m up to 32 may be
 * written. n <= 64, and at has valid entries up to a multiple of 8. */
INLINE void kv_load_columns(const oct_kv *kv, const uint8_t *data, const int64_t *at, int64_t n, int64_t e0, int64_t m, float *y)
{
    float scale[64], shift[64];
    const int64_t size = kv->d / kv->groups;
    int plain = m == KV_PANEL;
    if (kv->format == OCT_KV_I4) plain = plain && e0 / size == (e0 + m - 1) / size;
    if (kv->format != OCT_KV_BF16 && plain)
        for (int64_t i = 0; i < n; i += 8) {
            __m256 a, b;
            const uint8_t *row[8];
            for (int j = 0; j < 8; j++) row[j] = data + at[i + j];
            load_params(row, 4 * (e0 / size), &a, &b);
            if (kv->format == OCT_KV_F8_TOKEN) {
                if (!scales_are_small(a)) plain = 0;
                a = _mm256_mul_ps(a, _mm256_set1_ps(0x1p120f));
            }
            _mm256_storeu_ps(scale + i, a);
            _mm256_storeu_ps(shift + i, b);
        }
    if (!plain) {
        for (int64_t i = 0; i < n; i++) kv_load_row(kv, data + at[i], e0, m, y + KV_PANEL * i);
        return;
    }
    for (int64_t i = 0; i < n; i++, y += KV_PANEL) {
        const uint8_t *p = data + at[i];
        if (kv->format == OCT_KV_BF16) {
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                _mm256_storeu_ps(y + 8 * j, bf16_to_f32x8(_mm_loadu_si128((const __m128i *)(p + 2 * (e0 + 8 * j)))));
        } else {
            const __m256 a = _mm256_broadcast_ss(scale + i), b = _mm256_broadcast_ss(shift + i);
            if (kv->format == OCT_KV_F8_TOKEN) {
                const __m256i c = _mm256_loadu_si256((const __m256i *)(p + 4 + e0));
                const __m256i nan = _mm256_cmpeq_epi8(_mm256_add_epi8(c, c), _mm256_set1_epi8((char)0xfe));
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) _mm256_storeu_ps(y + 8 * j, _mm256_fmadd_ps(f8_raw(p + 4 + e0 + 8 * j), a, b));
                if (__builtin_expect(!_mm256_testz_si256(nan, nan), 0)) kv_load_row(kv, p, e0, m, y);
            } else {
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) _mm256_storeu_ps(y + 8 * j, _mm256_fmadd_ps(i4_raw(p + 4 * kv->groups + e0 / 2 + 4 * j), a, b));
            }
        }
    }
}
#endif
