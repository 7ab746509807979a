/* quant.h - the stages of quantization to f8e4m3fn on AVX2, for runs of f32, bf16 or f16 in memory: amax, scale, encode. */
#ifndef OCTAVO_ISA_AVX2_QUANT_H
#define OCTAVO_ISA_AVX2_QUANT_H
#include "core/num/scale.h"
#include "isa/avx2/num.h"

/* ---- Streams ---- */

/* A row of a matrix that is read from memory once. The hardware's own prefetch stops at pages; `ahead` bytes further
 * on, in the rows that follow if there are so many, is what will be read a thousand cycles later. */
enum { AHEAD = 12 << 10 };
typedef struct stream {
    const char *row;
    int64_t ahead;
} stream;
INLINE int64_t ahead_of(int64_t rows, int64_t ld, int64_t size)
{ return rows > 1 && (rows - 1) * ld * size >= AHEAD ? AHEAD : 0; }
INLINE stream stream_of(const void *p, int32_t dtype, int64_t i, int64_t m, int64_t ld)
{
    const int64_t size = bytes_of(dtype);
    return (stream){ (const char *)p + i * ld * size, ahead_of(m - i, ld, size) };
}
/* n <= 8 elements from j on. */
INLINE __m256 stream_load(const stream *s, int32_t dtype, int64_t j, int64_t n)
{
    _mm_prefetch(s->row + s->ahead + j * bytes_of(dtype), _MM_HINT_T0);
    return load_first(s->row, dtype, j, n);
}

/* ---- amax ---- */

/* As f32 bits, whose order is that of the magnitudes. any counts NaN, so that it is above F32_INF_BITS when there is
 * one; number ignores NaN. Both combine by maximum, in any order. */
enum { F32_INF_BITS = 0x7f800000 };
typedef struct amax {
    uint32_t any, number;
} amax;

INLINE amax amax_of_both(amax a, amax b)
{ return (amax){ a.any > b.any ? a.any : b.any, a.number > b.number ? a.number : b.number }; }

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

/* Magnitudes of 8 f32, 16 bf16 or 16 f16, whose bits order them; with no_nan, NaN gives 0. */
INLINE __m256i magnitudes(__m256i v, int32_t dtype, int no_nan)
{
    const int words = dtype != OCT_F32;
    v = _mm256_and_si256(v, words ? _mm256_set1_epi16(0x7fff) : _mm256_set1_epi32(0x7fffffff));
    if (!no_nan) return v;
    const short infinity = dtype == OCT_F16 ? 0x7c00 : F32_INF_BITS >> 16;
    return _mm256_andnot_si256(words ? _mm256_cmpgt_epi16(v, _mm256_set1_epi16(infinity))
                                     : _mm256_cmpgt_epi32(v, _mm256_set1_epi32(F32_INF_BITS)),
                               v);
}
INLINE __m256i max_of_both(__m256i a, __m256i b, int32_t dtype)
{ return dtype != OCT_F32 ? _mm256_max_epu16(a, b) : _mm256_max_epu32(a, b); }
/* The largest of them, as f32 bits. */
INLINE uint32_t max_bits(__m256i v, int32_t dtype)
{
    if (dtype == OCT_F32) return max_of_u32(v);
    return dtype == OCT_BF16 ? max_of_u16(v) << 16 : oct_f32_bits(_cvtsh_ss((unsigned short)max_of_u16(v)));
}

INLINE uint32_t amax_bits(const void *x, int32_t dtype, int64_t n, int no_nan)
{
    const int64_t bytes = n * bytes_of(dtype);
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
    return max_bits(v, dtype);
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
    float factor;      /* divisor s (DIVIDE_PLAIN) or multiplier */
    float rest;        /* DIVIDE: factor + rest is 1 / s */
    uint32_t own_amax; /* the values' amax, when its code is 126 */
} coder;

/* DIVIDE computes q = x r1 + x r2 with r1 = 1 / s and r2 = (1 - s r1) r1 (the parenthesis by fma, so exact), each
 * operation rounded once, instead of x / s. For an easy divisor its code is that of RN(x / s), RN being rounding to
 * f32.
 *
 * Before its last rounding q is v + e, where v = x / s and |e| <= 3.1 u^2 v: r1 + r2 is off by a relative 2.01 u^2, and
 * x r2 by u of itself. In units of half an ulp of v that is at most 6.2 2^-24. The codes of RN(v) and RN(v + e) differ
 * only when a number B, where RN steps onto or off a middle M between two codes, lies between v and v + e. M has at
 * most 5 significant bits, so B in those units is an integer H = 2^20 h + 1 or - 1. With X and S the 24-bit integers of
 * x and s, v = X 2^k / S, k >= 24; so D = X 2^k - H S is an integer, and |D| <= 6.2 2^-24 S <= 6. Modulo 2^20, D = S or
 * -S: only an S whose last 20 bits are within 6 of 0 can do that, and those are not easy. S = 0 modulo 2^20 is easy:
 * then D = 0, v would be B, but H, which is odd and has 25 bits, does not divide X 2^k.
 *
 * x is a magnitude, since the sum may be +0 where x is -0. r2 is normal for s <= 2^100, and v < 2^-11 have code 0
 * either way. tests/test_exhaustive.c tries the divisors that are left out: one does go wrong. */
