/* gemm_decode_sm90.c - the host's side of gemm_decode_sm90.cu. */
#include "gemm/gemm_host_sm90.h"
#include "gemm/gemm_decode_sm90.h"

/* Kernels by number: types and scaling, then tokens 8, 16, 32, 64. */
#define FOUR(name) "gemm_decode_" name "_8", "gemm_decode_" name "_16", "gemm_decode_" name "_32", "gemm_decode_" name "_64"
OCT_CUDA_MODULE(gemm_decode_sm90, FOUR("f8"), FOUR("f8_scaled"), FOUR("bf16"), FOUR("w8"), FOUR("w8_scaled"));
#undef FOUR

/* How a call is cut. */
typedef struct decode_plan {
    int32_t log_tokens, stages, log_split, log_share, early;
} decode_plan;

static int32_t stage_bytes(const oct_gemm_args *a, int32_t tokens)
{
    return decode_stage_bytes(tokens, a->x_dtype != a->w_dtype, block_scaled(a));
}

enum { SMS = 132 }; /* for which the plan was measured */

/* Measured on an H200 and an H100; docs/hopper.md has the table. Alone, two CTAs an SM hide each other's ends, and with more than
 * 64 tokens they read the same rows of w; with 64 the ring of one is better. In a chain a long k wants a ring that takes what comes
 * while the previous kernel ends, a short one two CTAs an SM, so that the next kernel's are there already. Few rows of w: k is cut
 * until about 80 CTAs stream. */
static decode_plan plan_of(const oct_gemm_args *a)
{
    const int64_t tiles = oct_cdiv(a->n, DECODE_ROWS), steps = oct_cdiv(a->k * w_bytes_of(a), DECODE_BLOCKS * 128);
    const int chain = (a->on.flags & OCT_ON_CHAIN) != 0;
    decode_plan d = { .log_tokens = 3 };
    while (d.log_tokens < 6 && a->m > 1 << d.log_tokens) d.log_tokens++;
    while (d.log_split < 2 && tiles << (d.log_split + 1) <= 96 && steps >> (d.log_split + 1) >= 4) d.log_split++;
    const int64_t own = oct_cdiv(steps, 1 << d.log_split);
    const int32_t stage = stage_bytes(a, 1 << d.log_tokens), full = d.log_tokens == 6, one = full && a->m <= 64;
    int64_t room = 104;
    if (one && tiles * a->batch > SMS) d.log_share = 2;
    else if (one && own > 4) room = chain ? 208 : 168;
    else if (!full && (chain ? own * stage > 208 * 1024 : d.log_split)) room = 208;
    d.early = chain && !full && room == 208;
    d.stages = (int32_t)oct_max(2, oct_min(oct_min(own, room * 1024 / stage), d.early ? own / 2 + 1 : own));
    return d;
}

int oct_gemm_decode_sm90_fits(const oct_gemm_args *a, oct_fit *fit)
{
    const int any = a->x_dtype != a->w_dtype || a->flags & OCT_GEMM_BATCH_INVARIANT;
    if ((fit->why = maps_refused(a))) return 0;
    if (!any && a->m > 128) fit->why = "m is above 128";
    else if (!any && a->m > 64 && oct_cdiv(a->n, DECODE_ROWS) * a->batch > SMS) fit->why = "m is above 64 and n large";
    return !fit->why;
}

/* [batch][blocks of 128 bytes][rows][128 bytes], so that one copy fetches several blocks, or [batch][1][rows][k]. */
static oct_status map_of(oct_tensor_map *map, const void *p, int32_t dtype, int64_t rows, int64_t k, int64_t ld, int64_t batch,
                         int64_t stride, int32_t box_rows, int32_t box_blocks, int32_t *flat)
{
    const int64_t bytes = dtype == OCT_BF16 ? 2 : 1, block = 128 / bytes;
    *flat = k % block ? (int32_t)block : 0;
    const oct_tensor_map_spec s = { p, dtype == OCT_BF16 ? OCT_BF16 : OCT_U8, 4, OCT_SWIZZLE_128,
                                    { *flat ? k : block, rows, *flat ? 1 : k / block, batch },
                                    { ld * bytes, *flat ? 16 : 128, batch > 1 ? stride * bytes : 16 },
                                    { (int32_t)block, box_rows, *flat ? 1 : box_blocks, 1 } };
    return oct_cuda_tensor_map("gemm", map, &s);
}

static oct_status launch(const oct_gemm_args *a, const decode_plan *d)
{
    const int32_t tokens = 1 << d->log_tokens, wide = a->x_dtype != a->w_dtype, scaled = block_scaled(a);
    const int32_t x_blocks = DECODE_BLOCKS * (wide ? 2 : 1), cluster = 1 << (d->log_split + d->log_share);
    const int64_t tiles = oct_cdiv(oct_cdiv(a->n, DECODE_ROWS), 1 << d->log_share);
    const int32_t ring = d->stages * stage_bytes(a, tokens), sums = decode_sums_bytes(tokens, d->log_split > 0);
    gemm_decode_params p = { .out = output_of(a), .scales = scales_of(a), .n = (int32_t)a->n, .m = (int32_t)a->m,
                             .token_tiles = (int32_t)oct_cdiv(a->m, tokens), .k_blocks = (int32_t)oct_cdiv(a->k, 128),
                             .steps = (int32_t)oct_cdiv(a->k * w_bytes_of(a), DECODE_BLOCKS * 128), .stages = d->stages,
                             .log_split = d->log_split, .log_share = d->log_share, .w_shared = a->stride_w == 0,
                             .chain = a->on.flags & OCT_ON_CHAIN ? 1 + d->early : 0 };
    /* A CTA that shares x fetches a block of a stage, or a part of its tokens. */
    const int32_t parts = d->log_share ? (int32_t)oct_max(1, (1 << d->log_share) / x_blocks) : 1;
    OCT_TRY(map_of(&p.w, a->w, a->w_dtype, a->n, a->k, a->ldw, a->stride_w ? a->batch : 1, a->stride_w, DECODE_ROWS, DECODE_BLOCKS, &p.w_flat));
    OCT_TRY(map_of(&p.x, a->x, a->x_dtype, a->m, a->k, a->ldx, a->batch, a->stride_x, tokens / parts, d->log_share ? 1 : x_blocks, &p.x_flat));
    const oct_cuda_launch_t go = { .op = "gemm", .m = a->m, .n = a->n, .k = a->k, .x = tiles * p.token_tiles * cluster, .y = a->batch,
                                   .threads = DECODE_THREADS, .cluster = cluster, .params = &p,
                                   .smem = (d->log_split ? ring + sums : (int32_t)oct_max(ring, sums)) + decode_other_bytes(tokens, d->stages) };
    const int32_t kernel = (a->w_dtype == OCT_BF16 ? 2 : a->x_dtype == OCT_BF16 ? 3 + scaled : scaled) * 4 + d->log_tokens - 3;
    return oct_cuda_launch(&a->on, &oct_module_gemm_decode_sm90, kernel, &go);
}

oct_status oct_gemm_decode_sm90(const oct_gemm_args *a)
{
    const decode_plan d = plan_of(a);
    return launch(a, &d);
}
