/* num.cuh - units of 16 elements on Hopper: loads, stores, conversions, the scale rules. A thread holds a unit in
 * registers; rows are cut into units, the last of a row may be short. */
#ifndef OCTAVO_ISA_SM90_NUM_CUH
#define OCTAVO_ISA_SM90_NUM_CUH
#include <stdint.h>

#define DEVICE static __device__ __forceinline__
enum { F32, BF16, F16 }; /* template parameters, and the order of a module's kernels; octavo.h's values are others */
enum { UNIT = 16 };
#define EVICT_FIRST 0x12f0000000000000ull /* as createpolicy makes it */

/* ---- Programmatic launches: see core/cuda.h ---- */
DEVICE void chain_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
DEVICE void chain_launch() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

/* ---- The largest of several threads' ---- */

DEVICE float warp_max(float a) { return __uint_as_float(__reduce_max_sync(~0u, __float_as_uint(a))); } /* a >= 0: ordered as integers */
/* Of a CTA of whole warps; every thread gets it. Once, or with a barrier between. */
DEVICE float cta_max(float a)
{
    __shared__ float part[32];
    a = warp_max(a);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = a;
    __syncthreads();
    a = threadIdx.x % 32 < blockDim.x / 32 ? part[threadIdx.x % 32] : 0;
    return warp_max(a);
}

/* ---- A unit ---- */
template <int T> struct unit;
template <> struct unit<F32> { uint32_t w[16]; };
template <> struct unit<BF16> { uint32_t w[8]; };
template <> struct unit<F16> { uint32_t w[8]; };
template <int T> struct type;
template <> struct type<F32> { enum { BYTES = 4 }; };
template <> struct type<BF16> { enum { BYTES = 2 }; };
template <> struct type<F16> { enum { BYTES = 2 }; };

/* No hint: two loads of a thread share a sector of 32 bytes, which L1 has to keep in between (L1::no_allocate costs 3 %, and
 * 12 % for f32). Volatile: loads stay where they stand, before the first use of any. */
DEVICE uint4 load16(const void *p)
{
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    return v;
}
template <int T> DEVICE uint32_t load_word(const void *p) { return T == F32 ? *(const uint32_t *)p : *(const uint16_t *)p; }

/* A whole unit, p aligned to 16 bytes. */
template <int T> DEVICE unit<T> load_whole(const char *p)
{
    unit<T> u;
#pragma unroll
    for (int i = 0; i < UNIT * type<T>::BYTES / 16; i++) {
        const uint4 v = load16(p + 16 * i);
        u.w[4 * i] = v.x, u.w[4 * i + 1] = v.y, u.w[4 * i + 2] = v.z, u.w[4 * i + 3] = v.w;
    }
    return u;
}

/* The same if `there`, else zeros. */
template <int T> DEVICE unit<T> load_if(bool there, const char *p)
{
    unit<T> u;
#pragma unroll
    for (int i = 0; i < UNIT * type<T>::BYTES / 16; i++) {
        const uint4 v = there ? load16(p + 16 * i) : make_uint4(0, 0, 0, 0);
        u.w[4 * i] = v.x, u.w[4 * i + 1] = v.y, u.w[4 * i + 2] = v.z, u.w[4 * i + 3] = v.w;
    }
    return u;
}

/* The first n elements from p on; the others are 0. wide: p is aligned to 16 bytes. step: where units are not aligned, threads
 * side by side take elements side by side, and a thread those `step` apart: so the accesses of a warp lie together. */
template <int T> DEVICE unit<T> load_unit(const char *p, int n, bool wide, int step = 1)
{
    enum { PER = 4 / type<T>::BYTES };
    unit<T> u;
    if (wide && n >= UNIT) return load_whole<T>(p);
#pragma unroll
    for (int i = 0; i < UNIT / PER; i++) u.w[i] = 0;
#pragma unroll
    for (int i = 0; i < UNIT; i++)
        if (i * step < n) u.w[i / PER] |= load_word<T>(p + i * step * type<T>::BYTES) << (i % PER * 16);
    return u;
}

DEVICE float element(const unit<F32> &u, int i) { return __uint_as_float(u.w[i]); }
DEVICE float element(const unit<BF16> &u, int i)
{
    return __uint_as_float(i % 2 ? u.w[i / 2] & 0xffff0000u : u.w[i / 2] << 16);
}

