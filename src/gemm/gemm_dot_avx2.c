/* gemm_dot_avx2.c - few rows of x: dot products on w as it lies in memory, decoded in registers.
 *
 * x is decoded once into scratch, in the order of `widen` and in panels of up to 5 rows side by side. A tile then takes R
 * rows of w against the C rows of x of a panel, with R C sums in registers. The rows of a tile lie a seg apart, so that
 * every stream of w is read on and on: memory gives most to a few long streams. Where w exceeds what the scale of
 * `widen` leaves of f32's range, x is brought to it by a power of two, which the sums give back (`up`).
 *
 * The sum for (i, j) runs over k in one order that depends on k alone, but for m = 1 without BATCH_INVARIANT, which has
 * two chains of additions to hide their latency. */
#include "core/core.h"
#include "core/kernel.h"
#include "gemm_avx2.h"

enum {
    PASS = 32,       /* rows of x at a time */
    PANELS = 7,      /* that make up a pass: 32 = 5 5 5 5 4 4 4 */
    TILES = 8,       /* whose sums are finished together */
    PIECE = 1024,    /* of k, so that a panel of x stays in L1; a multiple of 128 */
    MOST = 16,       /* m up to which this row is the better one */
};

int oct_gemm_dot_avx2_fits(const oct_gemm_args *a, oct_fit *fit)
{
    if (!a->k) { fit->why = "k is 0"; return 0; }
    if (gemm_mean_rows(a) > MOST && !(a->flags & OCT_GEMM_BATCH_INVARIANT)) { fit->why = "m is above 16"; return 0; }
    const int64_t row = oct_mul(oct_cdiv(a->k, STEP), STEP * 4);
    if (oct_mul(row, PASS + 1) < 0) { fit->why = "k is too large"; return 0; }
    fit->scratch = row * oct_min(a->m, PASS) + PASS * 4;
    return 1;
}

/* ---- x to scratch ---- */

typedef struct pass {
    const oct_gemm_args *a;
    int64_t b, i0, m;             /* rows [i0, i0 + m) of x */
    int f8, panels, tile_rows;    /* of w; of x; of w in a tile */
    int first[PANELS + 1];        /* row of x where a panel begins */
    int64_t steps, seg, per_task; /* STEPs of k, the last filled up; tiles; tiles a task */
    float *x, *up;                /* [panel][step][4][rows of the panel][8]; [m] */
} pass;

/* Four vectors of natural order to that of widen_f8. */
INLINE void order_bf16_as_f8(const __m256i a, const __m256i b, __m256 o[4])
{
    const __m256 fa = f32_bits(a), fb = f32_bits(b); /* dwords, pairs of bf16: even ones hold elements 4l, 4l + 1 */
    const __m256i even = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(fa, fb, 0x88)), 0xd8);
    const __m256i odd = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(fa, fb, 0xdd)), 0xd8);
    o[0] = f32_bits(low_half_up(even));
    o[1] = f32_bits(low_half_up(odd));
    o[2] = f32_bits(high_half(even));
    o[3] = f32_bits(high_half(odd));
}

/* One STEP of a row of x. */
INLINE void put_step(const char *p, int x_f8, int w_f8, float scale, float scale2, float *out, int64_t stride)
{
    __m256 o[4];
    if (x_f8) {
        widen_f8(load32(p), o);
        UNROLL for (int v = 0; v < 4; v++) o[v] = nan_restore(o[v]);
    } else if (w_f8)
        order_bf16_as_f8(load32(p), load32(p + 32), o);
    else
        widen_bf16(load32(p), load32(p + 32), o);
    UNROLL for (int v = 0; v < 4; v++) {
        if (w_f8) o[v] = _mm256_mul_ps(_mm256_mul_ps(o[v], _mm256_set1_ps(scale)), _mm256_set1_ps(scale2));
        _mm256_storeu_ps(out + v * stride, o[v]);
    }
}

/* Biased exponent of the largest finite of n bf16. */
static int largest_exponent(const uint16_t *x, int64_t n)
{
    __m128i most = _mm_setzero_si128();
    for (int64_t k = 0; k < n; k += 8) {
        const __m128i e = _mm_and_si128(n - k >= 8 ? _mm_loadu_si128((const __m128i *)(x + k)) : load_bytes(x + k, 2 * (n - k)),
                                        _mm_set1_epi16(0x7f80));
        most = _mm_max_epi16(most, _mm_andnot_si128(_mm_cmpeq_epi16(e, _mm_set1_epi16(0x7f80)), e));
    }
    uint16_t e[8];
    int r = 0;
    _mm_storeu_si128((__m128i *)e, most);
    for (int i = 0; i < 8; i++) r = e[i] > r ? e[i] : r;
    return r >> 7;
}

