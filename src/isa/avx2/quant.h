/* quant.h - the stages of quantization to f8e4m3fn on AVX2, for runs of f32 or bf16 in memory: amax, scale, encode. */
#ifndef OCTAVO_ISA_AVX2_QUANT_H
#define OCTAVO_ISA_AVX2_QUANT_H
#include "core/num/scale.h"
#include "isa/avx2/num.h"

/* ---- amax ---- */

/* As f32 bits, whose order is that of the magnitudes. any counts NaN, so that it is above F32_INF_BITS when there is
 * one; number ignores NaN. Both combine by maximum, in any order. */
enum { F32_INF_BITS = 0x7f800000 };
typedef struct amax { uint32_t any, number; } amax;

INLINE amax amax_of_both(amax a, amax b)
{
    return (amax){ a.any > b.any ? a.any : b.any, a.number > b.number ? a.number : b.number };
}

INLINE uint32_t max_of_u32(__m256i v)
{
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}
INLINE uint32_t max_of_u16(__m256i v)
{
    const __m128i m = _mm_max_epu16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    const __m128i ones = _mm_set1_epi16(-1);
    return 0xffff ^ ((uint32_t)_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(m, ones))) & 0xffff);
}

/* Magnitudes of 8 f32 or 16 bf16; with no_nan, NaN gives 0. */
INLINE __m256i magnitudes(__m256i v, int32_t dtype, int no_nan)
{
    const int bf16 = dtype == OCT_BF16;
    v = _mm256_and_si256(v, bf16 ? _mm256_set1_epi16(0x7fff) : _mm256_set1_epi32(0x7fffffff));
    if (!no_nan) return v;
    return _mm256_andnot_si256(bf16 ? _mm256_cmpgt_epi16(v, _mm256_set1_epi16(F32_INF_BITS >> 16))
                                    : _mm256_cmpgt_epi32(v, _mm256_set1_epi32(F32_INF_BITS)), v);
}
INLINE __m256i max_of_both(__m256i a, __m256i b, int32_t dtype)
{
    return dtype == OCT_BF16 ? _mm256_max_epu16(a, b) : _mm256_max_epu32(a, b);
}

INLINE uint32_t amax_bits(const void *x, int32_t dtype, int64_t n, int no_nan)
{
    const int64_t size = dtype == OCT_BF16 ? 2 : 4, bytes = n * size;
    const char *p = x;
    __m256i m[4] = { 0 };
    int64_t at = 0;
#define LOAD(at) magnitudes(_mm256_loadu_si256((const __m256i *)(p + (at))), dtype, no_nan)
    for (; at + 128 <= bytes; at += 128)
        for (int i = 0; i < 4; i++) m[i] = max_of_both(m[i], LOAD(at + 32 * i), dtype);
    for (; at + 32 <= bytes; at += 32) m[0] = max_of_both(m[0], LOAD(at), dtype);
    if (at < bytes) {
        if (bytes >= 32) m[1] = max_of_both(m[1], LOAD(bytes - 32), dtype); /* some twice: harmless */
        else {
            char b[32] = { 0 };
            __builtin_memcpy(b, p, (size_t)bytes);
            m[1] = magnitudes(_mm256_loadu_si256((const __m256i *)b), dtype, no_nan);
        }
    }
#undef LOAD
    const __m256i v = max_of_both(max_of_both(m[0], m[1], dtype), max_of_both(m[2], m[3], dtype), dtype);
    return dtype == OCT_BF16 ? max_of_u16(v) << 16 : max_of_u32(v);
}

INLINE amax amax_of(const void *x, int32_t dtype, int64_t n)
{
    const uint32_t any = amax_bits(x, dtype, n, 0);
    return (amax){ any, any > F32_INF_BITS ? amax_bits(x, dtype, n, 1) : any };
}

/* ---- scale ---- */

/* How values become codes. The plain ways take everything: they saturate, give 0x7F for NaN, and divide truly. The
 * others are for scales that come from the values' own amax, all finite: nothing is above 464 after scaling then. */
typedef enum coder_way { DIVIDE_PLAIN, MULTIPLY_PLAIN, DIVIDE, MULTIPLY } coder_way;
typedef struct coder {
    coder_way way;
    float factor; /* divisor or multiplier */
    float inv;    /* DIVIDE: 1 / factor */
} coder;

