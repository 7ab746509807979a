// dequant_sm90.cu - codes to f32, bf16 or f16 on Hopper: a vector is as many codes as make 16 bytes of output, or one code
// where rows are not aligned.
#include "dequant/dequant_sm90.h"
#include "isa/sm90/num.cuh"

DEVICE float scale_at(const dequant_params &p, int64_t i, int64_t j)
{
    if (!p.scale) return 1.0f;
    const int64_t r = p.one_row ? 0 : p.bm == 1 ? i : (int64_t)((uint32_t)i / (uint32_t)p.bm);
    const int64_t c = p.one_col ? 0 : (int64_t)((uint32_t)j / (uint32_t)p.bk);
    return p.scale[r * p.scale_row + c * p.scale_col];
}

template <int T> DEVICE uint32_t pair(float lo, float hi) { return T == F16 ? f16x2(lo, hi) : bf16x2(lo, hi); }

template <int T> DEVICE void store_element(char *y, float v)
{
    if (T == F32) *(float *)y = one_nan(v);
    else *(uint16_t *)y = (uint16_t)pair<T>(v, 0);
}

/* COL: a scale a column, N of them a vector; else one. */
template <int T, bool COL> DEVICE void dequant(const dequant_params &p)
{
    enum { N = 16 / type<T>::BYTES };
    chain_wait();
    chain_launch();
    uint32_t codes[DEQUANT_VECTORS][N / 4];
    float s[DEQUANT_VECTORS][COL ? N : 1];
    int64_t row[DEQUANT_VECTORS], col[DEQUANT_VECTORS];
#pragma unroll
    for (int u = 0; u < DEQUANT_VECTORS; u++) {
        const int64_t t = ((int64_t)blockIdx.x * DEQUANT_VECTORS + u) * DEQUANT_THREADS + threadIdx.x;
        row[u] = p.vectors == 1 ? t : (int64_t)__umul64hi((uint64_t)t, p.magic);
        col[u] = (t - row[u] * p.vectors) * (p.wide ? N : 1);
        if (p.wide && row[u] < p.m && col[u] + N <= p.k) {
            if (COL)
#pragma unroll
                for (int i = 0; i < N; i += 4) *(float4 *)(s[u] + i % (COL ? N : 1)) = __ldg((const float4 *)(p.scale + col[u] + i));
            else s[u][0] = scale_at(p, row[u], col[u]);
            const uint8_t *x = p.x + row[u] * p.ldx + col[u];
            if (N == 8) {
                const uint2 v = *(const uint2 *)x;
                codes[u][0] = v.x, codes[u][N / 4 - 1] = v.y;
            } else codes[u][0] = *(const uint32_t *)x;
        }
    }
#pragma unroll
    for (int u = 0; u < DEQUANT_VECTORS; u++) {
        if (row[u] >= p.m) continue;
        char *y = p.y + (row[u] * p.ldy + col[u]) * type<T>::BYTES;
        if (p.wide && col[u] + N <= p.k) {
            uint32_t w[4];
#pragma unroll
            for (int i = 0; i < N / 2; i++) {
                const float2 v = f8x2_to_f32(codes[u][i / 2] >> (i % 2 * 16));
                const float a = s[u][COL ? 2 * i : 0] * v.x, b = s[u][COL ? 2 * i + 1 : 0] * v.y;
                if (T != F32) w[i % 4] = pair<T>(a, b);
                else {
                    w[i % 2 * 2] = __float_as_uint(one_nan(a));
                    w[i % 2 * 2 + 1] = __float_as_uint(one_nan(b));
                }
            }
            *(uint4 *)y = make_uint4(w[0], w[1], w[2], w[3]);
        } else
#pragma unroll 1
            for (int i = 0; i < (p.wide ? N : 1) && col[u] + i < p.k; i++)
                store_element<T>(y + i * type<T>::BYTES, scale_at(p, row[u], col[u] + i) * f8x2_to_f32(p.x[row[u] * p.ldx + col[u] + i]).x);
    }
}
#define X(name, T)                                                                                                        \
    extern "C" __global__ void __launch_bounds__(DEQUANT_THREADS) dequant_##name(const __grid_constant__ dequant_params p)     \
    { dequant<T, false>(p); }                                                                                             \
    extern "C" __global__ void __launch_bounds__(DEQUANT_THREADS) dequant_col_##name(const __grid_constant__ dequant_params p) \
    { dequant<T, true>(p); }
X(f32, F32)
X(bf16, BF16)
X(f16, F16)
#undef X