INLINE int easy_divisor(float s)
{
    const uint32_t bits = oct_f32_bits(s);
    return s <= 0x1p100f && (!(bits & 0xfffff) || ((bits + 8) & 0xfffff) > 16);
}

INLINE coder coder_given(float scale) { return (coder){ DIVIDE_PLAIN, scale, 0, 0 }; }

/* The stored scale by rule, and the coder for the scope that a is the amax of. */
INLINE float coder_of(int32_t rule, amax a, float ub, coder *c)
{
    float factor;
    const float number = oct_f32_from_bits(a.number), s = oct_scale_of(rule, number, ub, &factor);
    const int own = a.any < F32_INF_BITS && !(ub < number);
    if (rule != OCT_RULE_MIN) *c = (coder){ own ? MULTIPLY : MULTIPLY_PLAIN, factor, 0, 0 };
    else if (own && easy_divisor(s)) {
        const float r = 1.0f / s;
        *c = (coder){ DIVIDE, r, __builtin_fmaf(-s, r, 1.0f) * r, 0 };
    } else *c = (coder){ DIVIDE_PLAIN, s, 0, 0 };
    if (c->way >= DIVIDE && number > (rule == OCT_RULE_MIN ? OCT_SCALE_MIN * OCT_F8E4M3FN_MAX : OCT_AMAX_MIN))
        c->own_amax = a.any;
    return s;
}

/* ---- encode 32 ---- */

INLINE __m256 scaled(__m256 x, coder_way way, __m256 factor, __m256 rest)
{
    if (way == DIVIDE_PLAIN) return _mm256_div_ps(x, factor);
    const __m256 p = _mm256_mul_ps(x, way == DIVIDE ? rest : factor);
    return way == DIVIDE ? _mm256_fmadd_ps(x, factor, p) : p;
}

/* bf16, scaled none above 464 and none NaN: the even and the odd elements are a shift and a mask away from f32. */
INLINE __m256i encode32_bf16(const uint16_t *x, coder_way way, __m256 factor, __m256 rest)
{
    __m256i h[2], w[2];
    for (int i = 0; i < 2; i++) {
        h[i] = _mm256_loadu_si256((const __m256i *)(x + 16 * i));
        const __m256i mag = _mm256_and_si256(h[i], _mm256_set1_epi16(0x7fff));
        const __m256 even = _mm256_castsi256_ps(_mm256_slli_epi32(mag, 16));
        const __m256 odd = _mm256_castsi256_ps(_mm256_and_si256(mag, _mm256_set1_epi32((int)0xffff0000)));
        w[i] = f8e4m3fn_codes(_mm256_packs_epi32(f8e4m3fn_steps(scaled(even, way, factor, rest)),
                                                 f8e4m3fn_steps(scaled(odd, way, factor, rest))));
    }
    const __m256i order = _mm256_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15, 0, 4, 1, 5, 2, 6, 3, 7,
                                           8, 12, 9, 13, 10, 14, 11, 15);
    const __m256i mag = _mm256_shuffle_epi8(_mm256_packus_epi16(w[0], w[1]), order);
    const __m256i sign = _mm256_and_si256(_mm256_packs_epi16(h[0], h[1]), _mm256_set1_epi8((char)0x80));
    return _mm256_permute4x64_epi64(_mm256_or_si256(mag, sign), 0xd8);
}

INLINE __m256i encode32(const void *x, int32_t dtype, int64_t at, coder_way way, __m256 factor, __m256 rest)
{
    __m256 v[4], q[4];
    if (dtype == OCT_BF16 && way >= DIVIDE) return encode32_bf16((const uint16_t *)x + at, way, factor, rest);
    for (int i = 0; i < 4; i++) {
        v[i] = load_8(x, dtype, at + 8 * i);
        q[i] = scaled(way >= DIVIDE ? f32x8_abs(v[i]) : v[i], way, factor, rest);
    }
    if (way < DIVIDE) return f32x32_to_f8e4m3fn(q[0], q[1], q[2], q[3]);
    return unpack_order(
        _mm256_or_si256(magnitudes_to_f8e4m3fn(q[0], q[1], q[2], q[3]), sign_bytes(v[0], v[1], v[2], v[3])));
}

