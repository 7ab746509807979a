/* gemm_dot_avx512.c - few rows of x, FP8 by FP8: dot products of bf16 pairs on w as it lies in memory.
 *
 * x is turned to bf16 once, in scratch, in the order that decoding w gives, in panels of up to 4 rows side by side. A
 * tile takes R rows of w against the rows of a panel. The rows of a tile lie a seg apart, so that each stream of w is
 * read on and on; memory gives most to two streams, arithmetic wants four rows.
 *
 * A sum's order of addition depends on k alone, but for m = 1 without BATCH_INVARIANT, which has two chains of additions
 * to hide their latency. */
#include "core/core.h"
#include "core/kernel.h"
#include "gemm_avx2.h"
#include "isa/avx512/tile.h"

enum {
    CODES = 64,      /* of k a step */
    ROWS = 4,        /* of w in a tile, at most */
    PANEL = 4,       /* rows of x in a panel, at most */
    PASS = 16,       /* rows of x at a time */
    TILES = 8,       /* whose sums are finished together */
};

int oct_gemm_dot_avx512_fits(const oct_gemm_args *a, oct_fit *fit)
{
    if (a->x_dtype != OCT_F8E4M3FN || a->w_dtype != OCT_F8E4M3FN) { fit->why = "x and w are not both f8e4m3fn"; return 0; }
    if (!a->k) { fit->why = "k is 0"; return 0; }
    if (gemm_mean_rows(a) > PASS && !(a->flags & OCT_GEMM_BATCH_INVARIANT)) { fit->why = "m is above 16"; return 0; }
    const int64_t row = oct_mul(oct_cdiv(a->k, CODES), CODES * 2);
    if (oct_mul(row, PASS) < 0) { fit->why = "k is too large"; return 0; }
    fit->scratch = row * oct_min(a->m, PASS);
    return 1;
}

typedef struct pass {
    const oct_gemm_args *a;
    int64_t b, i0;                /* batch; first row of x */
    int m, tile_rows;             /* rows of x; of w in a tile */
    int panels, first[PASS / PANEL + 1]; /* panels, and the row of x where each begins */
    int64_t steps, seg, per_task; /* of k, the last filled up with zeros; tiles; tiles a task */
    uint16_t *x;                  /* [panel][step][rows of the panel][64] */
} pass;

static void put_x(const pass *q)
{
    const oct_gemm_args *a = q->a;
    const f8_table table = f8_table_load();
    for (int p = 0; p < q->panels; p++) {
        const int cols = q->first[p + 1] - q->first[p];
        for (int c = 0; c < cols; c++) {
            const uint8_t *x = (const uint8_t *)a->x + q->b * a->stride_x + (q->i0 + q->first[p] + c) * a->ldx;
            uint16_t *to = q->x + (q->first[p] * q->steps + c) * CODES;
            for (int64_t k = 0; k < a->k; k += CODES, to += cols * CODES) {
                __m512i v[2];
                f8_to_bf16(load_first64(x + k, a->k - k), &table, v);
                _mm512_storeu_si512(to, v[0]);
                _mm512_storeu_si512(to + 32, v[1]);
            }
        }
    }
}

/* A tile's rows of w over n steps, the last of them `last` codes long: acc[chain][row][col] grows by the products. */
INLINE void tile_steps(const uint8_t *const *w, int64_t n, int64_t last, const uint16_t *x, int R, int C, int chains, const f8_table *table,
                       __m512 *acc)
{
    for (int64_t s = 0; s < n; s++, x += C * CODES) {
        __m512i v[ROWS][2];
        UNROLL for (int r = 0; r < R; r++) {
            const uint8_t *p = w[r] + s * CODES;
            _mm_prefetch((const char *)p + 8192 / R, _MM_HINT_T1);
            f8_to_bf16(s < n - 1 || last == CODES ? _mm512_loadu_si512(p) : load_first64(p, last), table, v[r]);
        }
        UNROLL for (int c = 0; c < C; c++)
            UNROLL for (int h = 0; h < 2; h++) {
                const __m512i xv = _mm512_loadu_si512(x + (2 * c + h) * 32);
                UNROLL for (int r = 0; r < R; r++) {
                    __m512 *to = &acc[(h % chains * R + r) * C + c];
                    *to = add_pairs(*to, v[r][h], xv);
                }
            }
    }
}

/* Up to TILES tiles, each one row of w further on than the one before. */
typedef struct tiles {
    const pass *q;
    const uint8_t *w[ROWS];
    int64_t j[ROWS];       /* rows of w of the first tile */
    int n, more[ROWS];     /* tiles; how many of them have their own row of w: behind it the last is taken again */
    const uint16_t *x;
    row_scale sx[PANEL];
    float *sum;            /* [n][R][C][8] */
} tiles;

