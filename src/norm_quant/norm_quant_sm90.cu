// norm_quant_sm90.cu - residual add, RMSNorm and quantization on Hopper.
//   row   a row in the registers of a CTA: read once
//   ring  the same for many rows, one after another in a CTA
//   loop  longer rows, and groups that are not 16 to 512 columns wide
#include "isa/sm90/ring.cuh"
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

/* In double: no square over- or underflows, and the order does not matter to the bound. Every thread gets the sum. Calls in a
 * row take turns 0 and 1. */
template <int TH> DEVICE double cta_sum(double s, int turn = 0)
{
    __shared__ double part[2][TH / 32];
#pragma unroll
    for (int d = 16; d; d /= 2) s += __shfl_xor_sync(~0u, s, d);
    if (threadIdx.x % 32 == 0) part[turn][threadIdx.x / 32] = s;
    __syncthreads();
    s = threadIdx.x % 32 < TH / 32 ? part[turn][threadIdx.x % 32] : 0;
#pragma unroll
    for (int d = TH / 64; d; d /= 2) s += __shfl_xor_sync(~0u, s, d);
    return __shfl_sync(~0u, s, 0);
}

DEVICE float round_bf16(float x) { return __uint_as_float(bf16x2(x, 0) << 16); }

template <int T> DEVICE void store_unit(char *p, const float *h, int n, bool wide)
{
    if (T == F32) {
        if (wide && n >= UNIT)
#pragma unroll
            for (int i = 0; i < 4; i++)
                ((float4 *)p)[i] = make_float4(one_nan(h[4 * i]), one_nan(h[4 * i + 1]), one_nan(h[4 * i + 2]), one_nan(h[4 * i + 3]));
        else
#pragma unroll
            for (int i = 0; i < UNIT; i++)
                if (i < n) ((float *)p)[i] = one_nan(h[i]);
    } else {
        uint32_t w[8];
#pragma unroll
        for (int i = 0; i < 8; i++) w[i] = bf16x2(h[2 * i], h[2 * i + 1]);
        if (wide && n >= UNIT) {
            ((uint4 *)p)[0] = make_uint4(w[0], w[1], w[2], w[3]);
            ((uint4 *)p)[1] = make_uint4(w[4], w[5], w[6], w[7]);
        } else
#pragma unroll
            for (int i = 0; i < UNIT; i++)
                if (i < n) ((uint16_t *)p)[i] = (uint16_t)(w[i / 2] >> (i % 2 * 16));
    }
}

/* h r weight, into h. Weights come from L1 or L2: all rows read the same. */
DEVICE void scale_unit(const norm_params &p, root r, int64_t col, int n, float *h)
{
    if (!p.weight) {
#pragma unroll
        for (int i = 0; i < UNIT; i++) h[i] = h[i] * r.power * r.r;
        return;
    }
    const bool wide = n >= UNIT && (uint64_t)p.weight % 16 == 0;
    if (p.weight_bf16) {
        unit<BF16> w;
        const char *at = (const char *)p.weight + col * 2;
        if (wide) {
            const uint4 a = __ldg((const uint4 *)at), b = __ldg((const uint4 *)at + 1);
            w.w[0] = a.x, w.w[1] = a.y, w.w[2] = a.z, w.w[3] = a.w, w.w[4] = b.x, w.w[5] = b.y, w.w[6] = b.z, w.w[7] = b.w;
        } else w = load_unit<BF16>(at, n, false);
#pragma unroll
        for (int i = 0; i < UNIT; i++) h[i] = h[i] * r.power * r.r * element(w, i);
    } else {
        const float *at = (const float *)p.weight + col;
#pragma unroll
        for (int i = 0; i < UNIT; i++)
            if (i < n) h[i] = h[i] * r.power * r.r * __ldg(at + i);
    }
}

/* residual may be written by the thread that read it: no read-only loads of it. */
template <int T> DEVICE unit<T> load_mutable(const char *p, int n, bool wide)
{
    if (!(wide && n >= UNIT)) return load_unit<T>(p, n, false);
    unit<T> u;
#pragma unroll
    for (int i = 0; i < UNIT * type<T>::BYTES / 16; i++) {
        uint4 v;
        asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p + 16 * i) : "memory");
        u.w[4 * i] = v.x, u.w[4 * i + 1] = v.y, u.w[4 * i + 2] = v.z, u.w[4 * i + 3] = v.w;
    }
    return u;
}

