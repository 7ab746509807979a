/* quant_avx2.c - one scope after another: amax, scale, codes. Scopes are spread over threads; the one scope of a tensor
 * takes two passes over tiles, whose maxima combine in any order to the same bits. Columns are taken in strips. */
#include "core/core.h"
#include "core/kernel.h"
#include "isa/avx2/quant.h"
#include <stdatomic.h>
#include <string.h>

int oct_quant_avx2_fits(const oct_quant_args *a, oct_fit *fit)
{
    (void)a;
    (void)fit;
    return 1;
}

/* ---- Runs of a row ---- */

INLINE int64_t size_of(const oct_quant_args *a) { return bytes_of(a->x_dtype); }
INLINE const char *x_at(const oct_quant_args *a, int64_t i, int64_t j)
{ return (const char *)a->x + (i * a->ldx + j) * size_of(a); }
INLINE uint8_t *y_at(const oct_quant_args *a, int64_t i, int64_t j) { return (uint8_t *)a->y + i * a->ldy + j; }
static float ub_of(const oct_quant_args *a) { return a->scale_ub ? *a->scale_ub : INFINITY; }

/* n elements that lie `ahead` bytes behind x are going to be read. */
INLINE void fetch(const oct_quant_args *a, const char *x, int64_t n, int64_t ahead)
{
    for (int64_t at = 0; ahead && at < n * size_of(a); at += 64) _mm_prefetch(x + ahead + at, _MM_HINT_T0);
}
static amax amax_run(const oct_quant_args *a, const char *x, int64_t n)
{
    switch (a->x_dtype) {
    case OCT_F32: return amax_of(x, OCT_F32, n);
    case OCT_BF16: return amax_of(x, OCT_BF16, n);
    default: return amax_of(x, OCT_F16, n);
    }
}
static uint32_t encode_run(const oct_quant_args *a, const char *x, int64_t n, uint8_t *y, const coder *c, stream next)
{
    switch (a->x_dtype) {
    case OCT_F32: return encode(x, OCT_F32, n, y, c, next);
    case OCT_BF16: return encode(x, OCT_BF16, n, y, c, next);
    default: return encode(x, OCT_F16, n, y, c, next);
    }
}

/* ---- Rows that do not count: see valid_m ---- */

static int counts(const oct_quant_args *a, int64_t i) { return !a->valid_m || i % a->group_m < a->valid_m[i / a->group_m]; }
static void zero_run(const oct_quant_args *a, int64_t i, int64_t j0, int64_t j1) { memset(y_at(a, i, j0), 0, (size_t)(j1 - j0)); }
static float scale_of_zeros(const oct_quant_args *a)
{
    coder c;
    return coder_of(a->rule, (amax){ 0, 0 }, ub_of(a), &c);
}

/* ---- Rows [i0, i1), columns [j0, j1) that share a scale ---- */

typedef struct tile {
    int64_t i0, i1, j0, j1;
} tile;

static amax amax_of_tile(const oct_quant_args *a, tile t, int64_t ahead)
{
    amax m = { 0, 0 };
    for (int64_t i = t.i0; i < t.i1; i++) {
        if (!counts(a, i)) continue;
        fetch(a, x_at(a, i, t.j0), t.j1 - t.j0, ahead);
        m = amax_of_both(m, amax_run(a, x_at(a, i, t.j0), t.j1 - t.j0));
    }
    return m;
}
static void encode_tile(const oct_quant_args *a, tile t, const coder *c, int64_t ahead)
{
    for (int64_t i = t.i0; i < t.i1; i++) {
        if (a->scaling != OCT_SCALE_TENSOR && !counts(a, i)) {
            zero_run(a, i, t.j0, t.j1);
            continue;
        }
        fetch(a, x_at(a, i, t.j0), t.j1 - t.j0, ahead);
        encode_run(a, x_at(a, i, t.j0), t.j1 - t.j0, y_at(a, i, t.j0), c, (stream){ 0, 0 });
    }
}

