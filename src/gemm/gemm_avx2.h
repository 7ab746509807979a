/* gemm_avx2.h - what the AVX2 rows of gemm share: scales and what becomes of a finished sum. */
#ifndef OCTAVO_GEMM_GEMM_AVX2_H
#define OCTAVO_GEMM_GEMM_AVX2_H
#include "core/core.h"
#include "gemm/gemm_rows.h"
#include "isa/avx2/tile.h"

INLINE int scaled_in_blocks(const oct_gemm_args *a) { return a->scaling == OCT_SCALE_BLOCK || a->scaling == OCT_SCALE_GROUP; }

/* The scales of one row of an operand: of its K block kb, p[kb * step]; without scales a 1. */
typedef struct row_scale { const float *p; int64_t step; } row_scale;
INLINE float scale_of(row_scale s, int64_t kb) { return s.p[kb * s.step]; }

INLINE row_scale find_scale(const oct_gemm_args *a, const float *scale, int64_t rows, int64_t block_rows, int64_t b, int64_t r)
{
    static const float one = 1.0f;
    if (!scale) return (row_scale){ &one, 0 };
    if (a->scaling == OCT_SCALE_TENSOR) return (row_scale){ scale + b, 0 };
    if (a->scaling == OCT_SCALE_ROW) return (row_scale){ scale + b * rows + r, 0 };
    const int64_t kn = oct_cdiv(a->k, 128), rn = oct_cdiv(rows, block_rows), rb = r / block_rows;
    return a->scale_layout == OCT_MN_MAJOR ? (row_scale){ scale + b * rn * kn + rb, rn } : (row_scale){ scale + (b * rn + rb) * kn, 1 };
}
INLINE row_scale x_scale_of(const oct_gemm_args *a, int64_t b, int64_t i)
{
    return find_scale(a, a->x_scale, a->m, a->scaling == OCT_SCALE_BLOCK ? 128 : 1, gemm_x_scale_batch(a, b), i);
}
INLINE row_scale w_scale_of(const oct_gemm_args *a, int64_t b, int64_t j)
{
    return find_scale(a, a->w_scale, a->n, scaled_in_blocks(a) ? 128 : 1, b, j);
}

/* As store_first of num.h, but a NaN that a sum brought stays the NaN it is. */
INLINE void store_f32x8(void *p, int32_t dtype, int64_t at, __m256 v, int64_t n)
{
    if (dtype == OCT_BF16) {
        if (n >= 8) _mm_storeu_si128((__m128i *)((uint16_t *)p + at), f32x8_to_bf16(v));
        else store_bytes((uint16_t *)p + at, f32x8_to_bf16(v), 2 * n);
    } else if (n >= 8)
        _mm256_storeu_ps((float *)p + at, v);
    else
        _mm256_maskstore_ps((float *)p + at, first_lanes(n), v);
}

/* y[b, i, j .. j+n) from 8 sums over k, n of them wanted: scaled (unless that was done block by block), biased, rounded. */
INLINE void finish8(const oct_gemm_args *a, int64_t b, int64_t i, int64_t j, int64_t n, __m256 sum)
{
    if (a->w_scale && !scaled_in_blocks(a)) {
        __m256 s = _mm256_broadcast_ss(x_scale_of(a, b, i).p);
        if (a->scaling == OCT_SCALE_ROW) s = _mm256_mul_ps(s, load_first(a->w_scale, OCT_F32, b * a->n + j, n));
        else s = _mm256_mul_ps(s, _mm256_broadcast_ss(a->w_scale + b));
        sum = _mm256_mul_ps(sum, s);
    }
    if (a->bias) sum = _mm256_add_ps(sum, load_first(a->bias, a->bias_dtype, b * a->stride_bias + j, n));
    store_f32x8(a->y, a->y_dtype, b * a->stride_y + i * a->ldy + j, sum, n);
}
#endif