template <int X, int R, int TH, int U> DEVICE void row_in_registers(const norm_params &p)
{
    chain_launch();
    chain_wait();
    const int64_t row = blockIdx.x;
    const int k = (int)p.k;
    unit<X> x[U];
    unit<R> res[U];
    float h[U][UNIT];
    double sum = 0;
    const float ub = p.out.scaling == ROWS_NONE ? 0 : rows_bound(p.out);
#pragma unroll
    for (int i = 0; i < U; i++) {
        const int col = (i * TH + threadIdx.x) * UNIT;
        x[i] = load_unit<X>(p.x + (row * p.ldx + col) * type<X>::BYTES, k - col, p.wide);
        if (p.residual) res[i] = load_mutable<R>(p.residual + (row * p.ld_residual + col) * type<R>::BYTES, k - col, p.wide);
    }
#pragma unroll
    for (int i = 0; i < U; i++) {
        const int col = (i * TH + threadIdx.x) * UNIT;
#pragma unroll
        for (int j = 0; j < UNIT; j++) {
            h[i][j] = element(x[i], j);
            if (p.residual) h[i][j] += element(res[i], j);
            if (R == BF16 && p.residual_out) h[i][j] = round_bf16(h[i][j]);
        }
        if (p.residual_out)
            store_unit<R>(p.residual_out + (row * p.ld_residual_out + col) * type<R>::BYTES, h[i], k - col, p.wide);
#pragma unroll
        for (int j = 0; j < UNIT; j++) sum = fma((double)h[i][j], (double)h[i][j], sum);
    }
    const root r = root_of(p, cta_sum<TH>(sum));
    float a = 0, scale;
#pragma unroll
    for (int i = 0; i < U; i++) {
        const int col = (i * TH + threadIdx.x) * UNIT;
        if (col < k) scale_unit(p, r, col, k - col, h[i]);
        if (p.out.scaling == ROWS_NONE) store_values(p.out, row, col, h[i], k - col);
        else if (p.out.scaling == ROWS_GROUP) store_group(p.out, row, col, h[i], ub, k - col, col < k);
        else a = fmaxf(a, amax_of_values(h[i]));
    }
    if (p.out.scaling != ROWS_ROW) return;
    a = cta_max<TH>(a);
    const float factor = factor_of(p.out, a, ub, &scale);
    if (threadIdx.x == 0) p.out.scale[row] = scale;
#pragma unroll
    for (int i = 0; i < U; i++) {
        const int col = (i * TH + threadIdx.x) * UNIT;
        store_as_codes(p.out, row, col, h[i], factor, k - col);
    }
}
#define ROW(name, X, R, TH, U, OCC)                                                                                            \
    extern "C" __global__ void __launch_bounds__(TH, OCC) norm_row_##name##_##TH##x##U(const __grid_constant__ norm_params p) \
    { row_in_registers<X, R, TH, U>(p); }
#define ALL(TH, U, OCC) ROW(f32_f32, F32, F32, TH, U, OCC) ROW(f32_bf16, F32, BF16, TH, U, OCC) ROW(bf16_f32, BF16, F32, TH, U, OCC) ROW(bf16_bf16, BF16, BF16, TH, U, OCC)
NORM_ROW_KERNELS(ALL)

