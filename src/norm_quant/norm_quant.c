/* norm_quant.c - entry of oct_norm_quant: checks and defaults. */
#include "core/core.h"
#include "core/kernel.h"

static oct_status prepare(oct_norm_quant_args *a, int dry)
{
    static const int32_t wide[] = { OCT_F32, OCT_BF16, 0 }, codes[] = { OCT_F8E4M3FN, 0 };
    const int residual = a->residual || a->residual_out;
    int64_t n0, n1;
    OCT_TRY(oct_check_extent("norm_quant", "m", a->m, 0));
    OCT_TRY(oct_check_extent("norm_quant", "k", a->k, 0));
    OCT_TRY(oct_check_scales("norm_quant", a->scaling, 1u << OCT_SCALE_TENSOR | 1u << OCT_SCALE_BLOCK | 1u << OCT_SCALE_COL,
                             a->rule, a->scale_layout));
    OCT_TRY(oct_check_dtype("norm_quant", "x_dtype", a->x_dtype, wide));
    if (residual) OCT_TRY(oct_check_dtype("norm_quant", "residual_dtype", a->residual_dtype, wide));
    if (a->weight) OCT_TRY(oct_check_dtype("norm_quant", "weight_dtype", a->weight_dtype, wide));
    OCT_TRY(oct_check_dtype("norm_quant", "y_dtype", a->y_dtype, a->scaling == OCT_SCALE_NONE ? wide : codes));
    if (a->flags) return oct_fail(OCT_E_VALUE, "norm_quant: flags is 0x%x; there are none", (unsigned)a->flags);
    if (!(a->eps >= 0 && a->eps < 3.4e38f))
        return oct_fail(OCT_E_VALUE, "norm_quant: eps is %g; it must be finite and at least 0", (double)a->eps);
    if (!a->block_k) a->block_k = 128;
    OCT_TRY(oct_check_extent("norm_quant", "block_k", a->block_k, 1));
    a->block_k = oct_min(a->block_k, oct_max(a->k, 1));
    oct_scale_shape(a->scaling, a->scale_layout, a->m, a->k, 1, a->block_k, &n0, &n1);
    const oct_operand operands[] = {
        { "norm_quant", "x", a->x, a->x_dtype, 0, a->m, a->k, &a->ldx, 0, 0 },
        { "norm_quant", "residual", a->residual, a->residual_dtype, 1, a->m, a->k, &a->ld_residual, 0, 0 },
        { "norm_quant", "residual_out", a->residual_out, a->residual_dtype, 1, a->m, a->k, &a->ld_residual_out, 0, 0 },
        { "norm_quant", "weight", a->weight, a->weight_dtype, 1, 1, a->k, 0, 0, 0 },
        { "norm_quant", "y", a->y, a->y_dtype, 0, a->m, a->k, &a->ldy, 0, 0 },
        { "norm_quant", "scale", a->scale, OCT_F32, 0, n0, n1, &a->ld_scale, 0, 0 },
        { "norm_quant", "scale_ub", a->scale_ub, OCT_F32, 1, 1, 1, 0, 0, 0 },
    };
    for (int i = 0; i < 7; i++) OCT_TRY(oct_check_operand(&operands[i], dry));
    if (a->residual_out && a->residual_out == a->residual && a->ld_residual_out != a->ld_residual)
        return oct_fail(OCT_E_SHAPE, "norm_quant: residual_out is residual, with a row stride of %lld instead of %lld",
                        (long long)a->ld_residual_out, (long long)a->ld_residual);
    return OCT_OK;
}

OCT_ENTRY(norm_quant)
