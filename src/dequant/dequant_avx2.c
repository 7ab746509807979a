/* dequant_avx2.c - a row at a time, cut where the scale changes; 8 codes a step. */
#include "core/core.h"
#include "core/kernel.h"
#include "isa/avx2/num.h"

int oct_dequant_avx2_fits(const oct_dequant_args *a, oct_fit *fit) { (void)a; (void)fit; return 1; }

/* n codes that share a scale. */
INLINE void run_of(const uint8_t *x, void *y, int32_t dtype, int64_t at, int64_t n, float scale)
{
    const __m256 s = _mm256_set1_ps(scale);
    int64_t j = 0;
    for (; j + 8 <= n; j += 8)
        store_first(y, dtype, at + j, _mm256_mul_ps(s, f8e4m3fn_to_f32x8(_mm_loadl_epi64((const __m128i *)(x + j)))), 8);
    if (j < n) store_first(y, dtype, at + j, _mm256_mul_ps(s, f8e4m3fn_to_f32x8(load_bytes(x + j, n - j))), n - j);
}

enum { ROWS = 8 }; /* of a task */

static void rows(void *p, int64_t task)
{
    const oct_dequant_args *a = p;
    const int64_t end = oct_min(a->m, (task + 1) * ROWS);
    const int blocks = a->scaling == OCT_SCALE_GROUP || a->scaling == OCT_SCALE_BLOCK;
    const int64_t step = blocks ? a->block_k : a->k;
    for (int64_t i = task * ROWS; i < end; i++)
        for (int64_t j = 0; j < a->k; j += step) {
            const int64_t r = a->scaling == OCT_SCALE_BLOCK ? i / a->block_m : i, b = j / a->block_k;
            const float s = a->scaling == OCT_SCALE_NONE     ? 1.0f
                            : a->scaling == OCT_SCALE_TENSOR ? a->scale[0]
                            : a->scaling == OCT_SCALE_ROW    ? a->scale[i]
                            : a->scale_layout == OCT_MN_MAJOR ? a->scale[b * a->ld_scale + r]
                                                              : a->scale[r * a->ld_scale + b];
            const uint8_t *x = (const uint8_t *)a->x + i * a->ldx + j;
            const int64_t n = oct_min(step, a->k - j), at = i * a->ldy + j;
            if (a->y_dtype == OCT_BF16) run_of(x, a->y, OCT_BF16, at, n, s);
            else run_of(x, a->y, OCT_F32, at, n, s);
        }
}

oct_status oct_dequant_avx2(const oct_dequant_args *a)
{
    if (a->k) oct_parallel(&a->on, oct_cdiv(a->m, ROWS), rows, (void *)a);
    return OCT_OK;
}
