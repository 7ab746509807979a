/* silu_mul_quant.c - entry of oct_silu_mul_quant: checks and defaults. */
#include "core/core.h"
#include "core/kernel.h"

static oct_status prepare(oct_silu_mul_quant_args *a, int dry)
{
    static const int32_t wide[] = { OCT_F32, OCT_BF16, 0 }, codes[] = { OCT_F8E4M3FN, 0 };
    int64_t n0, n1;
    OCT_TRY(oct_check_extent("silu_mul_quant", "m", a->m, 0));
    OCT_TRY(oct_check_extent("silu_mul_quant", "k", a->k, 0));
    OCT_TRY(oct_check_scales("silu_mul_quant", a->scaling, 1u << OCT_SCALE_TENSOR | 1u << OCT_SCALE_BLOCK | 1u << OCT_SCALE_COL,
                             a->rule, a->scale_layout));
    OCT_TRY(oct_check_dtype("silu_mul_quant", "x_dtype", a->x_dtype, wide));
    OCT_TRY(oct_check_dtype("silu_mul_quant", "y_dtype", a->y_dtype, a->scaling == OCT_SCALE_NONE ? wide : codes));
    if (a->flags) return oct_fail(OCT_E_VALUE, "silu_mul_quant: flags is 0x%x; there are none", (unsigned)a->flags);
    if (!a->block_k) a->block_k = 128;
    OCT_TRY(oct_check_extent("silu_mul_quant", "block_k", a->block_k, 1));
    a->block_k = oct_min(a->block_k, oct_max(a->k, 1));
    oct_scale_shape(a->scaling, a->scale_layout, a->m, a->k, 1, a->block_k, &n0, &n1);
    const oct_operand operands[] = {
        { "silu_mul_quant", "gate", a->gate, a->x_dtype, 0, a->m, a->k, &a->ld_gate, 0, 0 },
        { "silu_mul_quant", "up", a->up, a->x_dtype, 0, a->m, a->k, &a->ld_up, 0, 0 },
        { "silu_mul_quant", "y", a->y, a->y_dtype, 0, a->m, a->k, &a->ldy, 0, 0 },
        { "silu_mul_quant", "scale", a->scale, OCT_F32, 0, n0, n1, &a->ld_scale, 0, 0 },
        { "silu_mul_quant", "scale_ub", a->scale_ub, OCT_F32, 1, 1, 1, 0, 0, 0 },
    };
    for (int i = 0; i < 5; i++) OCT_TRY(oct_check_operand(&operands[i], dry));
    return OCT_OK;
}

OCT_ENTRY(silu_mul_quant)
