// norm_quant_sm90.cu - residual add, RMSNorm and quantization on Hopper.
//   row   a row in the registers of a CTA: read once
//   loop  longer rows, and groups that are not 16 to 512 columns wide
#include "isa/sm90/rows.cuh"
#include "norm_quant/norm_quant_sm90.h"

/* r = 1 / sqrt(mean + eps), split into a power of two and a factor, neither subnormal nor infinite for any row. */
struct root { float power, r; };
DEVICE root root_of(const norm_params &p, double sum)
{
    const double x = fma(sum, p.inv_k, (double)p.eps);
    double r;
    asm("rsqrt.approx.ftz.f64 %0, %1;" : "=d"(r) : "d"(x)); // about 20 bits; each step doubles them
    if (x > 0 && x < 0x1p1000) r = r * fma(-0.5 * x * r, r, 1.5), r = r * fma(-0.5 * x * r, r, 1.5);
    root s = { 1.0f, 0 };
    if (r > 0x1p100) s.power = 0x1p64f, r *= 0x1p-64;
    if (r < 0x1p-100) s.power = 0x1p-64f, r *= 0x1p64;
    s.r = (float)r;
    return s;
}

/* In double: no square over- or underflows, and the order does not matter to the bound. Every thread gets the sum. */
template <int TH> DEVICE double cta_sum(double s)
{
    __shared__ double part[TH / 32];
#pragma unroll
    for (int d = 16; d; d /= 2) s += __shfl_xor_sync(~0u, s, d);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
    __syncthreads();
    s = threadIdx.x % 32 < TH / 32 ? part[threadIdx.x % 32] : 0;
#pragma unroll
    for (int d = TH / 64; d; d /= 2) s += __shfl_xor_sync(~0u, s, d);
    return __shfl_sync(~0u, s, 0);
}

DEVICE float round_bf16(float x) { return __uint_as_float(bf16x2(x, 0) << 16); }

DEVICE void store_unit(char *p, const float *h, int n, bool wide)
{
    if (wide && n >= UNIT)
#pragma unroll
        for (int i = 0; i < 4; i++)
            ((float4 *)p)[i] = make_float4(one_nan(h[4 * i]), one_nan(h[4 * i + 1]), one_nan(h[4 * i + 2]), one_nan(h[4 * i + 3]));
    else
#pragma unroll
        for (int i = 0; i < UNIT; i++)
            if (i < n) ((float *)p)[i] = one_nan(h[i]);
}

/* Weights come from L1 or L2: all rows read the same. */
DEVICE void times_weight(const norm_params &p, int64_t col, int n, float *v)
{
    if (!p.weight) return;
    if (p.weight_bf16) {
        unit<BF16> w;
        const char *at = (const char *)p.weight + col * 2;
        if (n >= UNIT && (uint64_t)p.weight % 16 == 0) {
            const uint4 a = __ldg((const uint4 *)at), b = __ldg((const uint4 *)at + 1);
            w.w[0] = a.x, w.w[1] = a.y, w.w[2] = a.z, w.w[3] = a.w, w.w[4] = b.x, w.w[5] = b.y, w.w[6] = b.z, w.w[7] = b.w;
        } else w = load_unit<BF16>(at, n, false);
#pragma unroll
        for (int i = 0; i < UNIT; i++) v[i] *= element(w, i);
    } else {
        const float *at = (const float *)p.weight + col;
#pragma unroll
        for (int i = 0; i < UNIT; i++)
            if (i < n) v[i] *= __ldg(at + i);
    }
}

/* A unit of h. When it is rounded to bf16, as residual_out is, it is kept so: half the registers. */
template <bool PACKED> struct held;
template <> struct held<true> { unit<BF16> w; };
template <> struct held<false> { float h[UNIT]; };
DEVICE float element(const held<true> &u, int i) { return element(u.w, i); }
DEVICE float element(const held<false> &u, int i) { return u.h[i]; }

