/* quant_sm90.c - the host's side of quant_sm90.cu: which kernel a call takes, and what it is told. */
#include "quant/quant_sm90.h"
#include "core/cuda.h"
#include "core/kernel.h"

/* Kernels by number: of each, f32, bf16, f16. */
#define TYPES(name, tail) name "_f32" tail, name "_bf16" tail, name "_f16" tail,
#define X(TH, U, OCC_F32, OCC_BF16) TYPES("quant_scope", "_" #TH "x" #U)
OCT_CUDA_MODULE(quant_sm90, QUANT_SCOPE_KERNELS(X) TYPES("quant_cluster", "") TYPES("quant_small", "") TYPES("quant_tile", "")
                TYPES("quant_large_max", "") TYPES("quant_large_codes", "") TYPES("quant_col_max", "") TYPES("quant_col_codes", "")
                TYPES("quant_col_small", "") TYPES("quant_loop", "") "quant_col_factor");
#undef X
#undef TYPES
#define X(TH, U, OCC_F32, OCC_BF16) SCOPE_##TH##x##U,
enum { QUANT_SCOPE_KERNELS(X) CLUSTER, SMALL, TILE, LARGE_MAX, LARGE_CODES, COL_MAX, COL_CODES, COL_SMALL, LOOP, COL_FACTOR };
#undef X

typedef struct plan {
    quant_params p;
    int32_t kernel, threads, cluster;
    int64_t ctas, scratch;
    int32_t before; /* the kernel that finds the maxima of LARGE_CODES and COL_CODES, or -1 */
    int64_t before_ctas;
} plan;

static int aligned(const void *p, int64_t stride, int64_t elem) { return (uintptr_t)p % 16 == 0 && stride * elem % 16 == 0; }

static void plan_large(plan *l, int32_t sms)
{
    quant_params *p = &l->p;
    p->across = oct_cdiv(p->k, QUANT_LARGE_THREADS * 16);
    p->step = p->wide ? 1 : 32; /* rows are taken one by one */
    l->ctas = oct_max(1, p->m * p->across);
    p->parts = (int32_t)oct_min(oct_min(2 * sms, QUANT_LARGE_PARTS), l->ctas);
    l->kernel = LARGE_CODES;
    l->threads = QUANT_LARGE_THREADS;
    if (p->given) return;
    l->before = LARGE_MAX;
    l->before_ctas = p->parts;
    l->scratch = QUANT_LARGE_PARTS * 4;
}

/* A column has as many parts as CTAs work on its strip: enough of them for the device, by the shape alone. */
static void plan_columns(plan *l)
{
    enum { CTAS = 512, PARTS = 32, SMALL_WIDTH = 128 };
    quant_params *p = &l->p;
    l->threads = QUANT_STRIP_WARPS * 32;
    if (p->given) p->eps = 0;
    if (p->m <= QUANT_COL_SMALL_ROWS) {
        l->kernel = COL_SMALL;
        l->ctas = oct_cdiv(p->k, SMALL_WIDTH);
        return;
    }
    p->across = oct_cdiv(p->k, QUANT_STRIP);
    l->ctas = p->across * oct_cdiv(p->m, QUANT_STRIP_ROWS);
    if (p->across > INT32_MAX || l->ctas > INT32_MAX) {
        l->ctas = INT64_MAX;
        return;
    }
    p->parts = (int32_t)oct_max(1, oct_min(oct_cdiv(p->m, 8 * QUANT_STRIP_WARPS), oct_max(PARTS, CTAS / oct_max(p->across, 1))));
    l->kernel = COL_CODES;
    if (p->given) {
        p->factor = p->scale;
        return;
    }
    l->before = COL_MAX;
    l->before_ctas = p->across * p->parts;
    l->scratch = (p->parts + 1) * p->k * 4;
    p->factor = p->partial ? p->partial + p->parts * p->k : 0;
}

