/* dequant_sm90.c - the host's side of dequant_sm90.cu. */
#include "dequant/dequant_sm90.h"
#include "core/cuda.h"
#include "core/kernel.h"

OCT_CUDA_MODULE(dequant_sm90, "dequant_f32", "dequant_bf16", "dequant_f16", "dequant_col_f32", "dequant_col_bf16", "dequant_col_f16");

int oct_dequant_sm90_fits(const oct_dequant_args *a, oct_fit *fit)
{
    const int64_t most = (int64_t)INT32_MAX * DEQUANT_THREADS, elements = oct_mul(a->m, a->k);
    fit->why = "m or k beyond 2^31, or more elements than a grid has threads";
    return a->m <= INT32_MAX && a->k <= INT32_MAX && elements >= 0 && elements <= most;
}

oct_status oct_dequant_sm90(const oct_dequant_args *a)
{
    const int type = a->y_dtype == OCT_BF16 ? 1 : a->y_dtype == OCT_F16 ? 2 : 0;
    const int col = a->scaling == OCT_SCALE_COL, mn = a->scale_layout == OCT_MN_MAJOR;
    const int blocks = a->scaling == OCT_SCALE_GROUP || a->scaling == OCT_SCALE_BLOCK;
    const int64_t elem = type ? 2 : 4, n = 16 / elem;
    dequant_params p = { .x = a->x, .y = a->y, .scale = a->scaling ? a->scale : 0, .m = a->m, .k = a->k, .ldx = a->ldx, .ldy = a->ldy,
                         .bm = a->scaling == OCT_SCALE_BLOCK ? a->block_m : 1, .bk = blocks ? a->block_k : col ? 1 : oct_max(a->k, 1),
                         .scale_row = 1, .scale_col = col, .one_row = a->scaling == OCT_SCALE_TENSOR || col };
    if (blocks) {
        p.scale_row = mn ? 1 : a->ld_scale;
        p.scale_col = mn ? a->ld_scale : 1;
    }
    p.bm = oct_min(p.bm, oct_max(a->m, 1));
    p.bk = oct_min(p.bk, oct_max(a->k, 1));
    p.one_col = p.bk >= a->k;
    p.wide = (uintptr_t)a->x % (uintptr_t)n == 0 && a->ldx % n == 0 && (uintptr_t)a->y % 16 == 0 && a->ldy * elem % 16 == 0 &&
             (col ? (uintptr_t)a->scale % 16 == 0 : p.one_col || p.bk % n == 0);
    p.vectors = p.wide ? oct_cdiv(a->k, n) : a->k;
    p.magic = p.vectors > 1 ? UINT64_MAX / (uint64_t)p.vectors + 1 : 0;
    const oct_cuda_launch_t go = { .op = "dequant", .m = a->m, .k = a->k, .threads = DEQUANT_THREADS, .params = &p,
                                   .x = oct_cdiv(a->m * p.vectors, DEQUANT_THREADS * DEQUANT_VECTORS) };
    return oct_cuda_launch(&a->on, &oct_module_dequant_sm90, 3 * col + type, &go);
}
