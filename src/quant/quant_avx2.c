/* quant_avx2.c - one scope after another: amax, scale, codes. Scopes are spread over threads; the one scope of a tensor
 * takes two passes over tiles, whose maxima combine in any order to the same bits. */
#include "core/core.h"
#include "core/kernel.h"
#include "isa/avx2/quant.h"
#include <stdatomic.h>

int oct_quant_avx2_fits(const oct_quant_args *a, oct_fit *fit) { (void)a; (void)fit; return 1; }

/* ---- A tile: rows [i0, i1), columns [j0, j1) ---- */

typedef struct tile { int64_t i0, i1, j0, j1; } tile;

INLINE const void *x_at(const oct_quant_args *a, int64_t i, int64_t j)
{
    return (const char *)a->x + (i * a->ldx + j) * (a->x_dtype == OCT_BF16 ? 2 : 4);
}

static amax amax_of_tile(const oct_quant_args *a, tile t)
{
    const int64_t n = t.j1 - t.j0;
    amax m = { 0, 0 };
    for (int64_t i = t.i0; i < t.i1; i++) {
        const void *x = x_at(a, i, t.j0);
        m = amax_of_both(m, a->x_dtype == OCT_BF16 ? amax_of(x, OCT_BF16, n) : amax_of(x, OCT_F32, n));
    }
    return m;
}

static void encode_tile(const oct_quant_args *a, tile t, const coder *c)
{
    const int64_t n = t.j1 - t.j0;
    for (int64_t i = t.i0; i < t.i1; i++) {
        uint8_t *y = (uint8_t *)a->y + i * a->ldy + t.j0;
        if (a->x_dtype == OCT_BF16) encode(x_at(a, i, t.j0), OCT_BF16, n, y, c);
        else encode(x_at(a, i, t.j0), OCT_F32, n, y, c);
    }
}

static float ub_of(const oct_quant_args *a) { return a->scale_ub ? *a->scale_ub : INFINITY; }

static void code_scope(const oct_quant_args *a, tile t, float *scale)
{
    coder c;
    if (a->flags & OCT_QUANT_SCALE_GIVEN) c = coder_given(*scale);
    else *scale = coder_of(a->rule, amax_of_tile(a, t), ub_of(a), &c);
    encode_tile(a, t, &c);
}

/* ---- The matrix as a grid of cells (scopes; tiles of a tensor), cut into tasks of task_rows x task_cols cells ---- */

enum { TASK = 1 << 16 }; /* elements: with fewer, another thread costs more than it gives */

typedef struct job {
    const oct_quant_args *a;
    int64_t bm, bk, rows, cols, task_rows, task_cols;
    coder tensor;
    _Atomic uint32_t any, number;
} job;

static int64_t cut(job *g, const oct_quant_args *a, int64_t bm, int64_t bk)
{
    g->a = a;
    g->bm = oct_max(bm, 1);
    g->bk = oct_max(bk, 1);
    g->rows = oct_cdiv(a->m, g->bm);
    g->cols = oct_cdiv(a->k, g->bk);
    if (a->scaling == OCT_SCALE_ROW) g->cols = 1; /* a row of no elements has a scale, too */
    if (!g->cols) return 0;
    g->task_cols = oct_min(g->cols, oct_max(1, TASK / g->bm / g->bk));
    g->task_rows = g->task_cols < g->cols ? 1 : oct_max(1, TASK / g->bm / oct_max(a->k, 1));
    return oct_cdiv(g->rows, g->task_rows) * oct_cdiv(g->cols, g->task_cols);
}

typedef void on_cell(job *g, tile t, int64_t r, int64_t c);
INLINE void each_cell(job *g, int64_t task, on_cell *body)
{
    const oct_quant_args *a = g->a;
    const int64_t across = oct_cdiv(g->cols, g->task_cols);
    const int64_t r0 = task / across * g->task_rows, c0 = task % across * g->task_cols;
    for (int64_t r = r0; r < oct_min(g->rows, r0 + g->task_rows); r++)
        for (int64_t c = c0; c < oct_min(g->cols, c0 + g->task_cols); c++)
            body(g, (tile){ r * g->bm, oct_min(a->m, (r + 1) * g->bm), c * g->bk, oct_min(a->k, (c + 1) * g->bk) }, r, c);
}

INLINE void scope_cell(job *g, tile t, int64_t r, int64_t c)
{
    const oct_quant_args *a = g->a;
    const int64_t at = a->scaling == OCT_SCALE_ROW ? r : a->scale_layout == OCT_MN_MAJOR ? c * a->ld_scale + r : r * a->ld_scale + c;
    code_scope(a, t, &a->scale[at]);
}
static void scopes(void *g, int64_t task) { each_cell(g, task, scope_cell); }

static void atomic_max(_Atomic uint32_t *at, uint32_t v)
{
    uint32_t old = atomic_load(at);
    while (old < v && !atomic_compare_exchange_weak(at, &old, v)) {}
}
INLINE void amax_cell(job *g, tile t, int64_t r, int64_t c)
{
    (void)r; (void)c;
    const amax m = amax_of_tile(g->a, t);
    atomic_max(&g->any, m.any);
    atomic_max(&g->number, m.number);
}
static void tensor_amax(void *g, int64_t task) { each_cell(g, task, amax_cell); }

INLINE void encode_cell(job *g, tile t, int64_t r, int64_t c)
{
    (void)r; (void)c;
    encode_tile(g->a, t, &g->tensor);
}
static void tensor_encode(void *g, int64_t task) { each_cell(g, task, encode_cell); }

oct_status oct_quant_avx2(const oct_quant_args *a)
{
    job g = { 0 };
    switch (a->scaling) {
    case OCT_SCALE_TENSOR: {
        const int64_t tasks = cut(&g, a, 1, oct_min(a->k, TASK));
        if (a->flags & OCT_QUANT_SCALE_GIVEN) g.tensor = coder_given(*a->scale);
        else {
            oct_parallel(&a->on, tasks, tensor_amax, &g);
            *a->scale = coder_of(a->rule, (amax){ g.any, g.number }, ub_of(a), &g.tensor);
        }
        oct_parallel(&a->on, tasks, tensor_encode, &g);
        return OCT_OK;
    }
    case OCT_SCALE_ROW:   oct_parallel(&a->on, cut(&g, a, 1, a->k), scopes, &g); return OCT_OK;
    case OCT_SCALE_GROUP: oct_parallel(&a->on, cut(&g, a, 1, a->block_k), scopes, &g); return OCT_OK;
    default:              oct_parallel(&a->on, cut(&g, a, a->block_m, a->block_k), scopes, &g); return OCT_OK;
    }
}