/* ---- Scalings: each is given its share of the matrix ---- */

static void given(const oct_quant_args *a, tile t, const float *scale)
{
    const coder c = coder_given(*scale);
    encode_tile(a, t, &c, ahead_of(a->m - t.i0, a->ldx, size_of(a)));
}

static void rows_that_count(const oct_quant_args *a, int64_t i0, int64_t i1)
{
    amax m = amax_run(a, x_at(a, i0, 0), a->k);
    for (int64_t i = i0; i < i1; i++) {
        const stream next = i + 1 < i1 ? stream_of(a->x, a->x_dtype, i + 1, a->m, a->ldx) : (stream){ 0, 0 };
        coder c;
        a->scale[i] = coder_of(a->rule, m, ub_of(a), &c);
        const uint32_t any = encode_run(a, x_at(a, i, 0), a->k, y_at(a, i, 0), &c, next);
        m = any <= F32_INF_BITS ? (amax){ any, any } : amax_run(a, next.row, a->k);
    }
}

static void rows(const oct_quant_args *a, int64_t i0, int64_t i1)
{
    for (int64_t i = i0, end; i < i1; i = end) {
        for (end = i; end < i1 && counts(a, end);) end++;
        if (end > i) {
            rows_that_count(a, i, end);
            continue;
        }
        zero_run(a, i, 0, a->k);
        a->scale[i] = scale_of_zeros(a);
        end = i + 1;
    }
}

/* Groups [g0, g1) of a row: scales first, so that no group waits for its own. */
static void groups(const oct_quant_args *a, int64_t i, int64_t g0, int64_t g1)
{
    enum { SOME = 32 };
    const int64_t bk = a->block_k;
    const int64_t ahead = ahead_of(a->m - i, a->ldx, size_of(a));
    const float ub = ub_of(a);
    coder c[SOME];
    if (!counts(a, i)) {
        zero_run(a, i, g0 * bk, oct_min(a->k, g1 * bk));
        for (int64_t g = g0; g < g1; g++) a->scale[a->scale_layout == OCT_MN_MAJOR ? g * a->ld_scale + i : i * a->ld_scale + g] = scale_of_zeros(a);
        return;
    }
    for (; g0 < g1; g0 += SOME) {
        const int64_t n = oct_min(SOME, g1 - g0);
        for (int64_t g = 0; g < n; g++) {
            const int64_t j = (g0 + g) * bk, run = oct_min(bk, a->k - j);
            fetch(a, x_at(a, i, j), run, ahead);
            const float s = coder_of(a->rule, amax_run(a, x_at(a, i, j), run), ub, &c[g]);
            a->scale[a->scale_layout == OCT_MN_MAJOR ? (g0 + g) * a->ld_scale + i : i * a->ld_scale + g0 + g] = s;
        }
        for (int64_t g = 0; g < n; g++) {
            const int64_t j = (g0 + g) * bk;
            encode_run(a, x_at(a, i, j), oct_min(bk, a->k - j), y_at(a, i, j), &c[g], (stream){ 0, 0 });
        }
    }
}

static void block(const oct_quant_args *a, tile t, float *scale)
{
    coder c;
    *scale = coder_of(a->rule, amax_of_tile(a, t, 0), ub_of(a), &c);
    encode_tile(a, t, &c, t.j1 < a->k ? (t.j1 - t.j0) * size_of(a) : 0); /* the block to the right comes next */
}

/* ---- The matrix as a grid of cells of bm x bk elements, cut into tasks of task_rows x task_cols cells ---- */

enum { TASK = 1 << 17 }; /* elements: with fewer, another thread costs more than it gives */

typedef struct job {
    const oct_quant_args *a;
    int64_t bm, bk, rows, cols, task_rows, task_cols, tasks;
    coder tensor;
    _Atomic uint32_t any, number; /* amax of the tensor so far */
} job;