/* Many rows: a CTA takes one after another, and the next ones arrive in a ring of shared memory; weights stay in registers. */
template <int X, int R, int TH> DEVICE void rows_in_ring(const norm_params &p)
{
    extern __shared__ __align__(128) char ring[];
    __shared__ uint64_t full[NORM_MAX_STAGES];
    const int k = (int)p.k, col = threadIdx.x * UNIT;
    const uint32_t x_bytes = k * type<X>::BYTES, r_bytes = p.residual ? k * type<R>::BYTES : 0, r_at = (x_bytes + 127) & ~127u;
    const uint32_t slot = r_at + ((r_bytes + 127) & ~127u), slots = shared_address(ring), bars = shared_address(full);
    const auto fetch = [&](int64_t row, int stage) {
        barrier_expect(bars + 8 * stage, x_bytes + r_bytes);
        bulk_load(slots + stage * slot, p.x + row * p.ldx * type<X>::BYTES, x_bytes, bars + 8 * stage);
        if (p.residual) bulk_load(slots + stage * slot + r_at, p.residual + row * p.ld_residual * type<R>::BYTES, r_bytes, bars + 8 * stage);
    };
    chain_launch();
    if (threadIdx.x == 0) {
        for (int i = 0; i < p.stages; i++) barrier_init(bars + 8 * i, 1);
        barrier_init_done();
    }
    __syncthreads();
    chain_wait();
    if (threadIdx.x == 0)
        for (int i = 0; i < p.stages && blockIdx.x + (int64_t)i * gridDim.x < p.m; i++) fetch(blockIdx.x + (int64_t)i * gridDim.x, i);
    unit<BF16> w;
    if (p.weight_bf16) w = load_unit<BF16>((const char *)p.weight + col * 2, k - col, (uint64_t)p.weight % 16 == 0);
    const float ub = p.out.scaling == ROWS_NONE ? 0 : rows_bound(p.out);
    int stage = 0, parity = 0, turn = 0;
    for (int64_t row = blockIdx.x; row < p.m; row += gridDim.x, turn ^= 1) {
        float h[UNIT], scale;
        double sum = 0;
        barrier_wait(bars + 8 * stage, parity);
        {
            const uint32_t at = slots + stage * slot;
            const unit<X> x = load_unit_shared<X>(at + col * type<X>::BYTES, k - col);
            unit<R> res;
            if (p.residual) res = load_unit_shared<R>(at + r_at + col * type<R>::BYTES, k - col);
#pragma unroll
            for (int j = 0; j < UNIT; j++) {
                h[j] = element(x, j);
                if (p.residual) h[j] += element(res, j);
            }
        }
        if (p.residual_out) {
            if (R == BF16) {
                uint32_t rounded[8];
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    rounded[j] = bf16x2(h[2 * j], h[2 * j + 1]);
                    h[2 * j] = __uint_as_float(rounded[j] << 16);
                    h[2 * j + 1] = __uint_as_float(rounded[j] & 0xffff0000u);
                }
                if (col < k) { /* k % 8 == 0 */
                    uint4 *to = (uint4 *)(p.residual_out + (row * p.ld_residual_out + col) * 2);
                    to[0] = make_uint4(rounded[0], rounded[1], rounded[2], rounded[3]);
                    if (k - col > 8) to[1] = make_uint4(rounded[4], rounded[5], rounded[6], rounded[7]);
                }
            } else store_unit<R>(p.residual_out + (row * p.ld_residual_out + col) * type<R>::BYTES, h, k - col, true);
        }
#pragma unroll
        for (int j = 0; j < UNIT; j++) sum = fma((double)h[j], (double)h[j], sum);
        const root r = root_of(p, cta_sum<TH>(sum, turn)); // behind its barrier the slot is free
        const int64_t next = row + (int64_t)p.stages * gridDim.x;
        if (threadIdx.x == 0 && next < p.m) fetch(next, stage);
        if (++stage == p.stages) stage = 0, parity ^= 1;
        if (p.weight_bf16) {
#pragma unroll
            for (int j = 0; j < UNIT; j++) h[j] = h[j] * r.power * r.r * element(w, j);
        } else if (col < k) scale_unit(p, r, col, k - col, h);
        if (p.out.scaling == ROWS_NONE) store_values(p.out, row, col, h, k - col);
        else if (p.out.scaling == ROWS_GROUP) store_group(p.out, row, col, h, ub, k - col, col < k);
        else {
            const float factor = factor_of(p.out, cta_max<TH>(amax_of_values(h), turn), ub, &scale);
            if (threadIdx.x == 0) p.out.scale[row] = scale;
            store_as_codes(p.out, row, col, h, factor, k - col);
        }
    }
}
#define RING(name, X, R)                                                                                                         \
    extern "C" __global__ void __launch_bounds__(512, R == F32 ? 1 : 2) norm_ring_##name(const __grid_constant__ norm_params p) { rows_in_ring<X, R, 512>(p); }
RING(f32_f32, F32, F32) RING(f32_bf16, F32, BF16) RING(bf16_f32, BF16, F32) RING(bf16_bf16, BF16, BF16)

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
