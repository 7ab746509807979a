/* gemm_tile_sm90.c - the host's side of gemm_tile_sm90.cu. */
#include "gemm/gemm_host_sm90.h"
#include "gemm/gemm_tile_sm90.h"

/* Kernels by number: name, columns of a tile, mode, CTAs that cut k, and the measured time of a column in it, in percent of
 * the fastest of its mode when all multiprocessors are busy (H100, 8192 x 8192 x 8192; docs/hopper.md). */
#define KERNELS(X)                                                                                              \
    X(f8_256, 256, FAST, 1, 100) X(f8_224, 224, FAST, 1, 104) X(f8_128, 128, FAST, 1, 125)                      \
    X(f8_split_160, 160, FAST, 2, 140)                                                                          \
    X(f8_exact_256, 256, ACCURATE, 1, 100) X(f8_exact_192, 192, ACCURATE, 1, 103) X(f8_exact_128, 128, ACCURATE, 1, 125) \
    X(f8_exact_split_160, 160, ACCURATE, 2, 140)                                                                \
    X(f8_scaled_256, 256, SCALED, 1, 100) X(f8_scaled_128, 128, SCALED, 1, 120)                                 \
    X(bf16_256, 256, FAST, 1, 100) X(bf16_128, 128, FAST, 1, 120)
#define X(name, columns, mode, split, cost) "gemm_tile_" #name,
OCT_CUDA_MODULE(gemm_tile_sm90, KERNELS(X));
#undef X
#define X(name, columns, mode, split, cost) KERNEL_##name,
enum { KERNELS(X) KERNEL_COUNT };
#undef X
#define X(name, columns, mode, split, cost) { columns, TILE_##mode, split, cost, TILE_SMEM(columns, TILE_##mode) },
static const struct { int32_t columns, mode, split, cost, smem; } kernels[] = { KERNELS(X) };
#undef X

/* How a call is cut. */
typedef struct tile_plan {
    int32_t kernel, raster, log_share;
} tile_plan;

/* The kernel whose last tiles end first. */
static tile_plan plan_of(const oct_gemm_args *a, int32_t sms)
{
    const int bf16 = a->x_dtype == OCT_BF16;
    const int32_t mode = block_scaled(a) ? TILE_SCALED : bf16 || a->flags & OCT_GEMM_FAST_ACCUM ? TILE_FAST : TILE_ACCURATE;
    tile_plan t = { .kernel = -1, .raster = 16 };
    int64_t least = INT64_MAX;
    for (int32_t i = 0; i < KERNEL_COUNT; i++) {
        const int64_t tiles = oct_cdiv(a->m, TILE_ROWS) * oct_cdiv(a->n, kernels[i].columns) * a->batch, ctas = tiles * kernels[i].split;
        const int64_t cost = oct_cdiv(ctas, sms) * kernels[i].columns * kernels[i].cost / kernels[i].split;
        if (kernels[i].mode != mode || (i >= KERNEL_bf16_256) != bf16 || cost >= least) continue;
        if (kernels[i].split > 1 && (ctas > sms || a->k < 32 * 128)) continue; /* a short k is not worth the exchange */
        least = cost;
        t.kernel = i;
    }
    const int64_t tiles_m = oct_cdiv(a->m, TILE_ROWS), tiles = tiles_m * oct_cdiv(a->n, kernels[t.kernel].columns) * a->batch;
    const int gains = t.kernel == KERNEL_bf16_256 || kernels[t.kernel].columns == 128 || (t.kernel == KERNEL_f8_256 && tiles >= 8 * sms);
    t.log_share = gains && (tiles_m % 2 == 0 || tiles_m > 32); /* else half a cluster would idle too long */
    if (t.log_share) t.raster = 8;
    return t;
}