static void cut(job *g, const oct_quant_args *a, int64_t bm, int64_t bk)
{
    g->a = a;
    g->bm = bm;
    g->bk = bk;
    g->rows = oct_cdiv(a->m, bm);
    g->cols = oct_cdiv(a->k, bk);
    g->task_cols = oct_max(1, oct_min(g->cols, TASK / bm / bk));
    g->task_rows = g->task_cols < g->cols ? 1 : oct_max(1, TASK / bm / oct_max(a->k, 1));
    g->tasks = oct_cdiv(g->rows, g->task_rows) * oct_cdiv(g->cols, g->task_cols);
}

typedef struct span {
    int64_t r0, r1, c0, c1;
} span; /* of cells */
static span span_of(const job *g, int64_t task)
{
    const int64_t across = oct_cdiv(g->cols, g->task_cols), r = task / across * g->task_rows,
                  c = task % across * g->task_cols;
    return (span){ r, oct_min(g->rows, r + g->task_rows), c, oct_min(g->cols, c + g->task_cols) };
}
static tile tile_of(const job *g, int64_t r, int64_t c)
{ return (tile){ r * g->bm, oct_min(g->a->m, (r + 1) * g->bm), c * g->bk, oct_min(g->a->k, (c + 1) * g->bk) }; }

static void scopes(void *p, int64_t task)
{
    const job *g = p;
    const oct_quant_args *a = g->a;
    const span s = span_of(g, task);
    if (a->scaling == OCT_SCALE_ROW && !(a->flags & OCT_QUANT_SCALE_GIVEN)) {
        rows(a, s.r0, s.r1);
        return;
    }
    for (int64_t r = s.r0; r < s.r1; r++) {
        if (a->scaling == OCT_SCALE_GROUP && !(a->flags & OCT_QUANT_SCALE_GIVEN)) {
            groups(a, r, s.c0, s.c1);
            continue;
        }
        for (int64_t c = s.c0; c < s.c1; c++) {
            float *scale = &a->scale[a->scaling == OCT_SCALE_ROW       ? r
                                     : a->scale_layout == OCT_MN_MAJOR ? c * a->ld_scale + r
                                                                       : r * a->ld_scale + c];
            if (a->flags & OCT_QUANT_SCALE_GIVEN) given(a, tile_of(g, r, c), scale);
            else block(a, tile_of(g, r, c), scale);
        }
    }
}

static void atomic_max(_Atomic uint32_t *at, uint32_t v)
{
    uint32_t old = atomic_load(at);
    while (old < v && !atomic_compare_exchange_weak(at, &old, v)) {}
}
static void tensor_amax(void *p, int64_t task)
{
    job *g = p;
    const span s = span_of(g, task);
    amax m = { 0, 0 };
    for (int64_t r = s.r0; r < s.r1; r++)
        for (int64_t c = s.c0; c < s.c1; c++)
            m = amax_of_both(m, amax_of_tile(g->a, tile_of(g, r, c), ahead_of(g->a->m - r, g->a->ldx, size_of(g->a))));
    atomic_max(&g->any, m.any);
    atomic_max(&g->number, m.number);
}
static void tensor_encode(void *p, int64_t task)
{
    const job *g = p;
    const span s = span_of(g, task);
    for (int64_t r = s.r0; r < s.r1; r++)
        for (int64_t c = s.c0; c < s.c1; c++)
            encode_tile(g->a, tile_of(g, r, c), &g->tensor, ahead_of(g->a->m - r, g->a->ldx, size_of(g->a)));
}

static void tensor(const oct_quant_args *a)
{
    job g = { 0 };
    cut(&g, a, 1, oct_max(1, oct_min(a->k, TASK)));
    if (a->flags & OCT_QUANT_SCALE_GIVEN) g.tensor = coder_given(*a->scale);
    else {
        oct_parallel(&a->on, g.tasks, tensor_amax, &g);
        if (a->valid_m) g.any = UINT32_MAX; /* what does not count may be anything, and is encoded */
        *a->scale = coder_of(a->rule, (amax){ g.any, g.number }, ub_of(a), &g.tensor);
    }
    oct_parallel(&a->on, g.tasks, tensor_encode, &g);
}

