/* dequant_ref.c - y[i,j] = round(scale x[i,j]), the formula of octavo.h. */
#include "core/core.h"
#include "core/kernel.h"
#include "core/num/bf16.h"
#include "core/num/f8.h"

int oct_dequant_ref_fits(const oct_dequant_args *a, oct_fit *fit)
{
    (void)a;
    (void)fit;
    return 1;
}

static float scale_at(const oct_dequant_args *a, int64_t i, int64_t j)
{
    const int64_t b = j / a->block_k, r = a->scaling == OCT_SCALE_BLOCK ? i / a->block_m : i;
    switch (a->scaling) {
    case OCT_SCALE_NONE: return 1.0f;
    case OCT_SCALE_TENSOR: return a->scale[0];
    case OCT_SCALE_ROW: return a->scale[i];
    case OCT_SCALE_COL: return a->scale[j];
    default: return a->scale_layout == OCT_MN_MAJOR ? a->scale[b * a->ld_scale + r] : a->scale[r * a->ld_scale + b];
    }
}

oct_status oct_dequant_ref(const oct_dequant_args *a)
{
    const uint8_t *x = a->x;
    for (int64_t i = 0; i < a->m; i++)
        for (int64_t j = 0; j < a->k; j++) {
            float v = scale_at(a, i, j) * oct_f8e4m3fn_to_f32(x[i * a->ldx + j]);
            if (v != v) v = NAN;
            if (a->y_dtype == OCT_BF16) ((uint16_t *)a->y)[i * a->ldy + j] = oct_bf16_from_f32(v);
            else if (a->y_dtype == OCT_F16) ((uint16_t *)a->y)[i * a->ldy + j] = oct_f16_from_f32(v);
            else ((float *)a->y)[i * a->ldy + j] = v;
        }
    return OCT_OK;
}