static float power_of_2(int e) { return oct_f32_from_bits((uint32_t)(e + 127) << 23); } /* -126 <= e <= 127 */

static void put_row(const pass *q, int p, int64_t i)
{
    const oct_gemm_args *a = q->a;
    const int x_f8 = a->x_dtype == OCT_F8E4M3FN, tail = (int)(a->k % STEP), cols = q->first[p + 1] - q->first[p];
    const char *x = (const char *)a->x + (q->b * a->stride_x + (q->i0 + i) * a->ldx) * (x_f8 ? 1 : 2);
    float *out = q->x + q->first[p] * q->steps * STEP + (i - q->first[p]) * 8;
    /* x is multiplied with scale * scale2; what that and the scale of widen leave of the sum, up takes away. */
    float scale = 1, scale2 = 1, up = 1;
    if (x_f8) {
        scale = scale2 = 0x1p115f; /* from 2^-120 to 2^110 */
        up = 0x1p10f;
    } else if (q->f8) { /* the largest to below 2^127 */
        const int e = (int)oct_max(largest_exponent((const uint16_t *)(const void *)x, a->k) - 127, -120);
        scale = power_of_2((126 - e) / 2);
        scale2 = power_of_2(126 - e - (126 - e) / 2);
        up = power_of_2(e - 6);
    }
    q->up[i] = up;
    char last[2 * STEP] = { 0 };
    if (tail) memcpy(last, x + (a->k - tail) * (x_f8 ? 1 : 2), (size_t)(x_f8 ? tail : 2 * tail));
    for (int64_t s = 0; s < q->steps; s++) {
        const char *from = tail && s == q->steps - 1 ? last : x + s * step_bytes(x_f8);
        float *to = out + s * STEP * cols;
        if (x_f8) put_step(from, 1, 1, scale, scale2, to, 8 * cols);
        else if (q->f8) put_step(from, 0, 1, scale, scale2, to, 8 * cols);
        else put_step(from, 0, 0, scale, scale2, to, 8 * cols);
    }
}
static void put_panel(void *p, int64_t panel)
{
    const pass *q = p;
    for (int i = q->first[panel]; i < q->first[panel + 1]; i++) put_row(q, (int)panel, i);
}

/* ---- Tiles ---- */

/* Up to TILES tiles, each one row of w further on than the one before, over a piece of k. */
typedef struct tiles {
    const oct_gemm_args *a;
    const char *w[4];
    int64_t ld, j[4], b;      /* bytes from row to row of w; the rows of the first tile; batch */
    int n, more[4];           /* tiles; how many of them have their own row of w: behind it the last is taken again */
    const float *x, *up;      /* up of the columns */
    int64_t steps;            /* whole ones of this piece */
    int64_t tail, ahead;      /* elements behind them; bytes to prefetch ahead */
    int64_t kb;               /* K block of the piece, when scales are in blocks */
    int blocks, first;        /* scales in blocks; first piece: sums begin at 0 */
    row_scale sx[5];
    float *sum;               /* [n][R][C][8] */
    __m256i nan;              /* what nan_gather saw */
} tiles;

/* `count` steps of each row in turn. */
INLINE void tile_step(const char *const *w, int64_t at, int64_t ahead, const float *x, int count, int R, int C, int chains, int f8, int check,
                      __m256 *acc, __m256i *nan)
{
    UNROLL for (int r = 0; r < R; r++) {
        const char *p = w[r] + at;
        if (C <= 3) __asm__ volatile("" ::: "memory"); /* or x is kept in registers that the sums need */
        if (count == 2) {
            _mm_prefetch(p + ahead, _MM_HINT_T1);
            if (!f8) _mm_prefetch(p + ahead + 64, _MM_HINT_T1);
        }
        UNROLL for (int s = 0; s < count; s++) {
            __m256 o[4];
            if (check) *nan = nan_gather(*nan, load32(p + s * step_bytes(f8)));
            widen(p + s * step_bytes(f8), f8, o);
            UNROLL for (int v = 0; v < 4; v++)
                UNROLL for (int c = 0; c < C; c++) {
                    __m256 *to = &acc[(v % chains * R + r) * C + c];
                    *to = _mm256_fmadd_ps(o[v], _mm256_loadu_ps(x + s * STEP * C + (v * C + c) * 8), *to);
                }
        }
    }
}