DEVICE float half_to_f32(uint32_t h) { float v; asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"((uint16_t)h)); return v; }
DEVICE float element(const unit<F16> &u, int i) { return half_to_f32(i % 2 ? u.w[i / 2] >> 16 : u.w[i / 2]); }

/* Largest magnitude, NaN ignored, kept as the format keeps it until the end. */
DEVICE uint32_t amax_start() { return 0; }
DEVICE uint32_t amax_of(const unit<F32> &u, uint32_t m)
{
    float a = __uint_as_float(m);
#pragma unroll
    for (int i = 0; i < 16; i++) a = fmaxf(a, fabsf(__uint_as_float(u.w[i])));
    return __float_as_uint(a);
}
DEVICE uint32_t amax_of(const unit<BF16> &u, uint32_t m)
{
    /* magnitudes compare; the sign, which comes out as that of the product, is dropped at the end */
#pragma unroll
    for (int i = 0; i < 8; i++) asm("max.xorsign.abs.bf16x2 %0, %0, %1;" : "+r"(m) : "r"(u.w[i]));
    return m & 0x7fff7fffu;
}
DEVICE uint32_t amax_of(const unit<F16> &u, uint32_t m)
{
#pragma unroll
    for (int i = 0; i < 8; i++) asm("max.xorsign.abs.f16x2 %0, %0, %1;" : "+r"(m) : "r"(u.w[i]));
    return m & 0x7fff7fffu;
}
/* The same an element: a unit of maxima, whose signs mean nothing. */
DEVICE void maxima_of(const unit<F32> &u, unit<F32> &m)
{
#pragma unroll
    for (int i = 0; i < 16; i++) m.w[i] = __float_as_uint(fmaxf(fabsf(__uint_as_float(m.w[i])), fabsf(__uint_as_float(u.w[i]))));
}
DEVICE void maxima_of(const unit<BF16> &u, unit<BF16> &m)
{
#pragma unroll
    for (int i = 0; i < 8; i++) asm("max.xorsign.abs.bf16x2 %0, %0, %1;" : "+r"(m.w[i]) : "r"(u.w[i]));
}
DEVICE void maxima_of(const unit<F16> &u, unit<F16> &m)
{
#pragma unroll
    for (int i = 0; i < 8; i++) asm("max.xorsign.abs.f16x2 %0, %0, %1;" : "+r"(m.w[i]) : "r"(u.w[i]));
}
template <int T> DEVICE float amax_end(uint32_t m)
{
    if (T == F32) return __uint_as_float(m);
    if (T == F16) return fmaxf(half_to_f32(m), half_to_f32(m >> 16));
    return fmaxf(__uint_as_float(m << 16), __uint_as_float(m & 0xffff0000u));
}
/* ---- FP8 ---- */

/* 4 f32 -> 4 f8e4m3fn, nearest even, saturating; NaN gives 0x7F. */
DEVICE uint32_t f8x4(float a, float b, float c, float d)
{
    uint16_t lo, hi;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(lo) : "f"(b), "f"(a));
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(hi) : "f"(d), "f"(c));
    return (uint32_t)lo | (uint32_t)hi << 16;
}

/* 2 f8e4m3fn codes in the low 16 bits -> 2 f32, exact; NaN for NaN. */
DEVICE float2 f8x2_to_f32(uint32_t codes)
{
    uint32_t h;
    float2 v;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(h) : "h"((uint16_t)codes));
    asm("{.reg .f16 lo, hi;\nmov.b32 {lo, hi}, %2;\ncvt.f32.f16 %0, lo;\ncvt.f32.f16 %1, hi;}" : "=f"(v.x), "=f"(v.y) : "r"(h));
    return v;
}

/* The NaN of octavo.h. */
DEVICE float one_nan(float x) { return x != x ? __int_as_float(0x7fc00000) : x; }
/* 2 f32 -> 2 bf16, nearest even; NaN gives 0x7FC0. */
DEVICE uint32_t bf16x2(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    if (lo != lo) r = (r & 0xffff0000u) | 0x7fc0u;
    if (hi != hi) r = (r & 0x0000ffffu) | 0x7fc00000u;
    return r;
}

/* 2 f32 -> 2 f16, nearest even; NaN gives 0x7E00. */
DEVICE uint32_t f16x2(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    if (lo != lo) r = (r & 0xffff0000u) | 0x7e00u;
    if (hi != hi) r = (r & 0x0000ffffu) | 0x7e000000u;
    return r;
}

