/* silu_mul_quant_sm90.c - the host's side of silu_mul_quant_sm90.cu. */
#include "silu_mul_quant/silu_mul_quant_sm90.h"
#include "core/cuda.h"
#include "core/kernel.h"

#define X(TH, U, OCC_F32, OCC_BF16) , "silu_row_f32_" #TH "x" #U, "silu_row_bf16_" #TH "x" #U
OCT_CUDA_MODULE(silu_mul_quant_sm90, "silu_flat_f32", "silu_flat_bf16", "silu_loop", "silu_cluster_f32", "silu_cluster_bf16" SILU_ROW_KERNELS(X));
#undef X
#define X(TH, U, OCC_F32, OCC_BF16) , ROW_##TH##x##U, ROW_BF16_##TH##x##U
enum { FLAT, FLAT_BF16, LOOP, CLUSTER, CLUSTER_BF16 SILU_ROW_KERNELS(X) };
#undef X

int oct_silu_mul_quant_sm90_fits(const oct_silu_mul_quant_args *a, oct_fit *fit)
{
    fit->why = "m beyond 2^28 or k beyond 2^31";
    return a->m < INT32_MAX / 8 && a->k < INT32_MAX;
}

static int aligned(const void *p, int64_t ld, int64_t elem) { return (uintptr_t)p % 16 == 0 && ld * elem % 16 == 0; }

oct_status oct_silu_mul_quant_sm90(const oct_silu_mul_quant_args *a)
{
    const int bf16 = a->x_dtype == OCT_BF16, group = a->scaling == OCT_SCALE_GROUP, mn = a->scale_layout == OCT_MN_MAJOR;
    const int64_t elem = bf16 ? 2 : 4, bk = oct_min(a->block_k, oct_max(a->k, 1));
    silu_params p = { .gate = a->gate, .up = a->up, .m = a->m, .k = a->k, .ld_gate = a->ld_gate, .ld_up = a->ld_up, .bf16 = bf16,
                      .wide = aligned(a->gate, a->ld_gate, elem) && aligned(a->up, a->ld_up, elem),
                      .out = { .y = a->y, .scale = a->scale, .ub = a->scale_ub, .ldy = a->ldy, .bk = bk, .eps = a->rule == OCT_RULE_EPS,
                               .scale_row = group && !mn ? a->ld_scale : 1, .scale_col = mn ? a->ld_scale : 1,
                               .to = a->y_dtype == OCT_F32 ? ROWS_TO_F32 : a->y_dtype == OCT_BF16 ? ROWS_TO_BF16 : ROWS_TO_F8,
                               .scaling = group ? ROWS_GROUP : a->scaling == OCT_SCALE_ROW ? ROWS_ROW : ROWS_NONE,
                               .wide = aligned(a->y, a->ldy, oct_dtype_bits(a->y_dtype) / 8) } };
    for (int32_t lanes = 1; lanes <= 32; lanes *= 2)
        if (bk == lanes * 16) p.out.lanes = lanes;
    oct_cuda_launch_t go = { .op = "silu_mul_quant", .m = a->m, .k = a->k, .x = a->m, .threads = SILU_LOOP_THREADS, .params = &p };
    int32_t kernel = LOOP;
    p.units = oct_max(1, oct_cdiv(a->k, 16));
    if (group && p.out.lanes) p.units = oct_cdiv(p.units, p.out.lanes) * p.out.lanes;
    if (a->scaling == OCT_SCALE_NONE || (group && p.out.lanes)) {
        kernel = FLAT + bf16;
        go.threads = SILU_FLAT_THREADS;
        go.x = a->k ? oct_cdiv(a->m * p.units, SILU_FLAT_THREADS) : 0;
    } else if (!group) {
        /* A cluster's exchange costs about 1 us: worth it where a CTA a row leaves most of the device idle. */
        const oct_cuda_device *d = oct_cuda_open(a->on.device);
        const int64_t most = 512 * 16, sms = d ? d->sms : 132;
        int32_t cluster = 1;
        while (cluster < 8 && cluster * most < a->k) cluster *= 2;
        if (cluster > 1 && cluster * most >= a->k && (a->k > 4 * most || a->m * cluster <= 2 * sms)) {
            kernel = CLUSTER + bf16;
            go.threads = 512;
            go.cluster = cluster;
            go.x = a->m * cluster;
        }
#define X(TH, U, OCC_F32, OCC_BF16) if (kernel == LOOP && a->k <= TH * U * 16) kernel = ROW_##TH##x##U + bf16, go.threads = TH;
        SILU_ROW_KERNELS(X)
#undef X
    }
    return oct_cuda_launch(&a->on, &oct_module_silu_mul_quant_sm90, kernel, &go);
}
