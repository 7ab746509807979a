/* dequant.c - entry of oct_dequant: checks and defaults. */
#include "core/core.h"
#include "core/kernel.h"

static oct_status prepare(oct_dequant_args *a, int dry)
{
    static const int32_t in[] = { OCT_F8E4M3FN, 0 }, out[] = { OCT_F32, OCT_BF16, OCT_F16, 0 };
    int64_t n0, n1;
    OCT_TRY(oct_check_extent("dequant", "m", a->m, 0));
    OCT_TRY(oct_check_extent("dequant", "k", a->k, 0));
    OCT_TRY(oct_check_dtype("dequant", "x_dtype", a->x_dtype, in));
    OCT_TRY(oct_check_dtype("dequant", "y_dtype", a->y_dtype, out));
    OCT_TRY(oct_check_scales("dequant", a->scaling, 0, 0, a->scale_layout));
    if (!a->block_m) a->block_m = 128;
    if (!a->block_k) a->block_k = 128;
    OCT_TRY(oct_check_extent("dequant", "block_m", a->block_m, 1));
    OCT_TRY(oct_check_extent("dequant", "block_k", a->block_k, 1));
    oct_scale_shape(a->scaling, a->scale_layout, a->m, a->k, a->block_m, a->block_k, &n0, &n1);
    const oct_operand operands[] = {
        { "dequant", "x", a->x, a->x_dtype, 0, a->m, a->k, &a->ldx, 0, 0 },
        { "dequant", "y", a->y, a->y_dtype, 0, a->m, a->k, &a->ldy, 0, 0 },
        { "dequant", "scale", a->scale, OCT_F32, 0, n0, n1, &a->ld_scale, 0, 0 },
    };
    for (int i = 0; i < 3; i++) OCT_TRY(oct_check_operand(&operands[i], dry));
    return OCT_OK;
}

OCT_ENTRY(dequant)
