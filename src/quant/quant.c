/* quant.c - entry of oct_quant: checks and defaults. */
#include "core/core.h"
#include "core/kernel.h"

static oct_status prepare(oct_quant_args *a, int dry)
{
    static const int32_t in[] = { OCT_F32, OCT_BF16, OCT_F16, 0 }, out[] = { OCT_F8E4M3FN, 0 };
    int64_t n0, n1;
    OCT_TRY(oct_check_extent("quant", "m", a->m, 0));
    OCT_TRY(oct_check_extent("quant", "k", a->k, 0));
    OCT_TRY(oct_check_dtype("quant", "x_dtype", a->x_dtype, in));
    OCT_TRY(oct_check_dtype("quant", "y_dtype", a->y_dtype, out));
    OCT_TRY(oct_check_scales("quant", a->scaling, 1u << OCT_SCALE_NONE, a->rule, a->scale_layout));
    if (a->flags & ~OCT_QUANT_SCALE_GIVEN)
        return oct_fail(OCT_E_VALUE, "quant: flags is 0x%x; SCALE_GIVEN (1) is the one flag", (unsigned)a->flags);
    if (a->flags & OCT_QUANT_SCALE_GIVEN && a->scale_ub)
        return oct_fail(OCT_E_VALUE, "quant: scale_ub bounds a computed scale; with SCALE_GIVEN it must be NULL");
    if (a->flags & OCT_QUANT_SCALE_GIVEN && a->valid_m)
        return oct_fail(OCT_E_VALUE, "quant: valid_m says what a computed scale is made of; with SCALE_GIVEN it must be NULL");
    if (a->seed)
        return oct_fail(OCT_E_UNSUPPORTED, "quant: seed (stochastic rounding) is not supported yet; pass NULL");
    if (!a->block_m) a->block_m = 128;
    if (!a->block_k) a->block_k = 128;
    OCT_TRY(oct_check_extent("quant", "block_m", a->block_m, 1));
    OCT_TRY(oct_check_extent("quant", "block_k", a->block_k, 1));
    a->block_m = oct_min(a->block_m, oct_max(a->m, 1)); /* so that sums of a row and a block do not overflow */
    a->block_k = oct_min(a->block_k, oct_max(a->k, 1));
    if (!a->group_m) a->group_m = oct_max(a->m, 1);
    OCT_TRY(oct_check_extent("quant", "group_m", a->group_m, 1));
    if (a->valid_m && !dry && a->m) OCT_TRY(oct_check_pointer("quant", "valid_m", a->valid_m, 8));
    oct_scale_shape(a->scaling, a->scale_layout, a->m, a->k, a->block_m, a->block_k, &n0, &n1);
    const oct_operand operands[] = {
        { "quant", "x", a->x, a->x_dtype, 0, a->m, a->k, &a->ldx, 0, 0 },
        { "quant", "y", a->y, a->y_dtype, 0, a->m, a->k, &a->ldy, 0, 0 },
        { "quant", "scale", a->scale, OCT_F32, 0, n0, n1, &a->ld_scale, 0, 0 },
        { "quant", "scale_ub", a->scale_ub, OCT_F32, 1, 1, 1, 0, 0, 0 },
    };
    for (int i = 0; i < 4; i++) OCT_TRY(oct_check_operand(&operands[i], dry));
    return OCT_OK;
}

OCT_ENTRY(quant)