/* n whole steps, with the next lines of w on their way. */
INLINE void tile_steps(const char *const *w, int64_t ahead, int64_t n, const float *x, int R, int C, int chains, int f8, int check,
                       __m256 *acc, __m256i *nan)
{
    int64_t at = 0;
    for (; n >= 2; n -= 2, x += 2 * STEP * C, at += 2 * step_bytes(f8)) tile_step(w, at, ahead, x, 2, R, C, chains, f8, check, acc, nan);
    if (n) tile_step(w, at, 0, x, 1, R, C, chains, f8, check, acc, nan);
}

/* What lies behind the last whole step, filled up with zeros. */
INLINE void tile_tail(const char *const *w, int64_t tail, const float *x, int R, int C, int chains, int f8, int check, __m256 *acc,
                      __m256i *nan)
{
    char rest[4][2 * STEP] = { { 0 } };
    const char *p[4];
    for (int r = 0; r < R; r++) memcpy(rest[r], w[r], (size_t)(f8 ? tail : 2 * tail));
    for (int r = 0; r < R; r++) p[r] = rest[r];
    tile_step(p, 0, 0, x, 1, R, C, chains, f8, check, acc, nan);
}

INLINE void tiles_plain(tiles *t, int R, int C, int chains, int f8, int check)
{
    const char *w[4];
    __m256i nan = t->nan;
    float *sum = t->sum;
    UNROLL for (int r = 0; r < R; r++) w[r] = t->w[r];
    for (int g = 0; g < t->n; g++, sum += R * C * 8) {
        __m256 acc[12];
        UNROLL for (int i = 0; i < R * C * chains; i++)
            acc[i] = t->first || i >= R * C ? _mm256_setzero_ps() : _mm256_load_ps(sum + i * 8);
        tile_steps(w, t->ahead, t->steps, t->x, R, C, chains, f8, check, acc, &nan);
        if (t->tail) {
            const char *p[4];
            UNROLL for (int r = 0; r < R; r++) p[r] = w[r] + t->steps * step_bytes(f8);
            tile_tail(p, t->tail, t->x + t->steps * STEP * C, R, C, chains, f8, check, acc, &nan);
        }
        UNROLL for (int i = 0; i < R * C; i++)
            _mm256_store_ps(sum + i * 8, chains == 2 ? _mm256_add_ps(acc[i], acc[R * C + i]) : acc[i]);
        UNROLL for (int r = 0; r < R; r++) w[r] += g + 1 < t->more[r] ? t->ld : 0;
    }
    t->nan = nan;
}

/* With scales in blocks: sums over 128 of k, scaled, make up the sum. */
INLINE void tiles_blocks(tiles *t, int R, int C, int f8, int check)
{
    float *sum = t->sum;
    for (int g = 0; g < t->n; g++, sum += R * C * 8) {
        const float *x = t->x;
        const char *w[4];
        row_scale sw[4];
        for (int r = 0; r < R; r++) {
            const int64_t own = oct_max(0, oct_min(g, t->more[r] - 1));
            w[r] = t->w[r] + own * t->ld;
            sw[r] = w_scale_of(t->a, t->b, t->j[r] + own);
        }
        int64_t left = t->steps, tail = t->tail;
        for (int64_t kb = t->kb; left || tail; kb++) {
            __m256 acc[12];
            const int64_t n = oct_min(128 / STEP, left);
            UNROLL for (int i = 0; i < R * C; i++) acc[i] = _mm256_setzero_ps();
            tile_steps(w, t->ahead, n, x, R, C, 1, f8, check, acc, &t->nan);
            left -= n;
            x += n * STEP * C;
            for (int r = 0; r < R; r++) w[r] += n * step_bytes(f8);
            if (!left && n < 128 / STEP && tail) {
                tile_tail(w, tail, x, R, C, 1, f8, check, acc, &t->nan);
                tail = 0;
            }
            UNROLL for (int r = 0; r < R; r++)
                UNROLL for (int c = 0; c < C; c++) {
                    const __m256 s = _mm256_set1_ps(scale_of(t->sx[c], kb) * scale_of(sw[r], kb));
                    const __m256 old = t->first && kb == t->kb ? _mm256_setzero_ps() : _mm256_load_ps(sum + (r * C + c) * 8);
                    const __m256 part = _mm256_mul_ps(acc[r * C + c], _mm256_set1_ps(t->up[c]));
                    _mm256_store_ps(sum + (r * C + c) * 8, _mm256_fmadd_ps(part, s, old));
                }
        }
    }
}

