/* norm_quant_sm90.c - the host's side of norm_quant_sm90.cu. */
#include "norm_quant/norm_quant_sm90.h"
#include "core/cuda.h"
#include "core/kernel.h"

/* By number: for each size, x and residual f32 f32, f32 bf16, bf16 f32; then bf16 bf16, which has sizes of its own. */
#define N(types, TH, U, OCC) "norm_row_" types "_" #TH "x" #U,
#define X(TH, U, OCC) N("f32_f32", TH, U, OCC) N("f32_bf16", TH, U, OCC) N("bf16_f32", TH, U, OCC)
#define B(TH, U, OCC) N("bf16_bf16", TH, U, OCC)
OCT_CUDA_MODULE(norm_quant_sm90, NORM_ROW_KERNELS(X) NORM_BF16_KERNELS(B) "norm_loop");
#undef N
#undef X
#undef B
#define X(TH, U, OCC) ROW_##TH##x##U, ROW_##TH##x##U##_LAST = ROW_##TH##x##U + 2,
#define B(TH, U, OCC) BF16_##TH##x##U,
enum { NORM_ROW_KERNELS(X) NORM_BF16_KERNELS(B) LOOP };
#undef X
#undef B

int oct_norm_quant_sm90_fits(const oct_norm_quant_args *a, oct_fit *fit)
{
    fit->why = "m or k beyond 2^31";
    return a->m < INT32_MAX && a->k < INT32_MAX;
}

static int aligned(const void *p, int64_t ld, int32_t dtype)
{
    return !p || ((uintptr_t)p % 16 == 0 && ld * oct_dtype_bits(dtype) / 8 % 16 == 0);
}

oct_status oct_norm_quant_sm90(const oct_norm_quant_args *a)
{
    const int group = a->scaling == OCT_SCALE_GROUP, mn = a->scale_layout == OCT_MN_MAJOR;
    const int64_t bk = oct_min(a->block_k, oct_max(a->k, 1));
    norm_params p = { .x = a->x, .residual = a->residual, .residual_out = a->residual_out, .weight = a->weight, .m = a->m, .k = a->k,
                      .ldx = a->ldx, .ld_residual = a->ld_residual, .ld_residual_out = a->ld_residual_out,
                      .inv_k = 1.0 / (double)oct_max(a->k, 1), .eps = a->eps, .x_bf16 = a->x_dtype == OCT_BF16,
                      .residual_bf16 = a->residual_dtype == OCT_BF16, .weight_bf16 = a->weight && a->weight_dtype == OCT_BF16,
                      .wide = aligned(a->x, a->ldx, a->x_dtype) && aligned(a->residual, a->ld_residual, a->residual_dtype) &&
                              aligned(a->residual_out, a->ld_residual_out, a->residual_dtype),
                      .out = { .y = a->y, .scale = a->scale, .ub = a->scale_ub, .ldy = a->ldy, .bk = bk, .eps = a->rule == OCT_RULE_EPS,
                               .scale_row = group && !mn ? a->ld_scale : 1, .scale_col = mn ? a->ld_scale : 1,
                               .to = a->y_dtype == OCT_F32 ? ROWS_TO_F32 : a->y_dtype == OCT_BF16 ? ROWS_TO_BF16 : ROWS_TO_F8,
                               .scaling = group ? ROWS_GROUP : a->scaling == OCT_SCALE_ROW ? ROWS_ROW : ROWS_NONE,
                               .wide = aligned(a->y, a->ldy, a->y_dtype) } };
    for (int32_t lanes = 1; lanes <= 32; lanes *= 2)
        if (bk == lanes * 16) p.out.lanes = lanes;
    oct_cuda_launch_t go = { .op = "norm_quant", .m = a->m, .k = a->k, .x = a->m, .threads = NORM_LOOP_THREADS, .params = &p };
    int32_t kernel = LOOP;
    /* Without residual its type does not matter; then the kernels for f32 are those that do not round h. */
    const int r_bf16 = p.residual_bf16 && a->residual_out;
    if ((!group || p.out.lanes) && (r_bf16 || !a->residual || !p.residual_bf16)) {
#define X(TH, U, OCC) if (kernel == LOOP && a->k <= TH * U * 16) kernel = ROW_##TH##x##U + 2 * p.x_bf16 + r_bf16, go.threads = TH;
#define B(TH, U, OCC) if (kernel == LOOP && a->k <= TH * U * 16) kernel = BF16_##TH##x##U, go.threads = TH;
        if (p.x_bf16 && r_bf16) { NORM_BF16_KERNELS(B) }
        else { NORM_ROW_KERNELS(X) }
#undef X
#undef B
    }
    return oct_cuda_launch(&a->on, &oct_module_norm_quant_sm90, kernel, &go);
}
