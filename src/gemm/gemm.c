/* gemm.c - entry of oct_gemm: checks and defaults. */
#include "core/core.h"
#include "core/kernel.h"

static oct_status check_modes(const oct_gemm_args *a)
{
    static const int32_t in[] = { OCT_BF16, OCT_F8E4M3FN, 0 }, out[] = { OCT_F32, OCT_BF16, 0 };
    static const char *const scalings[] = { "NONE", "TENSOR", "ROW", "GROUP", "BLOCK" };
    static const char *const layouts[] = { "K_MAJOR", "MN_MAJOR" };
    const int x_f8 = a->x_dtype == OCT_F8E4M3FN, w_f8 = a->w_dtype == OCT_F8E4M3FN;
    OCT_TRY(oct_check_dtype("gemm", "x_dtype", a->x_dtype, in));
    OCT_TRY(oct_check_dtype("gemm", "w_dtype", a->w_dtype, in));
    OCT_TRY(oct_check_dtype("gemm", "y_dtype", a->y_dtype, out));
    if (a->bias) OCT_TRY(oct_check_dtype("gemm", "bias_dtype", a->bias_dtype, out));
    if (x_f8 && !w_f8)
        return oct_fail(OCT_E_DTYPE, "gemm: x f8e4m3fn with w bf16; supported: bf16 bf16, f8e4m3fn f8e4m3fn, bf16 f8e4m3fn");
    OCT_TRY(oct_check_choice("gemm", "scaling", a->scaling, scalings, 5, 0));
    OCT_TRY(oct_check_choice("gemm", "scale_layout", a->scale_layout, layouts, 2, 0));
    if (!w_f8 && a->scaling)
        return oct_fail(OCT_E_VALUE, "gemm: scaling is %s with w bf16; supported: NONE (0)", scalings[a->scaling]);
    if (!x_f8 && a->scaling == OCT_SCALE_GROUP)
        return oct_fail(OCT_E_VALUE, "gemm: scaling is GROUP with x bf16; supported: NONE (0), TENSOR (1), ROW (2), BLOCK (4)");
    if (a->x_scale && (!a->scaling || !x_f8))
        return oct_fail(OCT_E_VALUE, "gemm: x_scale is given but %s", x_f8 ? "scaling is NONE" : "x is bf16: it must be NULL");
    if (a->w_scale && !a->scaling) return oct_fail(OCT_E_VALUE, "gemm: w_scale is given but scaling is NONE");
    if (a->flags & ~(OCT_GEMM_W_FINITE | OCT_GEMM_BATCH_INVARIANT | OCT_GEMM_FAST_ACCUM | OCT_GEMM_ZERO_REST))
        return oct_fail(OCT_E_VALUE, "gemm: flags is 0x%x; known: W_FINITE (1), BATCH_INVARIANT (2), FAST_ACCUM (4), ZERO_REST (8)",
                        (unsigned)a->flags);
    if (a->w_layout) return oct_fail(OCT_E_UNSUPPORTED, "gemm: w_layout %d is not supported yet; 0 (as stored) is", a->w_layout);
    return OCT_OK;
}

static oct_status check_block(const char *name, int64_t *block)
{
    if (!*block) *block = 128;
    return *block == 128 ? OCT_OK : oct_fail(OCT_E_VALUE, "gemm: %s is %lld; supported: 128 (or 0)", name, (long long)*block);
}

/* Group g is batch g of w. Stacked: x, y and the scales of rows are there once. */
static oct_status check_groups(oct_gemm_args *a, int dry)
{
    OCT_TRY(oct_check_extent("gemm", "groups", a->groups, 0));
    if (!a->groups) return a->m_sizes ? oct_fail(OCT_E_VALUE, "gemm: m_sizes is given but groups is 0") : OCT_OK;
    if (a->batch > 1 && a->batch != a->groups)
        return oct_fail(OCT_E_VALUE, "gemm: batch is %lld with groups %lld; as many, or 1 (or 0): stacked", (long long)a->batch, (long long)a->groups);
    if (a->scaling == OCT_SCALE_BLOCK && a->batch <= 1)
        return oct_fail(OCT_E_VALUE, "gemm: scaling is BLOCK with stacked groups, whose rows need not fill blocks; supported: NONE (0), TENSOR (1), ROW (2), GROUP (3)");
    return dry || !a->m ? OCT_OK : oct_check_pointer("gemm", "m_sizes", a->m_sizes, 8);
}

static oct_status prepare(oct_gemm_args *a, int dry)
{
    int64_t xs0, xs1, ws0, ws1;
    const int32_t w_scaling = a->scaling == OCT_SCALE_GROUP ? OCT_SCALE_BLOCK : a->scaling;
    OCT_TRY(check_modes(a));
    OCT_TRY(oct_check_extent("gemm", "m", a->m, 0));
    OCT_TRY(oct_check_extent("gemm", "n", a->n, 0));
    OCT_TRY(oct_check_extent("gemm", "k", a->k, 0));
    OCT_TRY(oct_check_extent("gemm", "batch", a->batch, 0));
    if (!a->batch) a->batch = 1;
    OCT_TRY(check_groups(a, dry));
    OCT_TRY(check_block("block_m", &a->block_m));
    OCT_TRY(check_block("block_n", &a->block_n));
    OCT_TRY(check_block("block_k", &a->block_k));
    OCT_TRY(oct_check_extent("gemm", "stride_y", a->stride_y, 0)); /* no broadcast: outputs would overlap */
    oct_scale_shape(a->x_dtype == OCT_F8E4M3FN ? a->scaling : OCT_SCALE_NONE, a->scale_layout, a->m, a->k, 128, 128, &xs0, &xs1);
    oct_scale_shape(w_scaling, a->scale_layout, a->n, a->k, 128, 128, &ws0, &ws1);
    const int64_t outer = a->batch, problems = a->groups ? a->groups : outer;
    const oct_operand operands[] = {
        { "gemm", "x", a->x, a->x_dtype, 0, a->m, a->k, &a->ldx, outer, &a->stride_x },
        { "gemm", "w", a->w, a->w_dtype, 0, a->n, a->k, &a->ldw, problems, &a->stride_w },
        { "gemm", "x_scale", a->x_scale, OCT_F32, 0, xs0, xs1, 0, a->scaling == OCT_SCALE_TENSOR ? problems : outer, 0 },
        { "gemm", "w_scale", a->w_scale, OCT_F32, 0, ws0, ws1, 0, problems, 0 },
        { "gemm", "bias", a->bias, a->bias_dtype, 1, 1, a->n, 0, problems, &a->stride_bias },
        { "gemm", "y", a->y, a->y_dtype, 0, a->m, a->n, &a->ldy, outer, &a->stride_y },
    };
    for (int i = 0; i < 6; i++) OCT_TRY(oct_check_operand(&operands[i], dry));
    if (a->groups && outer == 1) a->stride_x = a->stride_y = 0; /* kernels walk batches */
    a->batch = problems;
    return OCT_OK;
}

OCT_ENTRY(gemm)