INLINE void tiles_run(tiles *t, int R, int C, int chains, int f8, int check)
{
    if (t->blocks) tiles_blocks(t, R, C, f8, check);
    else tiles_plain(t, R, C, chains, f8, check);
}

#define TILE(R, C)                                                          \
    static void f8_##R##x##C(tiles *t) { tiles_run(t, R, C, 1, 1, 0); }       \
    static void f8_nan_##R##x##C(tiles *t) { tiles_run(t, R, C, 1, 1, 1); }   \
    static void bf16_##R##x##C(tiles *t) { tiles_run(t, R, C, 1, 0, 0); }
TILE(4, 1) TILE(4, 2) TILE(4, 3) TILE(2, 3) TILE(2, 4) TILE(2, 5)
#undef TILE
static void f8_alone(tiles *t) { tiles_run(t, 4, 1, 2, 1, 0); }
static void f8_nan_alone(tiles *t) { tiles_run(t, 4, 1, 2, 1, 1); }
static void bf16_alone(tiles *t) { tiles_run(t, 4, 1, 2, 0, 0); }

typedef void tiles_fn(tiles *t);
static tiles_fn *choose(int tile_rows, int cols, int f8, int check, int alone)
{
    static tiles_fn *const rows4[3][3] = { { bf16_4x1, f8_4x1, f8_nan_4x1 }, { bf16_4x2, f8_4x2, f8_nan_4x2 }, { bf16_4x3, f8_4x3, f8_nan_4x3 } };
    static tiles_fn *const rows2[3][3] = { { bf16_2x3, f8_2x3, f8_nan_2x3 }, { bf16_2x4, f8_2x4, f8_nan_2x4 }, { bf16_2x5, f8_2x5, f8_nan_2x5 } };
    static tiles_fn *const one[3] = { bf16_alone, f8_alone, f8_nan_alone };
    const int how = f8 ? 1 + check : 0;
    return alone ? one[how] : tile_rows == 4 ? rows4[cols - 1][how] : rows2[cols - 3][how];
}

/* ---- A task ---- */

static int row_has_nan(const char *w, int64_t k)
{
    __m256i seen = _mm256_setzero_si256();
    int64_t i = 0;
    for (; i + 32 <= k; i += 32) seen = nan_gather(seen, load32(w + i));
    int found = nan_seen(seen);
    for (; i < k; i++) found |= (w[i] & 0x7f) == 0x7f;
    return found;
}

/* Column j of y, if row j of w holds NaN, which widen_f8 does not know. */
static void settle_nan(const pass *q, int64_t j)
{
    const oct_gemm_args *a = q->a;
    if (!row_has_nan((const char *)a->w + q->b * a->stride_w + j * a->ldw, a->k)) return;
    for (int64_t i = q->i0; i < q->i0 + q->m; i++)
        store_f32x8(a->y, a->y_dtype, q->b * a->stride_y + i * a->ldy + j, _mm256_set1_ps(NAN), 1);
}

