/* rows.cuh - writing rows of computed values: a thread holds units of 16 f32. */
#ifndef OCTAVO_ISA_SM90_ROWS_CUH
#define OCTAVO_ISA_SM90_ROWS_CUH
#include "isa/sm90/num.cuh"
#include "isa/sm90/rows.h"

DEVICE float rows_bound(const rows_out &o) { return o.ub ? *o.ub : __int_as_float(0x7f800000); }

/* Computed values may be off by the op's bound: the product with a rounded reciprocal is within it. */
DEVICE float factor_of(const rows_out &o, float amax, float ub, float *scale)
{
    coder c;
    int how;
    *scale = coder_of(o.eps, amax, ub, &c, &how);
    return o.eps ? c.factor : 1.0f / *scale;
}

DEVICE float amax_of_values(const float *v)
{
    float a = 0;
#pragma unroll
    for (int i = 0; i < UNIT; i++) a = fmaxf(a, fabsf(v[i]));
    return a;
}

/* n of 16 values, from column col of a row on, as they are. */
DEVICE void store_values(const rows_out &o, int64_t row, int64_t col, const float *v, int n)
{
    if (n <= 0) return;
    if (o.to == ROWS_TO_F32) {
        float *y = (float *)o.y + row * o.ldy + col;
        if (o.wide && n >= UNIT)
#pragma unroll
            for (int i = 0; i < 4; i++)
                ((float4 *)y)[i] = make_float4(one_nan(v[4 * i]), one_nan(v[4 * i + 1]), one_nan(v[4 * i + 2]), one_nan(v[4 * i + 3]));
        else
#pragma unroll
            for (int i = 0; i < UNIT; i++)
                if (i < n) y[i] = one_nan(v[i]);
    } else {
        uint16_t *y = (uint16_t *)o.y + row * o.ldy + col;
        uint32_t w[8];
#pragma unroll
        for (int i = 0; i < 8; i++) w[i] = bf16x2(v[2 * i], v[2 * i + 1]);
        if (o.wide && n >= UNIT) {
            ((uint4 *)y)[0] = make_uint4(w[0], w[1], w[2], w[3]);
            ((uint4 *)y)[1] = make_uint4(w[4], w[5], w[6], w[7]);
        } else
#pragma unroll
            for (int i = 0; i < UNIT; i++)
                if (i < n) y[i] = (uint16_t)(w[i / 2] >> (i % 2 * 16));
    }
}
DEVICE void store_as_codes(const rows_out &o, int64_t row, int64_t col, const float *v, float factor, int n)
{
    uint32_t codes[4];
#pragma unroll
    for (int i = 0; i < 4; i++) codes[i] = f8x4(v[4 * i] * factor, v[4 * i + 1] * factor, v[4 * i + 2] * factor, v[4 * i + 3] * factor);
    store_codes((uint8_t *)o.y + row * o.ldy + col, codes, n, o.wide);
}
/* A unit of a group whose units lie in lanes neighbouring threads of a warp. there: the unit's group exists. */
DEVICE void store_group(const rows_out &o, int64_t row, int64_t col, const float *v, float ub, int n, bool there)
{
    float a = amax_of_values(v), scale;
    for (int d = o.lanes / 2; d; d /= 2) a = fmaxf(a, __shfl_xor_sync(~0u, a, d));
    const float factor = factor_of(o, a, ub, &scale);
    const int64_t group = (uint32_t)col / (uint32_t)o.bk;
    if (there && col == group * o.bk) o.scale[row * o.scale_row + group * o.scale_col] = scale;
    store_as_codes(o, row, col, v, factor, n);
}

/* ---- Rows that no register holds, and groups of any width: values are made again when they are needed ---- */

/* value(j): element j of the row. The threads of the CTA have no other work. */
template <int TH, class F> DEVICE void write_row_in_loops(const rows_out &o, int64_t row, int64_t k, F value)
{
    const float ub = rows_bound(o);
    if (o.scaling == ROWS_NONE) {
        for (int64_t j = threadIdx.x; j < k; j += TH) {
            const float v = value(j);
            if (o.to == ROWS_TO_F32) ((float *)o.y)[row * o.ldy + j] = one_nan(v);
            else ((uint16_t *)o.y)[row * o.ldy + j] = (uint16_t)bf16x2(v, 0);
        }
        return;
    }
    /* A row is one scope of all threads; a group is one of a warp. */
    const bool all = o.scaling == ROWS_ROW;
    const int64_t width = all ? k : o.bk;
    const int lane = all ? threadIdx.x : threadIdx.x % 32, step = all ? TH : 32;
    for (int64_t g = all ? 0 : threadIdx.x / 32; all ? g < 1 : g * width < k; g += all ? 1 : TH / 32) {
        const int64_t first = g * width, end = k - first < width ? k : first + width;
        float a = 0, scale;
#pragma unroll 1
        for (int64_t j = first + lane; j < end; j += step) a = fmaxf(a, fabsf(value(j)));
        a = all ? cta_max(a) : warp_max(a);
        const float factor = factor_of(o, a, ub, &scale);
        if (lane == 0) o.scale[row * o.scale_row + g * o.scale_col] = scale;
#pragma unroll 1
        for (int64_t j = first + lane; j < end; j += step)
            ((uint8_t *)o.y)[row * o.ldy + j] = (uint8_t)f8x4(value(j) * factor, 0, 0, 0);
    }
}

DEVICE float load_value(const void *p, int bf16, int64_t i)
{
    return bf16 ? __uint_as_float((uint32_t)((const uint16_t *)p)[i] << 16) : ((const float *)p)[i];
}
#endif
