/* gemm_host_sm90.h - what the host sides of the Hopper GEMMs share. */
#ifndef OCTAVO_GEMM_HOST_SM90_H
#define OCTAVO_GEMM_HOST_SM90_H
#include "core/cuda.h"
#include "core/kernel.h"
#include "gemm/gemm_sm90.h"

static inline int64_t x_bytes_of(const oct_gemm_args *a) { return a->x_dtype == OCT_BF16 ? 2 : 1; }
static inline int64_t w_bytes_of(const oct_gemm_args *a) { return a->w_dtype == OCT_BF16 ? 2 : 1; }
static inline int block_scaled(const oct_gemm_args *a) { return a->scaling == OCT_SCALE_GROUP || a->scaling == OCT_SCALE_BLOCK; }

static inline gemm_output output_of(const oct_gemm_args *a)
{
    const int64_t bytes = a->y_dtype == OCT_BF16 ? 2 : 4;
    gemm_output o = { .y = a->y, .bias = a->bias, .ldy = a->ldy, .stride_y = a->stride_y, .stride_bias = a->stride_bias,
                      .y_bf16 = a->y_dtype == OCT_BF16, .bias_bf16 = a->bias_dtype == OCT_BF16 };
    const int64_t strides = a->ldy | (a->batch > 1 ? a->stride_y : 0);
    o.pairs = (uintptr_t)a->y % (uintptr_t)(2 * bytes) == 0 && strides % 2 == 0;
    o.quads = (uintptr_t)a->y % (uintptr_t)(4 * bytes) == 0 && strides % 4 == 0;
    return o;
}

static inline gemm_scale scale_of(const float *p, int32_t scaling, int32_t layout, int64_t rows, int64_t k)
{
    gemm_scale s = { .p = p };
    const int64_t kn = oct_cdiv(k, 128);
    if (scaling == OCT_SCALE_NONE || !p) s.p = 0;
    else if (scaling == OCT_SCALE_TENSOR) s.batch = 1;
    else if (scaling == OCT_SCALE_ROW) s.batch = rows, s.row = 1;
    else {
        const int64_t n = scaling == OCT_SCALE_BLOCK ? oct_cdiv(rows, 128) : rows;
        s.shift = scaling == OCT_SCALE_BLOCK ? 7 : 0;
        s.batch = n * kn;
        s.row = layout == OCT_MN_MAJOR ? 1 : kn;
        s.block = layout == OCT_MN_MAJOR ? n : 1;
    }
    return s;
}
static inline gemm_scales scales_of(const oct_gemm_args *a)
{
    const gemm_scales s = { scale_of(a->x_scale, a->scaling, a->scale_layout, a->m, a->k),
                            scale_of(a->w_scale, a->scaling == OCT_SCALE_GROUP ? OCT_SCALE_BLOCK : a->scaling, a->scale_layout, a->n, a->k) };
    return s;
}

/* Whether the copy engine can address a matrix of a batch. */
static inline int mappable(const void *p, int64_t bytes, int64_t ld, int64_t stride, int64_t batch)
{
    return (uintptr_t)p % 16 == 0 && ld * bytes % 16 == 0 && ld * bytes < 1LL << 40 &&
           (batch == 1 || (stride * bytes % 16 == 0 && stride * bytes < 1LL << 40));
}
/* What every row with tensor maps asks for; NULL, or the reason why not. */
static inline const char *maps_refused(const oct_gemm_args *a)
{
    if (a->groups) return "the rows of x are in groups";
    if (!a->m || !a->n || !a->k || !a->batch) return "there is nothing to multiply";
    if (a->m >= 1 << 30 || a->n >= 1 << 30 || a->k >= 1 << 29 || a->batch > 65535) return "an extent is too large for its counters";
    const int64_t tiles = oct_mul(oct_mul(oct_cdiv(a->m, 8), oct_cdiv(a->n, 64)), a->batch);
    if (tiles < 0 || tiles >= 1 << 27) return "the tiles are too many for its counters";
    if (!mappable(a->x, x_bytes_of(a), a->ldx, a->stride_x, a->batch)) return "x, ldx or stride_x is not aligned to 16 bytes";
    if (!mappable(a->w, w_bytes_of(a), a->ldw, a->stride_w, a->stride_w ? a->batch : 1)) return "w, ldw or stride_w is not aligned to 16 bytes";
    return 0;
}
#endif
