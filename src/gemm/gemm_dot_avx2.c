/* gemm_dot_avx2.c - a row of w at a time, decoded in pieces that stay in L1 and met with every row of x. */
#include "core/core.h"
#include "core/kernel.h"
#include "isa/avx2/num.h"

enum { PIECE = 512, ROWS = 64, COLS = 16 }; /* of k at a time; of x and of w in a task */

int oct_gemm_dot_avx2_fits(const oct_gemm_args *a, oct_fit *fit) { (void)a; (void)fit; return 1; }

static float hsum(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* n elements as f32, filled up with zeros to a multiple of 8. */
static void decode(const void *p, int32_t dtype, int64_t at, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i += 8) {
        const int64_t left = oct_min(8, n - i);
        const __m256 v = dtype == OCT_BF16 ? bf16_to_f32x8(load_bytes((const uint16_t *)p + at + i, 2 * left))
                                           : f8e4m3fn_to_f32x8(load_bytes((const uint8_t *)p + at + i, left));
        _mm256_storeu_ps(out + i, v);
    }
}

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

static void task(void *p, int64_t t)
{
    const oct_gemm_args *a = p;
    const int blocks = a->scaling == OCT_SCALE_BLOCK || a->scaling == OCT_SCALE_GROUP;
    const int64_t jt = oct_cdiv(a->n, COLS), it = oct_cdiv(a->m, ROWS), b = t / (jt * it), step = blocks ? 128 : PIECE;
    const int64_t i0 = t / jt % it * ROWS, i1 = oct_min(a->m, i0 + ROWS), j0 = t % jt * COLS, j1 = oct_min(a->n, j0 + COLS);
    float x[PIECE], w[PIECE], sum[ROWS][COLS] = { { 0 } };
    for (int64_t k0 = 0; k0 < a->k; k0 += step) {
        const int64_t n = oct_min(step, a->k - k0);
        for (int64_t j = j0; j < j1; j++) {
            decode(a->w, a->w_dtype, b * a->stride_w + j * a->ldw + k0, n, w);
            const float sw = scale_at(a, a->w_scale, b, a->n, blocks ? 128 : 1, j, k0 / 128);
            for (int64_t i = i0; i < i1; i++) {
                __m256 acc = _mm256_setzero_ps();
                decode(a->x, a->x_dtype, b * a->stride_x + i * a->ldx + k0, n, x);
                const float sx = scale_at(a, a->x_scale, b, a->m, a->scaling == OCT_SCALE_BLOCK ? 128 : 1, i, k0 / 128);
                for (int64_t k = 0; k < n; k += 8) acc = _mm256_fmadd_ps(_mm256_loadu_ps(x + k), _mm256_loadu_ps(w + k), acc);
                if (blocks) sum[i - i0][j - j0] += sx * sw * hsum(acc);
                else sum[i - i0][j - j0] += hsum(acc);
                if (!blocks && k0 + step >= a->k) sum[i - i0][j - j0] *= sx * sw;
            }
        }
    }
    for (int64_t i = i0; i < i1; i++)
        for (int64_t j = j0; j < j1; j++) {
            const int64_t at = b * a->stride_y + i * a->ldy + j, bias = b * a->stride_bias + j;
            float y = sum[i - i0][j - j0];
            if (a->bias)
                y += a->bias_dtype == OCT_BF16 ? oct_bf16_to_f32(((const uint16_t *)a->bias)[bias]) : ((const float *)a->bias)[bias];
            if (a->y_dtype == OCT_BF16) ((uint16_t *)a->y)[at] = oct_bf16_from_f32(y);
            else ((float *)a->y)[at] = y;
        }
}

oct_status oct_gemm_dot_avx2(const oct_gemm_args *a)
{
    oct_parallel(&a->on, a->batch * oct_cdiv(a->m, ROWS) * oct_cdiv(a->n, COLS), task, (void *)a);
    return OCT_OK;
}