/* Tiles [t0, t0 + n), n <= TILES. */
static void group(const pass *q, int64_t t0, int n)
{
    const oct_gemm_args *a = q->a;
    const int R = q->tile_rows, alone = a->m == 1 && !(a->flags & OCT_GEMM_BATCH_INVARIANT);
    const int check = q->f8 && !(a->flags & OCT_GEMM_W_FINITE), bytes = q->f8 ? 1 : 2;
    const int64_t piece = q->m == 1 ? a->k : PIECE;
    float sums[TILES * 2 * PASS * 8] __attribute__((aligned(32))); /* [panel][tile][R][C][8] */
    int nan = 0;
    tiles t = { .a = a, .ld = a->ldw * bytes, .b = q->b, .n = n, .blocks = scaled_in_blocks(a) };
    for (int r = 0; r < R; r++) {
        t.j[r] = oct_min(t0 + r * q->seg, a->n - 1);
        t.more[r] = (int)oct_max(0, oct_min(n, a->n - t0 - r * q->seg));
    }
    for (int64_t k0 = 0; k0 < a->k; k0 += piece)
        for (int p = 0; p < q->panels; p++) {
            const int C = q->first[p + 1] - q->first[p];
            const int64_t k = oct_min(piece, a->k - k0);
            t.x = q->x + q->first[p] * q->steps * STEP + k0 * C;
            t.up = q->up + q->first[p];
            t.steps = k / STEP;
            t.tail = k % STEP;
            t.kb = k0 / 128;
            t.first = !k0;
            t.ahead = q->m == 1 ? 4096 : p + 1 < q->panels ? 0 : k0 + piece < a->k ? piece * bytes : (TILES * a->ldw - k0) * bytes;
            t.sum = sums + TILES * R * q->first[p] * 8;
            t.nan = _mm256_setzero_si256();
            for (int r = 0; r < R; r++) t.w[r] = (const char *)a->w + (q->b * a->stride_w + t.j[r] * a->ldw + k0) * bytes;
            for (int c = 0; t.blocks && c < C; c++) t.sx[c] = x_scale_of(a, q->b, q->i0 + q->first[p] + c);
            choose(R, C, q->f8, check && !p, alone)(&t);
            nan |= nan_seen(t.nan);
        }
    for (int p = 0; p < q->panels; p++) {
        const int C = q->first[p + 1] - q->first[p];
        for (int c = 0; c < C; c++) {
            const int i = q->first[p] + c;
            const __m256 up = _mm256_set1_ps(t.blocks ? 1 : q->up[i]);
            for (int r = 0; r < R && t.more[r]; r++) {
                const float *sum = sums + (TILES * R * q->first[p] + r * C + c) * 8;
                __m256 v[8];
                for (int g = 0; g < TILES; g++) v[g] = _mm256_load_ps(sum + (g < n ? g : n - 1) * R * C * 8);
                finish8(a, q->b, q->i0 + i, t.j[r], t.more[r], _mm256_mul_ps(sum_lanes(v), up));
            }
        }
    }
    for (int r = 0; nan && r < R; r++)
        for (int64_t g = 0; g < t.more[r]; g++) settle_nan(q, t.j[r] + g);
}

static void task(void *p, int64_t i)
{
    const pass *q = p;
    const int64_t end = oct_min(q->seg, (i + 1) * q->per_task);
    for (int64_t t = i * q->per_task; t < end; t += TILES) group(q, t, (int)oct_min(TILES, end - t));
}

static void run_pass(pass *q)
{
    const oct_gemm_args *a = q->a;
    const int m = (int)q->m;
    q->tile_rows = m <= 3 || m == 6 ? 4 : 2;
    q->panels = m <= 5 ? 1 : m == 6 ? 2 : (m + 4) / 5;
    for (int p = 0; p <= q->panels; p++) q->first[p] = (m * p + q->panels - 1) / q->panels;
    q->seg = oct_cdiv(a->n, q->tile_rows);
    /* A task takes about 20 us: 512 KiB of weights, or 2 million products. */
    const double tile_work = (double)a->k * q->tile_rows * (q->f8 ? 1 : 2) * (m <= 4 ? 1.0 : m * 0.25);
    q->per_task = oct_max(1, oct_min(q->seg, (int64_t)(524288 / tile_work))) + TILES - 1;
    q->per_task -= q->per_task % TILES;
    if (m * a->k >= 65536) oct_parallel(&a->on, q->panels, put_panel, q);
    else for (int p = 0; p < q->panels; p++) put_panel(q, p); /* too little for a region of its own */
    oct_parallel(&a->on, oct_cdiv(q->seg, q->per_task), task, q);
}

oct_status oct_gemm_dot_avx2(const oct_gemm_args *a)
{
    pass q = { .a = a, .f8 = a->w_dtype == OCT_F8E4M3FN, .steps = oct_cdiv(a->k, STEP), .up = a->on.scratch };
    if (!a->m || !a->n) return OCT_OK;
    q.x = q.up + PASS;
    for (q.b = 0; q.b < a->batch; q.b++) {
        const gemm_rows r = gemm_rows_of(a, q.b);
        const oct_gemm_args one = gemm_of_rows(a, r);
        q.a = &one;
        for (q.i0 = r.first; q.i0 < r.end; q.i0 += PASS) {
            q.m = oct_min(PASS, r.end - q.i0);
            run_pass(&q);
        }
    }
    gemm_zero_rest(a);
    return OCT_OK;
}