/* DIVIDE computes q1 = q0 + (x - q0 s) r with q0 = x r and r = 1 / s, each operation rounded once, instead of x / s. Its
 * code is that of RN(x / s), RN being rounding to f32:
 *   Before its last rounding q1 is v + e, v = x / s, |e| <= 4.01 u^2 v (r is off by a relative u, q0 by 2 u, the
 *   remainder by u): at most 8.02 2^-24 in units of half an ulp of v. The codes of RN(v) and RN(v + e) differ only when
 *   a number B, where RN steps onto or off a middle M between two codes, lies between v and v + e. M has at most 5
 *   significant bits, so that B in those units is an H = 2^20 h +- 1. With X, S the 24-bit integers of x and s,
 *   v = X 2^k / S, k >= 24, and d = X 2^k - H S is an integer, |d| <= 8.02 2^-24 S <= 8. Modulo 2^20, d = -+S: only an S
 *   whose last 20 bits are within 8 of 0 can do that. For S = 0 modulo 2^20, d = 0: v would be B, but an odd H of 25 bits
 *   does not divide X 2^k. The other 128 values of S, with all their H and X, are tried by tests/test_exhaustive.c.
 * x is a magnitude, since the remainder may be +0 where x is -0. Nothing under- or overflows where v >= 2^-11, and
 * 2^-18 < s < 2^120; smaller v have code 0 either way. */
INLINE coder coder_given(float scale) { return (coder){ DIVIDE_PLAIN, scale, 0 }; }

/* The stored scale by rule, and the coder for the scope that a is the amax of. */
INLINE float coder_of(int32_t rule, amax a, float ub, coder *c)
{
    float factor;
    const float number = oct_f32_from_bits(a.number), s = oct_scale_of(rule, number, ub, &factor);
    const int own = a.any < F32_INF_BITS && !(ub < number);
    if (rule != OCT_RULE_MIN) *c = (coder){ own ? MULTIPLY : MULTIPLY_PLAIN, factor, 0 };
    else *c = (coder){ own ? DIVIDE : DIVIDE_PLAIN, s, 1.0f / s };
    return s;
}

/* ---- encode ---- */

INLINE __m256 scaled(__m256 x, coder_way way, __m256 factor, __m256 inv)
{
    if (way == DIVIDE_PLAIN) return _mm256_div_ps(x, factor);
    if (way != DIVIDE) return _mm256_mul_ps(x, factor);
    const __m256 q = _mm256_mul_ps(x, inv);
    return _mm256_fmadd_ps(_mm256_fnmadd_ps(q, factor, x), inv, q);
}

/* 32 bf16, scaled none above 464 and none NaN: the even and the odd elements are a shift and a mask away from f32. */
INLINE __m256i encode32_bf16(const uint16_t *x, coder_way way, __m256 factor, __m256 inv)
{
    __m256i h[2], w[2];
    for (int i = 0; i < 2; i++) {
        h[i] = _mm256_loadu_si256((const __m256i *)(x + 16 * i));
        const __m256i mag = _mm256_and_si256(h[i], _mm256_set1_epi16(0x7fff));
        const __m256 even = _mm256_castsi256_ps(_mm256_slli_epi32(mag, 16));
        const __m256 odd = _mm256_castsi256_ps(_mm256_and_si256(mag, _mm256_set1_epi32((int)0xffff0000)));
        w[i] = f8e4m3fn_codes(_mm256_packs_epi32(f8e4m3fn_steps(scaled(even, way, factor, inv)),
                                                 f8e4m3fn_steps(scaled(odd, way, factor, inv))));
    }
    const __m256i order = _mm256_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15,
                                           0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    const __m256i mag = _mm256_shuffle_epi8(_mm256_packus_epi16(w[0], w[1]), order);
    const __m256i sign = _mm256_and_si256(_mm256_packs_epi16(h[0], h[1]), _mm256_set1_epi8((char)0x80));
    return _mm256_permute4x64_epi64(_mm256_or_si256(mag, sign), 0xd8);
}

INLINE __m256i encode32(const void *x, int32_t dtype, int64_t at, coder_way way, __m256 factor, __m256 inv)
{
    __m256 v[4], q[4];
    if (dtype == OCT_BF16 && way >= DIVIDE) return encode32_bf16((const uint16_t *)x + at, way, factor, inv);
    for (int i = 0; i < 4; i++) {
        v[i] = load_8(x, dtype, at + 8 * i);
        q[i] = scaled(way >= DIVIDE ? f32x8_abs(v[i]) : v[i], way, factor, inv);
    }
    if (way < DIVIDE) return f32x32_to_f8e4m3fn(q[0], q[1], q[2], q[3]);
    return unpack_order(_mm256_or_si256(magnitudes_to_f8e4m3fn(q[0], q[1], q[2], q[3]), sign_bytes(v[0], v[1], v[2], v[3])));
}

