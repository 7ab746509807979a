/* quant_sm90.c - the host's side of quant_sm90.cu: which kernel a call takes, and what it is told. */
#include "quant/quant_sm90.h"
#include "core/cuda.h"
#include "core/kernel.h"

/* Kernels by number: f32, then bf16. */
#define X(TH, U, OCC_F32, OCC_BF16) "quant_scope_f32_" #TH "x" #U, "quant_scope_bf16_" #TH "x" #U,
OCT_CUDA_MODULE(quant_sm90, QUANT_SCOPE_KERNELS(X) "quant_cluster_f32", "quant_cluster_bf16", "quant_small_f32", "quant_small_bf16",
                "quant_tile_f32", "quant_tile_bf16", "quant_large_max_f32", "quant_large_max_bf16", "quant_large_codes_f32",
                "quant_large_codes_bf16", "quant_loop_f32", "quant_loop_bf16");
#undef X
#define X(TH, U, OCC_F32, OCC_BF16) SCOPE_##TH##x##U, SCOPE_BF16_##TH##x##U,
enum {
    QUANT_SCOPE_KERNELS(X) CLUSTER, CLUSTER_BF16, SMALL, SMALL_BF16, TILE, TILE_BF16, LARGE_MAX, LARGE_MAX_BF16, LARGE_CODES,
    LARGE_CODES_BF16, LOOP
};
#undef X

typedef struct plan {
    quant_params p;
    int32_t kernel, threads, cluster, two; /* two: LARGE_MAX goes before */
    int64_t ctas;
} plan;

static int aligned(const void *p, int64_t stride, int64_t elem) { return (uintptr_t)p % 16 == 0 && stride * elem % 16 == 0; }

enum { KEEP = 32 << 20 }; /* bytes of the matrix that stay in L2 between the passes */
static void plan_large(plan *l, int32_t sms, int bf16)
{
    quant_params *p = &l->p;
    const int64_t elem = bf16 ? 2 : 4, chunk = QUANT_LARGE_THREADS * 16;
    p->across = oct_cdiv(p->k, chunk);
    l->ctas = oct_max(1, p->m * p->across);
    p->parts = (int32_t)oct_min(oct_min((bf16 ? 4 : 2) * sms, QUANT_LARGE_PARTS), l->ctas);
    p->keep = oct_max(0, l->ctas - KEEP / (chunk * elem));
    l->kernel = LARGE_CODES;
    l->threads = QUANT_LARGE_THREADS;
    l->two = !p->given;
}

