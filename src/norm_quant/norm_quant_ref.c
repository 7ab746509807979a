/* norm_quant_ref.c - the formula of octavo.h in double: h = x + residual, v = h / sqrt(mean h^2 + eps) weight, y. */
#include "core/core.h"
#include "core/kernel.h"
#include "core/num/bf16.h"
#include "core/num/scale.h"

int oct_norm_quant_ref_fits(const oct_norm_quant_args *a, oct_fit *fit)
{
    (void)a;
    (void)fit;
    return 1;
}

static float load(const void *p, int32_t dtype, int64_t at)
{ return dtype == OCT_BF16 ? oct_bf16_to_f32(((const uint16_t *)p)[at]) : ((const float *)p)[at]; }
static void store(void *p, int32_t dtype, int64_t at, double v)
{
    if (dtype == OCT_BF16) ((uint16_t *)p)[at] = oct_bf16_from_f32((float)v);
    else ((float *)p)[at] = v != v ? NAN : (float)v;
}

/* Once residual_out is written, h is what it holds: residual may have been overwritten by it. */
static float h_at(const oct_norm_quant_args *a, int64_t i, int64_t j)
{
    if (a->residual_out) return load(a->residual_out, a->residual_dtype, i * a->ld_residual_out + j);
    const float x = load(a->x, a->x_dtype, i * a->ldx + j);
    return a->residual ? x + load(a->residual, a->residual_dtype, i * a->ld_residual + j) : x;
}

static double v_at(const oct_norm_quant_args *a, int64_t i, int64_t j, double r)
{ return h_at(a, i, j) * r * (a->weight ? load(a->weight, a->weight_dtype, j) : 1); }

static void codes(const oct_norm_quant_args *a, int64_t i, int64_t j0, int64_t j1, double r, float *scale)
{
    float amax = 0, factor;
    for (int64_t j = j0; j < j1; j++) {
        const float v = (float)fabs(v_at(a, i, j, r));
        if (v > amax) amax = v;
    }
    *scale = oct_scale_of(a->rule, amax, a->scale_ub ? *a->scale_ub : INFINITY, &factor);
    for (int64_t j = j0; j < j1; j++) {
        const float v = (float)v_at(a, i, j, r);
        ((uint8_t *)a->y)[i * a->ldy + j] = oct_f8e4m3fn_from_f32(a->rule == OCT_RULE_MIN ? v / factor : v * factor);
    }
}

static void row(const oct_norm_quant_args *a, int64_t i)
{
    double sum = 0;
    for (int64_t j = 0; a->residual_out && j < a->k; j++) {
        const float x = load(a->x, a->x_dtype, i * a->ldx + j);
        const float r = a->residual ? load(a->residual, a->residual_dtype, i * a->ld_residual + j) : 0;
        store(a->residual_out, a->residual_dtype, i * a->ld_residual_out + j, a->residual ? x + r : x);
    }
    for (int64_t j = 0; j < a->k; j++) sum += (double)h_at(a, i, j) * h_at(a, i, j);
    const double r = 1 / sqrt(sum / (double)a->k + a->eps);
    if (a->scaling == OCT_SCALE_NONE)
        for (int64_t j = 0; j < a->k; j++) store(a->y, a->y_dtype, i * a->ldy + j, v_at(a, i, j, r));
    else if (a->scaling == OCT_SCALE_ROW) codes(a, i, 0, a->k, r, &a->scale[i]);
    else
        for (int64_t j = 0, g = 0; j < a->k; j += a->block_k, g++)
            codes(a, i, j, oct_min(a->k, j + a->block_k), r,
                  &a->scale[a->scale_layout == OCT_MN_MAJOR ? g * a->ld_scale + i : i * a->ld_scale + g]);
}

oct_status oct_norm_quant_ref(const oct_norm_quant_args *a)
{
    for (int64_t i = 0; i < a->m; i++) row(a, i);
    return OCT_OK;
}