/* PACKED: residual_out is given, and bf16. */
template <int X, int R, int TH, int U, bool PACKED> DEVICE void row_in_registers(const norm_params &p)
{
    chain_launch();
    chain_wait();
    const int64_t row = blockIdx.x;
    const int k = (int)p.k;
    unit<X> x[U];
    unit<R> res[U];
    held<PACKED> h[U];
    double sum = 0;
#pragma unroll
    for (int i = 0; i < U; i++) {
        const int col = (i * TH + threadIdx.x) * UNIT;
        x[i] = load_unit<X>(p.x + (row * p.ldx + col) * type<X>::BYTES, k - col, p.wide);
        if (p.residual) res[i] = load_unit<R>(p.residual + (row * p.ld_residual + col) * type<R>::BYTES, k - col, p.wide);
    }
    const float ub = p.out.scaling == ROWS_NONE ? 0 : rows_bound(p.out);
#pragma unroll
    for (int i = 0; i < U; i++) {
        const int col = (i * TH + threadIdx.x) * UNIT, n = k - col;
        char *to = p.residual_out + (row * p.ld_residual_out + col) * type<R>::BYTES;
        if constexpr (PACKED) {
#pragma unroll
            for (int j = 0; j < UNIT; j += 2) {
                float a = element(x[i], j), b = element(x[i], j + 1);
                if (p.residual) a += element(res[i], j), b += element(res[i], j + 1);
                h[i].w.w[j / 2] = bf16x2(a, b);
            }
            if (p.wide && n >= UNIT) {
                ((uint4 *)to)[0] = make_uint4(h[i].w.w[0], h[i].w.w[1], h[i].w.w[2], h[i].w.w[3]);
                ((uint4 *)to)[1] = make_uint4(h[i].w.w[4], h[i].w.w[5], h[i].w.w[6], h[i].w.w[7]);
            } else
#pragma unroll
                for (int j = 0; j < UNIT; j++)
                    if (j < n) ((uint16_t *)to)[j] = (uint16_t)(h[i].w.w[j / 2] >> (j % 2 * 16));
        } else {
#pragma unroll
            for (int j = 0; j < UNIT; j++) {
                h[i].h[j] = element(x[i], j);
                if (p.residual) h[i].h[j] += element(res[i], j);
            }
            if (R == F32 && p.residual_out) store_unit(to, h[i].h, n, p.wide);
        }
#pragma unroll
        for (int j = 0; j < UNIT; j++) {
            const double e = element(h[i], j);
            sum = fma(e, e, sum);
        }
    }
    const root r = root_of(p, cta_sum<TH>(sum));
    float a = 0, scale, v[U][UNIT];
#pragma unroll
    for (int i = 0; i < U; i++) {
        const int col = (i * TH + threadIdx.x) * UNIT;
#pragma unroll
        for (int j = 0; j < UNIT; j++) v[i][j] = element(h[i], j) * r.power * r.r;
        if (col < k) times_weight(p, col, k - col, v[i]);
        if (p.out.scaling == ROWS_NONE) store_values(p.out, row, col, v[i], k - col);
        else if (p.out.scaling == ROWS_GROUP) store_group(p.out, row, col, v[i], ub, k - col, col < k);
        else a = fmaxf(a, amax_of_values(v[i]));
    }
    if (p.out.scaling != ROWS_ROW) return;
    a = cta_max(a);
    const float factor = factor_of(p.out, a, ub, &scale);
    if (threadIdx.x == 0) p.out.scale[row] = scale;
#pragma unroll
    for (int i = 0; i < U; i++) {
        const int col = (i * TH + threadIdx.x) * UNIT;
        store_as_codes(p.out, row, col, v[i], factor, k - col);
    }
}
#define ROW(name, X, R, PACKED, TH, U, OCC)                                                                                    \
    extern "C" __global__ void __launch_bounds__(TH, OCC) norm_row_##name##_##TH##x##U(const __grid_constant__ norm_params p) \
    { row_in_registers<X, R, TH, U, PACKED>(p); }
#define ALL(TH, U, OCC)                                                                                                        \
    ROW(f32_f32, F32, F32, false, TH, U, OCC) ROW(f32_bf16, F32, BF16, true, TH, U, OCC)                                       \
    ROW(bf16_f32, BF16, F32, false, TH, U, OCC)
#define BF16_BF16(TH, U, OCC) ROW(bf16_bf16, BF16, BF16, true, TH, U, OCC)
NORM_ROW_KERNELS(ALL)
NORM_BF16_KERNELS(BF16_BF16)
#undef ALL
#undef BF16_BF16
#undef ROW

extern "C" __global__ void __launch_bounds__(NORM_LOOP_THREADS, 2) norm_loop(const __grid_constant__ norm_params p)
{
    chain_launch();
    chain_wait();
    const int64_t row = blockIdx.x;
    const int64_t at_x = row * p.ldx, at_r = row * p.ld_residual, at_o = row * p.ld_residual_out;
    double sum = 0;
    for (int64_t j = threadIdx.x; j < p.k; j += NORM_LOOP_THREADS) {
        float h = load_value(p.x, p.x_bf16, at_x + j);
        if (p.residual) h += load_value(p.residual, p.residual_bf16, at_r + j);
        if (p.residual_out) {
            if (p.residual_bf16) {
                h = round_bf16(h);
                ((uint16_t *)p.residual_out)[at_o + j] = (uint16_t)bf16x2(h, 0);
            } else ((float *)p.residual_out)[at_o + j] = one_nan(h);
        }
        sum = fma((double)h, (double)h, sum);
    }
    const root r = root_of(p, cta_sum<NORM_LOOP_THREADS>(sum)); // behind its barrier residual_out is complete
    write_row_in_loops<NORM_LOOP_THREADS>(p.out, row, p.k, [&](int64_t j) {
        float h;
        if (p.residual_out) h = load_value(p.residual_out, p.residual_bf16, at_o + j);
        else {
            h = load_value(p.x, p.x_bf16, at_x + j);
            if (p.residual) h += load_value(p.residual, p.residual_bf16, at_r + j);
        }
        h = h * r.power * r.r;
        return p.weight ? h * load_value(p.weight, p.weight_bf16, j) : h;
    });
}