INLINE void encode_way(const void *x, int32_t dtype, int64_t n, uint8_t *y, const coder *c, coder_way way)
{
    const __m256 factor = _mm256_set1_ps(c->factor), inv = _mm256_set1_ps(c->inv);
    const int64_t size = dtype == OCT_BF16 ? 2 : 4;
    int64_t j = 0;
    for (; j + 32 <= n; j += 32) _mm256_storeu_si256((__m256i *)(y + j), encode32(x, dtype, j, way, factor, inv));
    if (j == n) return;
    if (n >= 32) { /* some twice: harmless */
        _mm256_storeu_si256((__m256i *)(y + n - 32), encode32(x, dtype, n - 32, way, factor, inv));
        return;
    }
    char in[128] = { 0 }, out[32];
    __builtin_memcpy(in, x, (size_t)(n * size));
    _mm256_storeu_si256((__m256i *)out, encode32(in, dtype, 0, way, factor, inv));
    __builtin_memcpy(y, out, (size_t)n);
}

INLINE void encode(const void *x, int32_t dtype, int64_t n, uint8_t *y, const coder *c)
{
    switch (c->way) {
    case DIVIDE_PLAIN:   encode_way(x, dtype, n, y, c, DIVIDE_PLAIN); break;
    case MULTIPLY_PLAIN: encode_way(x, dtype, n, y, c, MULTIPLY_PLAIN); break;
    case DIVIDE:         encode_way(x, dtype, n, y, c, DIVIDE); break;
    default:             encode_way(x, dtype, n, y, c, MULTIPLY); break;
    }
}

/* ---- Rows of computed values: norm_quant, silu_mul_quant ---- */

/* Where a row of values goes. With scaling NONE they are rounded to dtype, else to codes with a scale a row or group. */
typedef struct row_out {
    int32_t scaling, rule, layout, dtype;
    int64_t k, block_k;
    void *y;
    int64_t ldy;
    float *scale;
    int64_t ld_scale;
    float ub;
} row_out;
#define ROW_OUT(a)                                                                                                     \
    { (a)->scaling, (a)->rule, (a)->scale_layout, (a)->y_dtype, (a)->k, (a)->block_k, (a)->y, (a)->ldy, (a)->scale,    \
      (a)->ld_scale, (a)->scale_ub ? *(a)->scale_ub : INFINITY }

enum { ROW_BUF = 8192 }; /* floats of a task's buffer, on its stack */

/* Puts values [j, j + n) of row i into v. A row of k <= ROW_BUF is asked for once, each part at its place in the buffer;
 * a longer one in parts at the buffer's beginning, and twice where an amax has to be known first. */
typedef void row_fill(const void *ctx, int64_t i, int64_t j, int64_t n, float *v);
INLINE float *fill_part(const row_out *o, int64_t i, int64_t j, int64_t n, float *buf, row_fill *fill, const void *ctx)
{
    float *v = o->k <= ROW_BUF ? buf + j : buf;
    fill(ctx, i, j, n, v);
    return v;
}
INLINE int64_t part_of(int64_t j, int64_t end) { return end - j < ROW_BUF ? end - j : ROW_BUF; }

/* [j0, j1) share a scale. */
INLINE void write_codes(const row_out *o, int64_t i, int64_t j0, int64_t j1, float *scale, float *buf, row_fill *fill,
                        const void *ctx)
{
    uint8_t *y = (uint8_t *)o->y + i * o->ldy;
    const float *v = buf;
    amax m = { 0, 0 };
    coder c;
    for (int64_t j = j0; j < j1; j += ROW_BUF) {
        v = fill_part(o, i, j, part_of(j, j1), buf, fill, ctx);
        m = amax_of_both(m, amax_of(v, OCT_F32, part_of(j, j1)));
    }
    *scale = coder_of(o->rule, m, o->ub, &c);
    for (int64_t j = j0; j < j1; j += ROW_BUF) {
        if (j1 - j0 > ROW_BUF) v = fill_part(o, i, j, part_of(j, j1), buf, fill, ctx);
        encode(v, OCT_F32, part_of(j, j1), y + j, &c);
    }
}

INLINE void write_row(const row_out *o, int64_t i, float *buf, row_fill *fill, const void *ctx)
{
    if (o->scaling == OCT_SCALE_ROW) write_codes(o, i, 0, o->k, &o->scale[i], buf, fill, ctx);
    else if (o->scaling == OCT_SCALE_GROUP)
        for (int64_t j = 0, g = 0; j < o->k; j += o->block_k, g++)
            write_codes(o, i, j, o->k - j < o->block_k ? o->k : j + o->block_k,
                        &o->scale[o->layout == OCT_MN_MAJOR ? g * o->ld_scale + i : i * o->ld_scale + g], buf, fill, ctx);
    else
        for (int64_t j = 0; j < o->k; j += ROW_BUF) {
            const float *v = fill_part(o, i, j, part_of(j, o->k), buf, fill, ctx);
            for (int64_t e = 0, n = part_of(j, o->k); e < n; e += 8) {
                const int64_t some = n - e < 8 ? n - e : 8;
                store_first(o->y, o->dtype, i * o->ldy + j + e, load_first(v, OCT_F32, e, some), some);
            }
        }
}
#endif
