// silu_mul_quant_sm90.cu - SwiGLU's product on Hopper.
//   flat  no scale, or groups of 1 to 32 neighbouring threads: a unit a thread
//   row   a row in the registers of a CTA, or of a cluster (when there are few rows, or long ones)
//   loop  other rows and groups
#include "isa/sm90/cluster.cuh"
#include "isa/sm90/rows.cuh"
#include "silu_mul_quant/silu_mul_quant_sm90.h"

DEVICE float max_nan(float a, float b) { float r; asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }

DEVICE float exp2_approx(float x) { float r; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }
DEVICE float reciprocal(float x) { float r; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x)); return r; }

/* gate / (1 + exp(-gate)) up, as gate (2^-32 / (2^-32 + 2^-32 exp(-gate))) up, whose parts stay normal where the result
 * counts. exp(-gate) = 2^t (1 + d), t = -gate log2(e) rounded and d the rest times ln 2; 2^t is the square of 2^(t/2), which
 * fits. ex2.approx errs by 2^-22.5, squared 2^-21.5: 5.7 u; d^2, the sums, rcp.approx and the products add at most 9.5 u.
 * T: a bf16 gate times the first 15 bits of log2(e) is exact. A gate below -110 gives -0 times up, as -infinity does;
 * beyond 100 exp(-gate) does not count. */
template <int T> DEVICE float silu_mul(float gate, float up)
{
    const float g = max_nan(gate, -110.0f), x = fminf(g, 100.0f);
    float half, d;
    if (T == BF16) {
        half = x * (-0x1.7154p-1f);                   /* t/2 */
        d = x * (-0x1.480fb6p-18f);                   /* -(log2(e) - 0x1.7154p0) ln 2 */
    } else {
        const float t = x * -0x1.715476p0f;
        half = t * 0.5f;
        d = fmaf(x, -0x1.4ae0cp-26f, fmaf(x, -0x1.715476p0f, -t)) * 0x1.62e43p-1f;
    }
    const float r = exp2_approx(half), e = r * (r * 0x1p-32f);
    return g * (reciprocal(fmaf(e, d, e) + 0x1p-32f) * 0x1p-32f) * up;
}

template <int T> DEVICE void silu_unit(const unit<T> &gate, const unit<T> &up, float *v)
{
#pragma unroll
    for (int i = 0; i < UNIT; i++) v[i] = silu_mul<T>(element(gate, i), element(up, i));
}
template <int T> DEVICE unit<T> load_at(const char *p, int64_t ld, int64_t row, int64_t col, int n, bool wide)
{
    return load_unit<T>(p + (row * ld + col) * type<T>::BYTES, n, wide);
}

template <int T> DEVICE void flat(const silu_params &p)
{
    chain_launch();
    chain_wait();
    const int64_t t = (int64_t)blockIdx.x * SILU_FLAT_THREADS + threadIdx.x;
    const int64_t row = (p.m * p.units >> 32) ? t / p.units : (int64_t)((uint32_t)t / (uint32_t)p.units);
    int64_t col = (t - row * p.units) * UNIT;
    int n = (int)max(min(p.k - col, (int64_t)UNIT), (int64_t)0);
    if (row >= p.m) n = 0;
    float v[UNIT];
    silu_unit(load_at<T>(p.gate, p.ld_gate, row, col, n, p.wide), load_at<T>(p.up, p.ld_up, row, col, n, p.wide), v);
    if (p.out.scaling == ROWS_NONE) store_values(p.out, row, col, v, n);
    else store_group(p.out, row, col, v, rows_bound(p.out), n, n > 0);
}
extern "C" __global__ void __launch_bounds__(SILU_FLAT_THREADS, 4) silu_flat_f32(const __grid_constant__ silu_params p) { flat<F32>(p); }
extern "C" __global__ void __launch_bounds__(SILU_FLAT_THREADS, 5) silu_flat_bf16(const __grid_constant__ silu_params p) { flat<BF16>(p); }

template <int T, int TH, int U, bool CLUSTER> DEVICE void row_in_registers(const silu_params &p)
{
    __shared__ exchange shared;
    const uint32_t rank = CLUSTER ? cluster_rank() : 0, size = CLUSTER ? cluster_size() : 1;
    if (CLUSTER) exchange_open(&shared);
    else chain_launch();
    chain_wait();
    if (CLUSTER) chain_launch();
    const int64_t row = CLUSTER ? blockIdx.x / size : blockIdx.x;
    float v[U][UNIT], a = 0, scale;
    const float ub = rows_bound(p.out);
#pragma unroll
    for (int i = 0; i < U; i++) {
        const int col = (int)((rank * U + i) * TH + threadIdx.x) * UNIT, n = (int)p.k - col;
        silu_unit(load_at<T>(p.gate, p.ld_gate, row, col, n, p.wide), load_at<T>(p.up, p.ld_up, row, col, n, p.wide), v[i]);
        a = fmaxf(a, amax_of_values(v[i]));
    }
    a = cta_max(a);
    if (CLUSTER) a = exchange_max(&shared, a, rank, size);
    const float factor = factor_of(p.out, a, ub, &scale);
    if (threadIdx.x == 0 && rank == 0) p.out.scale[row] = scale;
#pragma unroll
    for (int i = 0; i < U; i++) {
        const int col = (int)((rank * U + i) * TH + threadIdx.x) * UNIT;
        store_as_codes(p.out, row, col, v[i], factor, (int)p.k - col);
    }
}
#define X(TH, U, OCC_F32, OCC_BF16)                                                                                       \
    extern "C" __global__ void __launch_bounds__(TH, OCC_F32) silu_row_f32_##TH##x##U(const __grid_constant__ silu_params p)  \
    { row_in_registers<F32, TH, U, false>(p); }                                                                           \
    extern "C" __global__ void __launch_bounds__(TH, OCC_BF16) silu_row_bf16_##TH##x##U(const __grid_constant__ silu_params p) \
    { row_in_registers<BF16, TH, U, false>(p); }
SILU_ROW_KERNELS(X)
#undef X
extern "C" __global__ void __launch_bounds__(512, 2) silu_cluster_f32(const __grid_constant__ silu_params p) { row_in_registers<F32, 512, 1, true>(p); }
extern "C" __global__ void __launch_bounds__(512, 3) silu_cluster_bf16(const __grid_constant__ silu_params p) { row_in_registers<BF16, 512, 1, true>(p); }

extern "C" __global__ void __launch_bounds__(SILU_LOOP_THREADS, 2) silu_loop(const __grid_constant__ silu_params p)
{
    chain_launch();
    chain_wait();
    const int64_t row = blockIdx.x;
    write_row_in_loops<SILU_LOOP_THREADS>(p.out, row, p.k, [&](int64_t j) {
        return silu_mul<F32>(load_value(p.gate, p.bf16, row * p.ld_gate + j), load_value(p.up, p.bf16, row * p.ld_up + j));
    });
}