static void plan_of(const oct_quant_args *a, int32_t sms, plan *l)
{
    const int64_t elem = a->x_dtype == OCT_BF16 ? 2 : 4;
    const int mn = a->scale_layout == OCT_MN_MAJOR;
    *l = (plan){ .p = { .x = a->x, .y = a->y, .scale = a->scale, .ub = a->scale_ub, .partial = a->on.scratch, .m = a->m, .k = a->k,
                        .ldx = a->ldx, .ldy = a->ldy, .bm = 1, .bk = a->k, .eps = a->rule == OCT_RULE_EPS,
                        .given = (a->flags & OCT_QUANT_SCALE_GIVEN) != 0 },
                 .cluster = 1 };
    quant_params *p = &l->p;
    p->scale_row = 1; /* of ROW */
    if (a->scaling == OCT_SCALE_TENSOR) {
        if (!a->m || (a->ldx == a->k && a->ldy == a->k)) { /* packed: one long row */
            p->k = p->bk = a->m * a->k;
            p->m = 1;
        } else p->bm = oct_max(a->m, 1);
    } else if (a->scaling != OCT_SCALE_ROW) {
        p->bm = a->scaling == OCT_SCALE_BLOCK ? a->block_m : 1;
        p->bk = a->block_k;
        p->scale_row = mn ? 1 : a->ld_scale;
        p->scale_col = mn ? a->ld_scale : 1;
    }
    const int64_t rows = a->scaling == OCT_SCALE_TENSOR ? 1 : oct_cdiv(p->m, p->bm);
    p->cols = p->k == p->bk ? 1 : oct_cdiv(p->k, oct_max(p->bk, 1)); /* a row of nothing is a scope, too */
    if (a->scaling > OCT_SCALE_ROW && !p->k) p->cols = 0;
    p->scopes = rows * p->cols;
    p->wide = aligned(a->x, a->ldx, elem) && aligned(a->y, a->ldy, 1) && (p->cols <= 1 || p->bk % 16 == 0);

    const int64_t units = oct_max(1, oct_cdiv(p->bk, 16)), all = units > INT32_MAX ? INT64_MAX : oct_mul(units, p->bm);
    p->units = (int32_t)oct_min(units, INT32_MAX);
    p->magic = (1ULL << 32) / (uint64_t)units + ((1ULL << 32) % (uint64_t)units != 0);
    p->lanes = 1;
    while (p->lanes < units && p->lanes < 32) p->lanes *= 2;
    const int64_t small = oct_mul(oct_mul(rows, p->cols), p->lanes);
    if (p->bm == 1 && p->bk <= QUANT_SMALL_COLUMNS && small >= 0 && small < 1LL << 31) {
        p->units = (int32_t)(p->cols * p->lanes);
        l->kernel = SMALL;
        l->threads = QUANT_SMALL_THREADS;
        l->ctas = oct_cdiv(small, QUANT_SMALL_THREADS);
        p->across = oct_cdiv(p->k, QUANT_SMALL_COLUMNS);
        const int64_t tiles = oct_mul(p->across, oct_cdiv(p->m, 8));
        if (a->scaling == OCT_SCALE_GROUP && p->bk == 16 * p->lanes && p->wide && p->k % 16 == 0 && p->k >= QUANT_SMALL_COLUMNS &&
            p->k <= INT32_MAX && p->m <= INT32_MAX && p->m >= 8 && tiles > 0 && tiles <= INT32_MAX) {
            l->kernel = TILE;
            l->ctas = tiles;
        }
        return;
    }
    const int64_t most = QUANT_CLUSTER_UNITS * QUANT_MAX_CLUSTER;
    if (a->scaling == OCT_SCALE_TENSOR && all > (p->given ? QUANT_SCOPE_UNITS : most) &&
        oct_mul(p->m, oct_cdiv(p->k, QUANT_LARGE_THREADS * 16)) <= INT32_MAX) {
        plan_large(l, sms, a->x_dtype == OCT_BF16);
        return;
    }
    if (all > 0 && all <= most && p->scopes < INT32_MAX / QUANT_MAX_CLUSTER) {
        if (all > QUANT_SCOPE_UNITS) {
            l->kernel = CLUSTER;
            l->threads = 512;
            while (QUANT_CLUSTER_UNITS * l->cluster < all) l->cluster *= 2;
        } else {
            l->kernel = LOOP;
#define X(TH, U, OCC_F32, OCC_BF16) if (l->kernel == LOOP && all <= TH * U) l->kernel = SCOPE_##TH##x##U, l->threads = TH;
            QUANT_SCOPE_KERNELS(X)
#undef X
        }
        l->ctas = p->scopes * l->cluster;
        return;
    }
    l->kernel = LOOP;
    l->threads = QUANT_LARGE_THREADS;
    l->ctas = oct_min(p->scopes, 1 << 20);
}

int oct_quant_sm90_fits(const oct_quant_args *a, oct_fit *fit)
{
    plan l;
    if (a->x_dtype == OCT_F16 || a->scaling == OCT_SCALE_COL) return fit->why = "f16 and columns are not built", 0;
    plan_of(a, 1, &l);
    fit->scratch = l.two ? QUANT_LARGE_PARTS * 4 : 0;
    return 1;
}

oct_status oct_quant_sm90(const oct_quant_args *a)
{
    const oct_cuda_device *d = oct_cuda_open(a->on.device);
    plan l;
    if (!d) return OCT_E_DEVICE;
    plan_of(a, d->sms, &l);
    const int32_t bf16 = a->x_dtype == OCT_BF16;
    oct_cuda_launch_t go = { .op = "quant", .m = a->m, .k = a->k, .x = l.ctas, .threads = l.threads, .cluster = l.cluster, .params = &l.p };
    oct_on on = a->on;
    if (l.two) {
        oct_cuda_launch_t before = go;
        before.x = l.p.parts;
        OCT_TRY(oct_cuda_launch(&a->on, &oct_module_quant_sm90, LARGE_MAX + bf16, &before));
        on.flags |= OCT_ON_CHAIN; /* behind a kernel of ours */
    }
    return oct_cuda_launch(&on, &oct_module_quant_sm90, l.kernel + bf16, &go);
}