/* ---- Columns: a strip of them is a task, walked row by row, twice; a vector holds the maxima, or factors, of 8 ---- */

enum { STRIP = 256 };

INLINE void column_maxima(const oct_quant_args *a, int32_t dtype, int64_t j0, int64_t n, float *max)
{
    for (int64_t j = 0; j < n; j += 8) _mm256_storeu_ps(max + j, _mm256_setzero_ps());
    for (int64_t i = 0; i < a->m; i++)
        for (int64_t j = 0; counts(a, i) && j < n; j += 8) { /* max gives its second operand for NaN */
            const __m256 x = load_first(x_at(a, i, j0), dtype, j, n - j);
            _mm256_storeu_ps(max + j, _mm256_max_ps(f32x8_abs(x), _mm256_loadu_ps(max + j)));
        }
}
INLINE void column_codes(const oct_quant_args *a, int32_t dtype, int64_t j0, int64_t n, const float *factor, int divide)
{
    for (int64_t i = 0; i < a->m; i++) {
        if (!counts(a, i)) {
            zero_run(a, i, j0, j0 + n);
            continue;
        }
        for (int64_t j = 0; j < n; j += 8) {
            const __m256 x = load_first(x_at(a, i, j0), dtype, j, n - j), f = _mm256_loadu_ps(factor + j);
            const __m128i codes = f32x8_to_f8e4m3fn(divide ? _mm256_div_ps(x, f) : _mm256_mul_ps(x, f));
            if (n - j >= 8) _mm_storel_epi64((__m128i *)(y_at(a, i, j0) + j), codes);
            else store_bytes(y_at(a, i, j0) + j, codes, n - j);
        }
    }
}
static void column_strip(void *p, int64_t task)
{
    const oct_quant_args *a = p;
    const int64_t j0 = task * STRIP, n = oct_min(STRIP, a->k - j0);
    const int given = a->flags & OCT_QUANT_SCALE_GIVEN, divide = given || a->rule == OCT_RULE_MIN;
    float max[STRIP], factor[STRIP] = { 0 };
    if (!given) {
        switch (a->x_dtype) {
        case OCT_F32: column_maxima(a, OCT_F32, j0, n, max); break;
        case OCT_BF16: column_maxima(a, OCT_BF16, j0, n, max); break;
        default: column_maxima(a, OCT_F16, j0, n, max);
        }
    }
    for (int64_t j = 0; j < n; j++)
        if (given) factor[j] = a->scale[j0 + j];
        else a->scale[j0 + j] = oct_scale_of(a->rule, max[j], ub_of(a), &factor[j]);
    switch (a->x_dtype) {
    case OCT_F32: column_codes(a, OCT_F32, j0, n, factor, divide); break;
    case OCT_BF16: column_codes(a, OCT_BF16, j0, n, factor, divide); break;
    default: column_codes(a, OCT_F16, j0, n, factor, divide);
    }
}

oct_status oct_quant_avx2(const oct_quant_args *a)
{
    const int by_row = a->scaling == OCT_SCALE_ROW;
    job g = { 0 };
    if (a->scaling == OCT_SCALE_TENSOR) tensor(a);
    else if (a->scaling == OCT_SCALE_COL) oct_parallel(&a->on, oct_cdiv(a->k, STRIP), column_strip, (void *)a);
    else if (!a->k) /* a row of no elements has a scale, too */
        for (int64_t i = 0; by_row && !(a->flags & OCT_QUANT_SCALE_GIVEN) && i < a->m; i++)
            a->scale[i] = scale_of_zeros(a);
    else {
        cut(&g, a, a->scaling == OCT_SCALE_BLOCK ? a->block_m : 1, by_row ? a->k : a->block_k);
        oct_parallel(&a->on, g.tasks, scopes, &g);
    }
    return OCT_OK;
}
