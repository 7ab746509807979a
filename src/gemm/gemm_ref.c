/* gemm_ref.c - y[b,i,j] = round( sum over K blocks of s (sum over the block of x w) + bias ), the formula of octavo.h. */
#include "core/core.h"
#include "core/kernel.h"
#include "core/num/bf16.h"
#include "core/num/f8.h"
#include "gemm/gemm_rows.h"

int oct_gemm_ref_fits(const oct_gemm_args *a, oct_fit *fit) { (void)a; (void)fit; return 1; }

static double value(const void *p, int32_t dtype, int64_t i)
{
    switch (dtype) {
    case OCT_F32:  return (double)((const float *)p)[i];
    case OCT_BF16: return (double)oct_bf16_to_f32(((const uint16_t *)p)[i]);
    default:       return (double)oct_f8e4m3fn_to_f32(((const uint8_t *)p)[i]);
    }
}

/* Scale of operand `rows` (x: m, w: n), of its row r and K block kb; block_rows: how many of its rows share one. */
static float scale_at(const oct_gemm_args *a, const float *scale, int64_t b, int64_t rows, int64_t block_rows, int64_t r, int64_t kb)
{
    const int64_t kn = oct_cdiv(a->k, 128), rn = oct_cdiv(rows, block_rows), rb = r / block_rows;
    if (!scale) return 1.0f;
    switch (a->scaling) {
    case OCT_SCALE_NONE:   return 1.0f;
    case OCT_SCALE_TENSOR: return scale[b];
    case OCT_SCALE_ROW:    return scale[b * rows + r];
    default: return scale[b * rn * kn + (a->scale_layout == OCT_MN_MAJOR ? kb * rn + rb : rb * kn + kb)];
    }
}

static double element(const oct_gemm_args *a, int64_t b, int64_t i, int64_t j)
{
    const int blocks = a->scaling == OCT_SCALE_BLOCK || a->scaling == OCT_SCALE_GROUP;
    const int64_t step = blocks ? 128 : a->k, x = b * a->stride_x + i * a->ldx, w = b * a->stride_w + j * a->ldw;
    double y = 0;
    for (int64_t k0 = 0; k0 < a->k; k0 += step) {
        const float sx = scale_at(a, a->x_scale, gemm_x_scale_batch(a, b), a->m, a->scaling == OCT_SCALE_BLOCK ? 128 : 1, i, k0 / 128);
        const float sw = scale_at(a, a->w_scale, b, a->n, blocks ? 128 : 1, j, k0 / 128);
        double sum = 0;
        for (int64_t k = k0; k < oct_min(a->k, k0 + step); k++)
            sum += value(a->x, a->x_dtype, x + k) * value(a->w, a->w_dtype, w + k);
        y += (double)(sx * sw) * sum;
    }
    return a->bias ? y + value(a->bias, a->bias_dtype, b * a->stride_bias + j) : y;
}

oct_status oct_gemm_ref(const oct_gemm_args *a)
{
    for (int64_t b = 0; b < a->batch; b++) {
        const gemm_rows rows = gemm_rows_of(a, b);
        const oct_gemm_args one = gemm_of_rows(a, rows);
        for (int64_t i = rows.first; i < rows.end; i++)
            for (int64_t j = 0; j < a->n; j++) {
                const float y = (float)element(&one, b, i, j);
                const int64_t at = b * a->stride_y + i * a->ldy + j;
                if (a->y_dtype == OCT_BF16) ((uint16_t *)a->y)[at] = oct_bf16_from_f32(y);
                else ((float *)a->y)[at] = y;
            }
    }
    gemm_zero_rest(a);
    return OCT_OK;
}