int oct_gemm_tile_sm90_fits(const oct_gemm_args *a, oct_fit *fit)
{
    if (a->x_dtype != a->w_dtype) fit->why = "x is bf16 and w f8e4m3fn";
    else if (a->flags & OCT_GEMM_BATCH_INVARIANT) fit->why = "the call asks for BATCH_INVARIANT";
    else fit->why = maps_refused(a);
    return !fit->why;
}

static oct_status map_of(oct_tensor_map *map, const void *p, int32_t dtype, int64_t rows, int64_t cols, int64_t ld, int64_t batch,
                         int64_t stride, int32_t box_rows, int32_t box_cols, int32_t swizzle)
{
    const int64_t bytes = dtype == OCT_BF16 ? 2 : 1;
    const oct_tensor_map_spec s = { p, dtype == OCT_BF16 ? OCT_BF16 : OCT_U8, 3, swizzle, { cols, rows, batch },
                                    { ld * bytes, batch > 1 ? stride * bytes : 16 }, { box_cols, box_rows, 1 } };
    return oct_cuda_tensor_map("gemm", map, &s);
}

static oct_status launch(const oct_gemm_args *a, const tile_plan *t, int32_t sms)
{
    const int32_t columns = kernels[t->kernel].columns, mode = kernels[t->kernel].mode, split = kernels[t->kernel].split;
    const int32_t block = 128 / (int32_t)x_bytes_of(a), box = TILE_BOX_COLUMNS(columns, mode), cluster = split << t->log_share;
    gemm_tile_params p = { .out = output_of(a), .scales = scales_of(a), .m = (int32_t)a->m, .n = (int32_t)a->n, .batch = (int32_t)a->batch,
                           .k_steps = (int32_t)oct_cdiv(a->k, block), .raster = t->raster, .log_share = t->log_share,
                           .w_shared = a->stride_w == 0, .chain = (a->on.flags & OCT_ON_CHAIN) != 0 };
    p.tiles_m = (int32_t)oct_cdiv(a->m, TILE_ROWS << t->log_share);
    p.tiles_n = (int32_t)oct_cdiv(a->n, columns);
    p.boxes = a->y_dtype == OCT_BF16 && a->n % 8 == 0 && mappable(a->y, 2, a->ldy, a->stride_y, a->batch);
    p.bulk_scales = a->scaling == OCT_SCALE_GROUP && a->scale_layout == OCT_MN_MAJOR && a->m % 4 == 0 && (uintptr_t)a->x_scale % 16 == 0;
    OCT_TRY(map_of(&p.x, a->x, a->x_dtype, a->m, a->k, a->ldx, a->batch, a->stride_x, TILE_ROWS, block, OCT_SWIZZLE_128));
    OCT_TRY(map_of(&p.w, a->w, a->w_dtype, a->n, a->k, a->ldw, a->stride_w ? a->batch : 1, a->stride_w, columns >> t->log_share, block,
                   OCT_SWIZZLE_128));
    if (p.boxes)
        OCT_TRY(map_of(&p.y, a->y, OCT_BF16, a->m, a->n, a->ldy, a->batch, a->stride_y, 64, box, box == 64 ? OCT_SWIZZLE_128 : OCT_SWIZZLE_64));
    const int64_t tiles = (int64_t)p.tiles_m * p.tiles_n * p.batch;
    const oct_cuda_launch_t go = { .op = "gemm", .m = a->m, .n = a->n, .k = a->k, .threads = TILE_THREADS, .cluster = cluster,
                                   .x = (split > 1 ? tiles : oct_min(tiles, sms / cluster)) * cluster,
                                   .smem = kernels[t->kernel].smem, .params = &p };
    return oct_cuda_launch(&a->on, &oct_module_gemm_tile_sm90, t->kernel, &go);
}

oct_status oct_gemm_tile_sm90(const oct_gemm_args *a)
{
    const oct_cuda_device *d = oct_cuda_open(a->on.device);
    if (!d) return OCT_E_DEVICE;
    const tile_plan t = plan_of(a, d->sms);
    return launch(a, &t, d->sms);
}