static void plan_of(const oct_quant_args *a, int32_t sms, plan *l)
{
    const int64_t elem = a->x_dtype == OCT_F32 ? 4 : 2;
    const int mn = a->scale_layout == OCT_MN_MAJOR;
    *l = (plan){ .p = { .x = a->x, .y = a->y, .scale = a->scale, .ub = a->scale_ub, .partial = a->on.scratch, .m = a->m, .k = a->k,
                        .ldx = a->ldx, .ldy = a->ldy, .bm = 1, .bk = a->k, .eps = a->rule == OCT_RULE_EPS,
                        .given = (a->flags & OCT_QUANT_SCALE_GIVEN) != 0 },
                 .cluster = 1, .before = -1 };
    quant_params *p = &l->p;
    p->scale_row = 1; /* of ROW */
    if (a->scaling == OCT_SCALE_TENSOR) {
        if (!a->m || (a->ldx == a->k && a->ldy == a->k)) { /* packed: one long row */
            p->k = p->bk = a->m * a->k;
            p->m = 1;
        } else p->bm = oct_max(a->m, 1);
    } else if (a->scaling == OCT_SCALE_COL) {
        p->wide = aligned(a->x, a->ldx, elem) && aligned(a->y, a->ldy, 1);
        plan_columns(l);
        return;
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

    p->step = p->wide || p->bm > 1 ? 1 : 32;
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
        if (!p->wide) p->step = p->lanes;
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
        plan_large(l, sms);
        return;
    }
    if (all > 0 && all <= most && p->scopes < INT32_MAX / QUANT_MAX_CLUSTER) {
        if (all > QUANT_SCOPE_UNITS) {
            l->kernel = CLUSTER;
            while (QUANT_CLUSTER_UNITS * l->cluster < all) l->cluster *= 2;
            l->threads = (int32_t)oct_cdiv(all, l->cluster * 2 * 32) * 32;
        } else {
            l->kernel = LOOP;
#define X(TH, U, OCC_F32, OCC_BF16) if (l->kernel == LOOP && all <= TH * U) l->kernel = SCOPE_##TH##x##U, l->threads = (int32_t)oct_cdiv(all, U * 32) * 32;
            QUANT_SCOPE_KERNELS(X)
#undef X
        }
        l->ctas = p->scopes * l->cluster;
        return;
    }
    l->kernel = LOOP;
    p->step = p->wide ? 1 : 32;
    l->threads = QUANT_LARGE_THREADS;
    l->ctas = oct_min(p->scopes, 1 << 20);
}

int oct_quant_sm90_fits(const oct_quant_args *a, oct_fit *fit)
{
    plan l;
    plan_of(a, 1, &l);
    fit->scratch = l.scratch;
    fit->why = "more CTAs than a grid has";
    return l.ctas <= INT32_MAX && l.before_ctas <= INT32_MAX;
}

oct_status oct_quant_sm90(const oct_quant_args *a)
{
    const oct_cuda_device *d = oct_cuda_open(a->on.device);
    plan l;
    if (!d) return OCT_E_DEVICE;
    plan_of(a, d->sms, &l);
    const int32_t type = a->x_dtype == OCT_F32 ? 0 : a->x_dtype == OCT_BF16 ? 1 : 2;
    oct_cuda_launch_t go = { .op = "quant", .m = a->m, .k = a->k, .x = l.ctas, .threads = l.threads, .cluster = l.cluster, .params = &l.p };
    oct_on on = a->on;
    if (l.before >= 0) {
        oct_cuda_launch_t before = go;
        before.x = l.before_ctas;
        OCT_TRY(oct_cuda_launch(&on, &oct_module_quant_sm90, 3 * l.before + type, &before));
        on.flags |= OCT_ON_CHAIN; /* behind a kernel of ours */
    }
    if (l.before == COL_MAX) {
        oct_cuda_launch_t factor = go;
        factor.x = oct_cdiv(a->k, 32);
        OCT_TRY(oct_cuda_launch(&on, &oct_module_quant_sm90, 3 * COL_FACTOR, &factor));
    }
    return oct_cuda_launch(&on, &oct_module_quant_sm90, 3 * l.kernel + type, &go);
}