/* The first n of 16 codes, as load_unit has them. wide: p is aligned to 16 bytes. */
DEVICE void store_codes(uint8_t *p, const uint32_t *c, int n, bool wide, int step = 1)
{
    if (wide && n >= UNIT) {
        *(uint4 *)p = make_uint4(c[0], c[1], c[2], c[3]);
        return;
    }
#pragma unroll
    for (int i = 0; i < UNIT; i++)
        if (i * step < n) p[i * step] = (uint8_t)(c[i / 4] >> (i % 4 * 8));
}

/* For a second pass, whose input may be in L2 from the first, to leave it there until it was read: neither what has been
 * read again nor the codes displace what has not. */
template <int T> DEVICE unit<T> load_whole_again(const char *p)
{
    unit<T> u;
#pragma unroll
    for (int i = 0; i < UNIT * type<T>::BYTES / 16; i++)
        asm volatile("ld.global.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
                     : "=r"(u.w[4 * i]), "=r"(u.w[4 * i + 1]), "=r"(u.w[4 * i + 2]), "=r"(u.w[4 * i + 3])
                     : "l"(p + 16 * i), "l"(EVICT_FIRST));
    return u;
}
DEVICE void store_whole_again(uint8_t *p, const uint32_t *c)
{
    asm volatile("st.global.L2::cache_hint.v4.u32 [%0], {%1, %2, %3, %4}, %5;" ::"l"(p), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]),
                 "l"(EVICT_FIRST) : "memory");
}

/* ---- The scale rules of octavo.h: every line is one f32 operation ---- */

/* How x becomes a code: sat(x * factor), or sat(x / divisor).
 * The division is correctly rounded, by Newton steps from q = x * (1/s), whose remainders an FMA gives exactly. A bf16
 * dividend needs one step, the others two. The signs are arranged so that a remainder of zero keeps a zero quotient's
 * sign. Where the quotient may lie far outside the codes' range (a given scale, a bound below amax, infinities), it is
 * taken as it is there: the remainder could overflow. lift is a power of two that brings a tiny or huge divisor to where
 * its reciprocal is normal. */
struct coder {
    float factor, divisor, inverse, lift;
};
enum { BY_FACTOR, BY_DIVISOR, BY_ANY_DIVISOR };

DEVICE coder divide_by(float s)
{
    coder c;
    const float a = fabsf(s);
    c.factor = 0;
    c.lift = a < 0x1p-90f ? 0x1p90f : a > 0x1p90f ? 0x1p-60f : 1.0f;
    c.divisor = s * c.lift;
    c.inverse = 1.0f / c.divisor;
    return c;
}
/* Returns the scale that is stored; ub: the bound of amax, infinity for none. */
DEVICE float coder_of(int rule_eps, float amax, float ub, coder *c, int *how)
{
    const bool bound = ub < amax; /* false for NaN */
    if (bound) amax = ub;
    if (rule_eps) {
        *how = BY_FACTOR;
        c->factor = 448.0f / fmaxf(amax, 1e-12f);
        return 1.0f / c->factor;
    }
    const float s = fmaxf(amax / 448.0f, 1.0f / (448.0f * 512.0f));
    *c = divide_by(s);
    *how = bound || s > 0x1p90f ? BY_ANY_DIVISOR : BY_DIVISOR;
    return s;
}

template <int T> DEVICE float quotient(float x, const coder &c)
{
    float q = x * c.inverse;
    q = fmaf(fmaf(q, c.divisor, -x), -c.inverse, q);
    if (T != BF16) q = fmaf(fmaf(q, c.divisor, -x), -c.inverse, q);
    return q;
}
template <int T> DEVICE float any_quotient(float x, const coder &c)
{
    const float lifted = x * c.lift, q = lifted * c.inverse;
    return fabsf(q) > 0x1p-13f && fabsf(q) < 0x1p15f ? quotient<T>(lifted, c) : q;
}

template <int T, int HOW> DEVICE void encode_by(const unit<T> &u, const coder &c, uint32_t *out)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float q[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float x = element(u, 4 * i + j);
            q[j] = HOW == BY_FACTOR ? x * c.factor : HOW == BY_DIVISOR ? quotient<T>(x, c) : any_quotient<T>(x, c);
        }
        out[i] = f8x4(q[0], q[1], q[2], q[3]);
    }
}
template <int T> DEVICE void encode(const unit<T> &u, const coder &c, int how, uint32_t *out)
{
    if (how == BY_FACTOR) encode_by<T, BY_FACTOR>(u, c, out);
    else if (how == BY_DIVISOR) encode_by<T, BY_DIVISOR>(u, c, out);
    else encode_by<T, BY_ANY_DIVISOR>(u, c, out);
}
#endif
