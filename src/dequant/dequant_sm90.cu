// dequant_sm90.cu - codes to bf16 or f32 on Hopper: a vector is as many codes as make 16 bytes of output.
#include "dequant/dequant_sm90.h"
#include "isa/sm90/num.cuh"

DEVICE float scale_at(const dequant_params &p, int64_t i, int64_t j)
{
    if (!p.scale) return 1.0f;
    const int64_t r = p.one_row ? 0 : p.bm == 1 ? i : (int64_t)((uint32_t)i / (uint32_t)p.bm);
    const int64_t c = p.one_col ? 0 : (int64_t)((uint32_t)j / (uint32_t)p.bk);
    return p.scale[r * p.scale_row + c * p.scale_col];
}

template <int T> DEVICE void store_element(char *y, float v)
{
    if (T == F32) *(float *)y = one_nan(v);
    else *(uint16_t *)y = (uint16_t)bf16x2(v, 0);
}

template <int T> DEVICE void dequant(const dequant_params &p)
{
    enum { N = 16 / type<T>::BYTES };
    chain_wait();
    chain_launch();
    uint32_t codes[DEQUANT_VECTORS][N / 4];
    float s[DEQUANT_VECTORS];
    int64_t row[DEQUANT_VECTORS], col[DEQUANT_VECTORS];
#pragma unroll
    for (int u = 0; u < DEQUANT_VECTORS; u++) {
        const int64_t t = ((int64_t)blockIdx.x * DEQUANT_VECTORS + u) * DEQUANT_THREADS + threadIdx.x;
        row[u] = p.vectors == 1 ? t : (int64_t)__umul64hi((uint64_t)t, p.magic);
        col[u] = (t - row[u] * p.vectors) * N;
        if (p.wide && row[u] < p.m && col[u] + N <= p.k) {
            s[u] = scale_at(p, row[u], col[u]);
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
                if (T == BF16) w[i % 4] = bf16x2(s[u] * v.x, s[u] * v.y);
                else {
                    w[i % 2 * 2] = __float_as_uint(one_nan(s[u] * v.x));
                    w[i % 2 * 2 + 1] = __float_as_uint(one_nan(s[u] * v.y));
                }
            }
            *(uint4 *)y = make_uint4(w[0], w[1], w[2], w[3]);
        } else
#pragma unroll 1
            for (int i = 0; i < N && col[u] + i < p.k; i++)
                store_element<T>(y + i * type<T>::BYTES, scale_at(p, row[u], col[u] + i) * f8x2_to_f32(p.x[row[u] * p.ldx + col[u] + i]).x);
    }
}
extern "C" __global__ void __launch_bounds__(DEQUANT_THREADS) dequant_f32(const __grid_constant__ dequant_params p) { dequant<F32>(p); }
extern "C" __global__ void __launch_bounds__(DEQUANT_THREADS) dequant_bf16(const __grid_constant__ dequant_params p) { dequant<BF16>(p); }