INLINE void tiles_run(const tiles *t, int R, int C, int chains, int blocks)
{
    const oct_gemm_args *a = t->q->a;
    const f8_table table = f8_table_load();
    const int64_t steps = t->q->steps, last = a->k - (steps - 1) * CODES;
    for (int g = 0; g < t->n; g++) {
        const uint8_t *w[ROWS];
        row_scale sw[ROWS];
        __m512 sum[ROWS * PANEL], acc[ROWS * PANEL];
        UNROLL for (int i = 0; i < R * C * chains; i++) sum[i] = _mm512_setzero_ps();
        UNROLL for (int r = 0; r < R; r++) {
            const int64_t own = oct_max(0, oct_min(g, t->more[r] - 1));
            w[r] = t->w[r] + own * a->ldw;
            if (blocks) sw[r] = w_scale_of(a, t->q->b, t->j[r] + own);
        }
        if (!blocks) tile_steps(w, steps, last, t->x, R, C, chains, &table, sum);
        else
            for (int64_t s = 0; s < steps; s += 2) { /* sums over 128 of k, scaled, make up the sum */
                const int64_t n = oct_min(2, steps - s);
                UNROLL for (int i = 0; i < R * C; i++) acc[i] = _mm512_setzero_ps();
                tile_steps(w, n, s + n == steps ? last : CODES, t->x + s * C * CODES, R, C, 1, &table, acc);
                UNROLL for (int r = 0; r < R; r++) {
                    w[r] += n * CODES;
                    UNROLL for (int c = 0; c < C; c++) {
                        const __m512 scale = _mm512_set1_ps(scale_of(t->sx[c], s / 2) * scale_of(sw[r], s / 2));
                        sum[r * C + c] = _mm512_fmadd_ps(acc[r * C + c], scale, sum[r * C + c]);
                    }
                }
            }
        UNROLL for (int i = 0; i < R * C; i++)
            _mm256_store_ps(t->sum + (g * R * C + i) * 8, halves_added(chains == 2 ? _mm512_add_ps(sum[i], sum[R * C + i]) : sum[i]));
    }
}

#define TILE(R, C)                                                            \
    static void plain_##R##x##C(const tiles *t) { tiles_run(t, R, C, 1, 0); }  \
    static void blocks_##R##x##C(const tiles *t) { tiles_run(t, R, C, 1, 1); }
TILE(2, 1) TILE(4, 2) TILE(4, 3) TILE(4, 4)
#undef TILE
static void alone(const tiles *t) { tiles_run(t, 2, 1, 2, 0); }

/* Tiles [t0, t0 + n), n <= TILES. */
static void group(const pass *q, int64_t t0, int n)
{
    static void (*const run[2][PANEL])(const tiles *) = { { plain_2x1, plain_4x2, plain_4x3, plain_4x4 },
                                                          { blocks_2x1, blocks_4x2, blocks_4x3, blocks_4x4 } };
    const oct_gemm_args *a = q->a;
    const int R = q->tile_rows, blocks = scaled_in_blocks(a), one = a->m == 1 && !blocks && !(a->flags & OCT_GEMM_BATCH_INVARIANT);
    float sums[TILES * ROWS * PANEL * 8] __attribute__((aligned(32)));
    tiles t = { .q = q, .n = n, .sum = sums };
    for (int r = 0; r < R; r++) {
        t.j[r] = oct_min(t0 + r * q->seg, a->n - 1);
        t.more[r] = (int)oct_max(0, oct_min(n, a->n - t0 - r * q->seg));
        t.w[r] = (const uint8_t *)a->w + q->b * a->stride_w + t.j[r] * a->ldw;
    }
    for (int p = 0; p < q->panels; p++) {
        const int first = q->first[p], C = q->first[p + 1] - first;
        t.x = q->x + first * q->steps * CODES;
        for (int c = 0; blocks && c < C; c++) t.sx[c] = x_scale_of(a, q->b, q->i0 + first + c);
        (one ? alone : run[blocks][C - 1])(&t);
        for (int c = 0; c < C; c++)
            for (int r = 0; r < R && t.more[r]; r++) {
                __m256 v[TILES];
                for (int g = 0; g < TILES; g++) v[g] = _mm256_load_ps(sums + ((g < n ? g : n - 1) * R * C + r * C + c) * 8);
                finish8(a, q->b, q->i0 + first + c, t.j[r], t.more[r], sum_lanes(v));
            }
    }
}

static void task(void *p, int64_t i)
{
    const pass *q = p;
    const int64_t end = oct_min(q->seg, (i + 1) * q->per_task);
    for (int64_t t = i * q->per_task; t < end; t += TILES) group(q, t, (int)oct_min(TILES, end - t));
}

oct_status oct_gemm_dot_avx512(const oct_gemm_args *a)
{
    pass q = { .a = a, .steps = oct_cdiv(a->k, CODES), .x = a->on.scratch };
    if (!a->m || !a->n) return OCT_OK;
    for (q.b = 0; q.b < a->batch; q.b++) {
        const gemm_rows r = gemm_rows_of(a, q.b);
        const oct_gemm_args one = gemm_of_rows(a, r);
        q.a = &one;
        for (q.i0 = r.first; q.i0 < r.end; q.i0 += PASS) {
            q.m = (int)oct_min(PASS, r.end - q.i0);
            q.tile_rows = q.m == 1 ? 2 : ROWS;
            q.seg = oct_cdiv(a->n, q.tile_rows);
            q.panels = (q.m + PANEL - 1) / PANEL;
            for (int p = 0; p <= q.panels; p++) q.first[p] = q.m * p / q.panels;
            /* A task takes about 20 us: 512 KiB of weights, or 8 million products. */
            const double tile_work = (double)a->k * q.tile_rows * (q.m <= 4 ? 1.0 : q.m * 0.25);
            q.per_task = oct_max(1, oct_min(q.seg, (int64_t)(524288 / tile_work))) + TILES - 1;
            q.per_task -= q.per_task % TILES;
            put_x(&q);
            oct_parallel(&a->on, oct_cdiv(q.seg, q.per_task), task, &q);
        }
    }
    gemm_zero_rest(a);
    return OCT_OK;
}
