/* silu_mul_quant_ref.c - the formula of octavo.h in double: v = gate / (1 + exp(-gate)) up, y. */
#include "core/core.h"
#include "core/kernel.h"
#include "core/num/bf16.h"
#include "core/num/scale.h"

int oct_silu_mul_quant_ref_fits(const oct_silu_mul_quant_args *a, oct_fit *fit)
{
    (void)a;
    (void)fit;
    return 1;
}

static float load(const void *p, int32_t dtype, int64_t at)
{ return dtype == OCT_BF16 ? oct_bf16_to_f32(((const uint16_t *)p)[at]) : ((const float *)p)[at]; }

static float v_at(const oct_silu_mul_quant_args *a, int64_t i, int64_t j)
{
    const double gate = load(a->gate, a->x_dtype, i * a->ld_gate + j), up = load(a->up, a->x_dtype, i * a->ld_up + j);
    const double silu = gate == -INFINITY ? -0.0 : gate / (1 + exp(-gate));
    return (float)(silu * up);
}

static void codes(const oct_silu_mul_quant_args *a, int64_t i, int64_t j0, int64_t j1, float *scale)
{
    float amax = 0, factor;
    for (int64_t j = j0; j < j1; j++)
        if (fabsf(v_at(a, i, j)) > amax) amax = fabsf(v_at(a, i, j));
    *scale = oct_scale_of(a->rule, amax, a->scale_ub ? *a->scale_ub : INFINITY, &factor);
    for (int64_t j = j0; j < j1; j++) {
        const float v = v_at(a, i, j);
        ((uint8_t *)a->y)[i * a->ldy + j] = oct_f8e4m3fn_from_f32(a->rule == OCT_RULE_MIN ? v / factor : v * factor);
    }
}

static void row(const oct_silu_mul_quant_args *a, int64_t i)
{
    if (a->scaling == OCT_SCALE_ROW) codes(a, i, 0, a->k, &a->scale[i]);
    else if (a->scaling == OCT_SCALE_GROUP)
        for (int64_t j = 0, g = 0; j < a->k; j += a->block_k, g++)
            codes(a, i, j, oct_min(a->k, j + a->block_k),
                  &a->scale[a->scale_layout == OCT_MN_MAJOR ? g * a->ld_scale + i : i * a->ld_scale + g]);
    else
        for (int64_t j = 0; j < a->k; j++) {
            const float v = v_at(a, i, j);
            if (a->y_dtype == OCT_BF16) ((uint16_t *)a->y)[i * a->ldy + j] = oct_bf16_from_f32(v);
            else ((float *)a->y)[i * a->ldy + j] = v != v ? NAN : v;
        }
}

oct_status oct_silu_mul_quant_ref(const oct_silu_mul_quant_args *a)
{
    for (int64_t i = 0; i < a->m; i++) row(a, i);
    return OCT_OK;
}
