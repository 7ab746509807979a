/* gemm_plain_sm90.c - the host's side of gemm_plain_sm90.cu. */
#include "gemm/gemm_host_sm90.h"
#include "gemm/gemm_plain_sm90.h"

OCT_CUDA_MODULE(gemm_plain_sm90, "gemm_plain_f8", "gemm_plain_f8_scaled", "gemm_plain_bf16", "gemm_plain_w8", "gemm_plain_w8_scaled");

int oct_gemm_plain_sm90_fits(const oct_gemm_args *a, oct_fit *fit)
{
    if (a->groups) fit->why = "the rows of x are in groups";
    return !fit->why;
}

oct_status oct_gemm_plain_sm90(const oct_gemm_args *a)
{
    const int32_t scaled = block_scaled(a) && a->k; /* without k there is nothing that a block could scale */
    gemm_plain_params p = { .x = a->x, .w = a->w, .ldx = a->ldx, .stride_x = a->stride_x, .ldw = a->ldw, .stride_w = a->stride_w,
                            .out = output_of(a), .scales = scales_of(a), .m = a->m, .n = a->n, .k = a->k, .batch = a->batch,
                            .tiles_m = oct_cdiv(a->m, PLAIN_TILE), .tiles_n = oct_cdiv(a->n, PLAIN_TILE),
                            .chain = (a->on.flags & OCT_ON_CHAIN) != 0 };
    const int64_t tiles = oct_mul(oct_mul(p.tiles_m, p.tiles_n), p.batch);
    const oct_cuda_launch_t go = { .op = "gemm", .m = a->m, .n = a->n, .k = a->k, .x = tiles < 0 ? INT32_MAX : oct_min(tiles, INT32_MAX),
                                   .threads = PLAIN_THREADS, .params = &p };
    if (!a->k) p.scales = (gemm_scales){ { .p = 0 }, { .p = 0 } };
    return oct_cuda_launch(&a->on, &oct_module_gemm_plain_sm90, a->w_dtype == OCT_BF16 ? 2 : a->x_dtype == OCT_BF16 ? 3 + scaled : scaled, &go);
}
