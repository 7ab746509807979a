/* gemm_device_sm90.cuh - device functions of all Hopper GEMMs: scales, bias, output. */
#ifndef OCTAVO_GEMM_DEVICE_SM90_CUH
#define OCTAVO_GEMM_DEVICE_SM90_CUH
#include "gemm/gemm_sm90.h"
#include "isa/sm90/convert.cuh"
#include "isa/sm90/copy.cuh"

enum { F8_F8, BF16_BF16, BF16_F8 }; /* types of x and w */

/* Scale of row r of n, outside block scaling; 0 beyond n, where only zeros are. */
DEVICE float scale_of(const gemm_scale &s, int64_t batch, int64_t r, int64_t n)
{
    return r >= n ? 0.0f : s.p ? s.p[batch * s.batch + (r >> s.shift) * s.row] : 1.0f;
}

/* from[offset] to shared memory, or 0 where there is none; any: an address that can be read. */
DEVICE void copy_scale(uint32_t to, const float *from, int64_t offset, const float *any, int real)
{
    real &= from != 0;
    copy_4(to, real ? from + offset : any, real);
}

/* What a column of y needs at the end. */
typedef struct gemm_column { float scale, bias; } gemm_column;
DEVICE gemm_column column_of(const gemm_output &o, const gemm_scale &s, int scaled, int64_t batch, int64_t j, int64_t n)
{
    gemm_column c = { scaled ? 1.0f : scale_of(s, batch, j, n), 0.0f };
    if (o.bias && j < n) {
        const int64_t at = batch * o.stride_bias + j;
        c.bias = o.bias_bf16 ? bf16_to_f32(__ldg((const uint16_t *)o.bias + at)) : __ldg((const float *)o.bias + at);
    }
    return c;
}
/* The scale is one f32 product, as octavo.h has it: an infinite one shows even where sx and sw are finite. */
DEVICE float finish(float sum, float sx, gemm_column c) { return fmaf(sum, sx * c.scale, c.bias); }

DEVICE void store_one(const gemm_output &o, int64_t at, float v)
{
    if (o.y_bf16) ((uint16_t *)o.y)[at] = f32_to_bf16(v);
    else ((float *)o.y)[at] = v;
}
/* y[i, j], y[i, j + 1] for even j, where they exist. */
DEVICE void store_pair(const gemm_output &o, int64_t batch, int64_t i, int64_t j, int64_t n, float v0, float v1)
{
    const int64_t at = batch * o.stride_y + i * o.ldy + j;
    if (o.pairs && j + 1 < n) {
        if (o.y_bf16) *(uint32_t *)((uint16_t *)o.y + at) = f32x2_to_bf16x2(v0, v1);
        else *(float2 *)((float *)o.y + at) = make_float2(v0, v1);
    } else {
        if (j < n) store_one(o, at, v0);
        if (j + 1 < n) store_one(o, at + 1, v1);
    }
}
/* y[i, j .. j + 3] for j = 4 n, where they exist. */
DEVICE void store_4(const gemm_output &o, int64_t batch, int64_t i, int64_t j, int64_t n, const float *v)
{
    const int64_t at = batch * o.stride_y + i * o.ldy + j;
    if (o.quads && j + 4 <= n) {
        if (o.y_bf16) *(uint2 *)((uint16_t *)o.y + at) = make_uint2(f32x2_to_bf16x2(v[0], v[1]), f32x2_to_bf16x2(v[2], v[3]));
        else *(float4 *)((float *)o.y + at) = make_float4(v[0], v[1], v[2], v[3]);
        return;
    }
#pragma unroll
    for (int e = 0; e < 4; e++)
        if (j + e < n) store_one(o, at + e, v[e]);
}
#endif
