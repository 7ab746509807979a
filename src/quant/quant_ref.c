/* quant_ref.c - q[i,j] = sat(x[i,j] / s), s by rule from the largest magnitude of its scope: the formula of octavo.h.
 */
#include "core/core.h"
#include "core/kernel.h"
#include "core/num/bf16.h"
#include "core/num/scale.h"

int oct_quant_ref_fits(const oct_quant_args *a, oct_fit *fit)
{
    (void)a;
    (void)fit;
    return 1;
}

static float x_at(const oct_quant_args *a, int64_t i, int64_t j)
{
    const int64_t at = i * a->ldx + j;
    switch (a->x_dtype) {
    case OCT_BF16: return oct_bf16_to_f32(((const uint16_t *)a->x)[at]);
    case OCT_F16: return oct_f16_to_f32(((const uint16_t *)a->x)[at]);
    default: return ((const float *)a->x)[at];
    }
}

static int counts(const oct_quant_args *a, int64_t i) { return !a->valid_m || i % a->group_m < a->valid_m[i / a->group_m]; }

/* Rows [i0, i1) and columns [j0, j1) share *scale. */
static void scope(const oct_quant_args *a, int64_t i0, int64_t i1, int64_t j0, int64_t j1, float *scale)
{
    const int given = a->flags & OCT_QUANT_SCALE_GIVEN, divide = given || a->rule == OCT_RULE_MIN;
    float factor = 0, amax = 0;
    if (given) factor = *scale;
    else {
        for (int64_t i = i0; i < i1; i++)
            for (int64_t j = j0; counts(a, i) && j < j1; j++)
                if (fabsf(x_at(a, i, j)) > amax)
                    amax = fabsf(x_at(a, i, j)); /* false for NaN; fmaxf keeps signaling ones */
        *scale = oct_scale_of(a->rule, amax, a->scale_ub ? *a->scale_ub : INFINITY, &factor);
    }
    for (int64_t i = i0; i < i1; i++)
        for (int64_t j = j0; j < j1; j++) {
            const float x = counts(a, i) || a->scaling == OCT_SCALE_TENSOR ? x_at(a, i, j) : 0;
            ((uint8_t *)a->y)[i * a->ldy + j] = oct_f8e4m3fn_from_f32(divide ? x / factor : x * factor);
        }
}

oct_status oct_quant_ref(const oct_quant_args *a)
{
    if (a->scaling == OCT_SCALE_TENSOR) scope(a, 0, a->m, 0, a->k, a->scale);
    else if (a->scaling == OCT_SCALE_ROW)
        for (int64_t i = 0; i < a->m; i++) scope(a, i, i + 1, 0, a->k, &a->scale[i]);
    else if (a->scaling == OCT_SCALE_COL)
        for (int64_t j = 0; j < a->k; j++) scope(a, 0, a->m, j, j + 1, &a->scale[j]);
    else {
        const int64_t bm = a->scaling == OCT_SCALE_GROUP ? 1 : a->block_m, bk = a->block_k;
        for (int64_t r = 0; r < oct_cdiv(a->m, bm); r++)
            for (int64_t c = 0; c < oct_cdiv(a->k, bk); c++)
                scope(a, r * bm, oct_min(a->m, r * bm + bm), c * bk, oct_min(a->k, c * bk + bk),
                      &a->scale[a->scale_layout == OCT_MN_MAJOR ? c * a->ld_scale + r : r * a->ld_scale + c]);
    }
    return OCT_OK;
}