/* ---- Long runs of bf16 ---- */

/* Where codes are normal (8 and above), halving x lowers its code by 8. So for a given scale the code follows from the
 * exponent and the 7 bits m of the mantissa: code = 8 exponent + f(m). f rises by at most 8 over the 128 values of m,
 * and never twice within 8; so in each of 16 segments it is base[m / 8], and one more for m > last[m / 8].
 *
 * Let u = max(bits of |x| - start, 0), where start is 19 octaves below amax (whose code is 126): what is below it has
 * code 0, and u = 0. Then, in bytes, sum = u / 16 + (base[] - m / 16) + (m > last[]) and code = max(sum - 120, 0).
 *
 * That is wrong only for subnormal codes: where zero < sum < 128, zero being the sum of u = 0. */
typedef struct segments {
    __m256i base, last;  /* 16 bytes, twice */
    __m256i start, zero; /* words; bytes */
} segments;

/* The low words of 16 qwords as bytes, in order. */
INLINE __m128i qwords_to_bytes(const __m256i *q)
{
    const __m256i w = _mm256_packus_epi32(_mm256_packus_epi32(q[0], q[1]), _mm256_packus_epi32(q[2], q[3]));
    const __m256i b = _mm256_packus_epi16(w, w);
    return _mm_unpacklo_epi16(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
}

/* From the codes of all m, four octaves below amax. */
INLINE segments segments_of(uint32_t own_amax, coder_way way, __m256 factor, __m256 rest)
{
    const int exponent = (int)(own_amax >> 23);
    __m256i base[4], above[4], m = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint16_t x[128];
    m = _mm256_add_epi16(m, _mm256_set1_epi16((short)((exponent - 4) << 7)));
    for (int i = 0; i < 8; i++)
        _mm256_storeu_si256((__m256i *)(x + 16 * i), _mm256_add_epi16(m, _mm256_set1_epi16((short)(16 * i))));
    for (int i = 0; i < 4; i++) { /* a segment is a qword: its first code, and how much all 8 lie above it */
        const __m256i f = encode32_bf16(x + 32 * i, way, factor, rest);
        base[i] = _mm256_and_si256(f, _mm256_set1_epi64x(0xff));
        above[i] = _mm256_sub_epi64(_mm256_sad_epu8(f, _mm256_setzero_si256()), _mm256_slli_epi64(base[i], 3));
    }
    const __m128i first = qwords_to_bytes(base);
    const __m128i m_16 = _mm_setr_epi8(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const __m128i end = _mm_setr_epi8(7, 15, 23, 31, 39, 47, 55, 63, 71, 79, 87, 95, 103, 111, 119, 127);
    return (segments){ _mm256_broadcastsi128_si256(_mm_sub_epi8(first, m_16)),
                       _mm256_broadcastsi128_si256(_mm_sub_epi8(end, qwords_to_bytes(above))),
                       _mm256_set1_epi16((short)((exponent - 19) << 7)), _mm256_broadcastb_epi8(first) };
}

/* *wrong: bytes that are not 0 where the code may be. */
INLINE __m256i encode32_segments(const uint16_t *x, const segments *s, __m256i *wrong)
{
    const __m256i h0 = _mm256_loadu_si256((const __m256i *)x), h1 = _mm256_loadu_si256((const __m256i *)(x + 16));
    const __m256i low15 = _mm256_set1_epi16(0x7fff), low7 = _mm256_set1_epi16(0x7f);
    const __m256i u0 = _mm256_subs_epu16(_mm256_and_si256(h0, low15), s->start);
    const __m256i u1 = _mm256_subs_epu16(_mm256_and_si256(h1, low15), s->start);
    const __m256i m = _mm256_packus_epi16(_mm256_and_si256(u0, low7), _mm256_and_si256(u1, low7));
    const __m256i u_16 = _mm256_packus_epi16(_mm256_srli_epi16(u0, 4), _mm256_srli_epi16(u1, 4));
    const __m256i segment = _mm256_and_si256(_mm256_srli_epi16(m, 3), _mm256_set1_epi8(15));
    const __m256i step = _mm256_cmpgt_epi8(m, _mm256_shuffle_epi8(s->last, segment)); /* -1 */
    const __m256i sum = _mm256_sub_epi8(_mm256_add_epi8(u_16, _mm256_shuffle_epi8(s->base, segment)), step);
    /* 127 - zero > sum - zero - 1 >= 0, unsigned */
    const __m256i above = _mm256_sub_epi8(_mm256_sub_epi8(sum, s->zero), _mm256_set1_epi8(1));
    *wrong = _mm256_or_si256(*wrong, _mm256_subs_epu8(_mm256_sub_epi8(_mm256_set1_epi8(127), s->zero), above));
    const __m256i mag = _mm256_subs_epu8(sum, _mm256_set1_epi8(120));
    const __m256i sign = _mm256_and_si256(_mm256_packs_epi16(h0, h1), _mm256_set1_epi8((char)0x80));
    return _mm256_permute4x64_epi64(_mm256_or_si256(mag, sign), 0xd8);
}

/* ---- encode ---- */

/* While a run is encoded, the amax of the run that comes next is taken and what lies `ahead` bytes behind it is
 * fetched: one steady stream from memory instead of turns of waiting and computing. */
typedef struct follower {
    stream next; /* row NULL: none; else as long as the run */
    __m256i max[2];
} follower;

INLINE void follow(follower *f, int32_t dtype, int64_t at)
{
    if (!f->next.row) return;
    for (int i = 0; i < bytes_of(dtype) / 2; i++) { /* 64 bytes: 32 bf16 or f16, or half as many f32 */
        const char *p = f->next.row + at * bytes_of(dtype) + 64 * i;
        _mm_prefetch(p + f->next.ahead, _MM_HINT_T0);
        for (int j = 0; j < 2; j++)
            f->max[j] = max_of_both(f->max[j], magnitudes(_mm256_loadu_si256((const __m256i *)p + j), dtype, 0), dtype);
    }
}

enum { LONG = 1024 }; /* from here on the segments are worth their making */

INLINE uint32_t encode_way(const void *x, int32_t dtype, int64_t n, uint8_t *y, const coder *c, coder_way way,
                           stream next)
{
    const __m256 factor = _mm256_set1_ps(c->factor), rest = _mm256_set1_ps(c->rest);
    const int64_t size = bytes_of(dtype);
    follower f = { next, { _mm256_setzero_si256(), _mm256_setzero_si256() } };
    int64_t j = 0;
    if (dtype == OCT_BF16 && way >= DIVIDE && n >= LONG && c->own_amax) {
        const segments s = segments_of(c->own_amax, way, factor, rest);
        for (; j + 128 <= n; j += 128) {
            __m256i wrong = _mm256_setzero_si256();
            for (int i = 0; i < 4; i++) {
                const int64_t at = j + 32 * i;
                follow(&f, dtype, at);
                _mm256_storeu_si256((__m256i *)(y + at), encode32_segments((const uint16_t *)x + at, &s, &wrong));
            }
            if (__builtin_expect(_mm256_testz_si256(wrong, wrong), 1)) continue;
            for (int64_t at = j; at < j + 128; at += 32)
                _mm256_storeu_si256((__m256i *)(y + at), encode32(x, dtype, at, way, factor, rest));
        }
    }
    for (; j + 32 <= n; j += 32) {
        follow(&f, dtype, j);
        _mm256_storeu_si256((__m256i *)(y + j), encode32(x, dtype, j, way, factor, rest));
    }
    uint32_t any = 0;
    if (next.row) {
        const uint32_t tail = amax_bits(next.row + j * size, dtype, n - j, 0);
        any = max_bits(max_of_both(f.max[0], f.max[1], dtype), dtype);
        if (tail > any) any = tail;
    }
    if (j == n) return any;
    if (n >= 32) { /* some twice: harmless */
        _mm256_storeu_si256((__m256i *)(y + n - 32), encode32(x, dtype, n - 32, way, factor, rest));
        return any;
    }
    char in[128] = { 0 }, out[32];
    __builtin_memcpy(in, x, (size_t)(n * size));
    _mm256_storeu_si256((__m256i *)out, encode32(in, dtype, 0, way, factor, rest));
    __builtin_memcpy(y, out, (size_t)n);
    return any;
}

/* Codes of n values. next: n values whose amax (NaN included) is returned; no row: 0 is. */
INLINE uint32_t encode(const void *x, int32_t dtype, int64_t n, uint8_t *y, const coder *c, stream next)
{
    switch (c->way) {
    case DIVIDE_PLAIN: return encode_way(x, dtype, n, y, c, DIVIDE_PLAIN, next);
    case MULTIPLY_PLAIN: return encode_way(x, dtype, n, y, c, MULTIPLY_PLAIN, next);
    case DIVIDE: return encode_way(x, dtype, n, y, c, DIVIDE, next);
    default: return encode_way(x, dtype, n, y, c, MULTIPLY, next);
    }
}
#endif
