/* gemm_pack_avx512.c - many rows of x, FP8 by FP8: an outer-product kernel of 8 rows of w by 48 of x on bf16 pairs.
 *
 * x is packed once into scratch: for each block of k, panels of 48 rows, its pairs transposed so that 16 rows lie side
 * by side in a vector. A task takes strips of 16 rows of w; a block of k of a strip is decoded, row by row, to the
 * task's stack, whence pairs are broadcast while all panels of x stream past from L2. The sums of a strip, [w][x], stay
 * on the stack and are transposed at the end. */
#include "core/core.h"
#include "core/kernel.h"
#include "gemm_avx2.h"
#include "isa/avx512/tile.h"

enum {
    CODES = 64,
    NR = 8, STRIP = 2 * NR,  /* rows of w in a tile; in a strip */
    MR = 48,                 /* rows of x in a panel, three vectors of 16 */
    ROWS = 11 * MR,          /* of x at a time, at most */
    DEEP = 256,              /* of k in a block, at most; 128 when scales are in blocks */
    SCRATCH = 16 << 20,      /* bytes of packed x that are worth fewer rows at a time */
};

typedef struct pass {
    const oct_gemm_args *a;
    int64_t b, i0, m, panels;    /* rows [i0, i0 + m) of x */
    int64_t deep, blocks;        /* of k in a block; blocks */
    int64_t strips, per_task;
    float *scale;                /* [block][panels * MR], of x, when scales are in blocks */
    uint16_t *x;                 /* [block][panel][deep / 2][MR][2] */
} pass;

static void plan(pass *q)
{
    const oct_gemm_args *a = q->a;
    const int64_t blocks = oct_cdiv(a->k, DEEP);
    q->deep = scaled_in_blocks(a) ? 128 : oct_cdiv(oct_cdiv(a->k, blocks), CODES) * CODES;
    q->blocks = oct_cdiv(a->k, q->deep);
}

static int64_t rows_at_a_time(const oct_gemm_args *a)
{
    const int64_t most = oct_max(2 * MR, oct_min(ROWS, SCRATCH / 2 / a->k / MR * MR));
    const int64_t passes = oct_max(1, oct_cdiv(a->m, most));
    return oct_cdiv(oct_cdiv(a->m, passes), MR) * MR;
}

int oct_gemm_pack_avx512_fits(const oct_gemm_args *a, oct_fit *fit)
{
    pass q = { .a = a };
    if (a->x_dtype != OCT_F8E4M3FN || a->w_dtype != OCT_F8E4M3FN) { fit->why = "x and w are not both f8e4m3fn"; return 0; }
    if (a->flags & OCT_GEMM_BATCH_INVARIANT) { fit->why = "rows of m above 16 would have other bits"; return 0; }
    if (!a->k) { fit->why = "k is 0"; return 0; }
    plan(&q);
    fit->scratch = oct_mul(oct_mul(q.blocks, q.deep * 2 + 4), rows_at_a_time(a));
    if (fit->scratch < 0) { fit->why = "k is too large"; return 0; }
    return 1;
}

/* ---- Packing ---- */

static void pack_x(void *arg, int64_t panel)
{
    const pass *q = arg;
    const oct_gemm_args *a = q->a;
    const f8_table table = f8_table_load();
    for (int64_t kb = 0; kb < q->blocks; kb++) {
        const int64_t k0 = kb * q->deep, n = oct_min(q->deep, a->k - k0);
        for (int64_t v = 0; v < MR; v += 16) {
            uint16_t *to = q->x + (kb * q->panels + panel) * q->deep * MR + v * 2;
            const int64_t i0 = panel * MR + v, rows = q->m - i0;
            const uint8_t *x = (const uint8_t *)a->x + q->b * a->stride_x + (q->i0 + i0) * a->ldx + k0;
            for (int64_t k = 0; k < n; k += CODES, to += CODES * MR) {
                __m512i r[2][16];
                for (int i = 0; i < 16; i++) {
                    __m512i o[2];
                    f8_to_bf16(i < rows ? load_first64(x + i * a->ldx + k, n - k) : _mm512_setzero_si512(), &table, o);
                    r[0][i] = o[0];
                    r[1][i] = o[1];
                }
                for (int h = 0; h < 2; h++) {
                    transpose16(r[h]);
                    for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + (16 * h + i) * MR * 2, r[h][i]);
                }
            }
            for (int64_t i = 0; scaled_in_blocks(a) && i < 16; i++)
                q->scale[kb * q->panels * MR + i0 + i] = i < rows ? scale_of(x_scale_of(a, q->b, q->i0 + i0 + i), kb) : 0;
        }
    }
}

/* Codes [k0, k0 + n) of rows of w to bf16 [STRIP][DEEP], in the order of decoding; rows that are not there are zeros. */
static void unpack_w(const uint8_t *w, int64_t ld, int64_t rows, int64_t n, uint16_t *out)
{
    const f8_table table = f8_table_load();
    for (int64_t j = 0; j < STRIP; j++)
        for (int64_t k = 0; k < n; k += CODES) {
            __m512i o[2];
            f8_to_bf16(j < rows ? load_first64(w + j * ld + k, n - k) : _mm512_setzero_si512(), &table, o);
            _mm512_storeu_si512(out + j * DEEP + k, o[0]);
            _mm512_storeu_si512(out + j * DEEP + k + 32, o[1]);
        }
}

/* ---- The kernel ---- */

/* sum[NR][ROWS] (+)= w x over n pairs, for V vectors of 16 rows of x; with scales: (+)= scale[j] x_scale of that. */
INLINE void kernel(int64_t n, const uint16_t *x, const uint16_t *w, float *sum, int V, int first, const float *w_scale, const float *x_scale)
{
    __m512 c[NR][3];
    UNROLL for (int j = 0; j < NR; j++)
        UNROLL for (int v = 0; v < V; v++) c[j][v] = first || w_scale ? _mm512_setzero_ps() : _mm512_loadu_ps(sum + j * ROWS + 16 * v);
    for (int64_t k = 0; k < n; k++, x += MR * 2, w += 2) {
        __m512i xv[3];
        UNROLL for (int v = 0; v < V; v++) xv[v] = _mm512_loadu_si512(x + 32 * v);
        UNROLL for (int j = 0; j < NR; j++) {
            int32_t pair;
            __builtin_memcpy(&pair, w + j * DEEP, 4);
            UNROLL for (int v = 0; v < V; v++) c[j][v] = add_pairs(c[j][v], xv[v], _mm512_set1_epi32(pair));
        }
    }
    UNROLL for (int j = 0; j < NR; j++)
        UNROLL for (int v = 0; v < V; v++) {
            float *to = sum + j * ROWS + 16 * v;
            if (w_scale) {
                const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(w_scale[j]), _mm512_loadu_ps(x_scale + 16 * v));
                c[j][v] = _mm512_fmadd_ps(c[j][v], scale, first ? _mm512_setzero_ps() : _mm512_loadu_ps(to));
            }
            _mm512_storeu_ps(to, c[j][v]);
        }
}
static void kernel1(int64_t n, const uint16_t *x, const uint16_t *w, float *sum, int first, const float *w_scale, const float *x_scale)
{ kernel(n, x, w, sum, 1, first, w_scale, x_scale); }
static void kernel2(int64_t n, const uint16_t *x, const uint16_t *w, float *sum, int first, const float *w_scale, const float *x_scale)
{ kernel(n, x, w, sum, 2, first, w_scale, x_scale); }
static void kernel3(int64_t n, const uint16_t *x, const uint16_t *w, float *sum, int first, const float *w_scale, const float *x_scale)
{ kernel(n, x, w, sum, 3, first, w_scale, x_scale); }

/* Sums [j][i] of a strip to y[i][j]. */
static void finish(const pass *q, int64_t j, const float *sums)
{
    const int64_t cols = oct_min(STRIP, q->a->n - j);
    for (int64_t i = 0; i < q->m; i += 16) {
        __m512i r[16];
        for (int c = 0; c < 16; c++) r[c] = _mm512_loadu_si512(sums + c * ROWS + i);
        transpose16(r);
        for (int64_t c = 0; c < oct_min(16, q->m - i); c++) {
            finish8(q->a, q->b, q->i0 + i + c, j, oct_min(8, cols), _mm256_castsi256_ps(_mm512_castsi512_si256(r[c])));
            if (cols > 8) finish8(q->a, q->b, q->i0 + i + c, j + 8, cols - 8, _mm256_castsi256_ps(_mm512_extracti64x4_epi64(r[c], 1)));
        }
    }
}

/* Rows [j, j + STRIP) of w against all of x. */
static void strip(const pass *q, int64_t j)
{
    const oct_gemm_args *a = q->a;
    const int blocks = scaled_in_blocks(a);
    const int64_t cols = oct_min(STRIP, a->n - j);
    const uint8_t *w = (const uint8_t *)a->w + q->b * a->stride_w + j * a->ldw;
    float sums[STRIP * ROWS], scale[STRIP];
    uint16_t unpacked[STRIP * DEEP];
    for (int64_t kb = 0; kb < q->blocks; kb++) {
        const int64_t k0 = kb * q->deep, n = oct_min(q->deep, a->k - k0);
        const uint8_t *next = kb + 1 < q->blocks ? w + k0 + n : w + STRIP * a->ldw; /* block, to fetch while this one is used */
        unpack_w(w + k0, a->ldw, cols, n, unpacked);
        for (int c = 0; blocks && c < STRIP; c++) scale[c] = scale_of(w_scale_of(a, q->b, j + oct_min(c, cols - 1)), kb);
        for (int64_t p = 0; p < q->panels; p++) {
            const uint16_t *x = q->x + (kb * q->panels + p) * q->deep * MR;
            const float *x_scale = q->scale + (kb * q->panels + p) * MR;
            const int64_t vectors = oct_min(3, oct_cdiv(q->m - p * MR, 16)), pairs = oct_cdiv(n, CODES) * CODES / 2;
            for (int64_t r = p; r < cols; r += q->panels)
                for (int64_t at = 0; at < n; at += 64) _mm_prefetch((const char *)next + r * a->ldw + at, _MM_HINT_T1);
            for (int h = 0; h < STRIP; h += NR)
                (vectors == 3 ? kernel3 : vectors == 2 ? kernel2 : kernel1)(pairs, x, unpacked + h * DEEP, sums + h * ROWS + p * MR, !kb,
                                                                            blocks ? scale + h : 0, x_scale);
        }
    }
    finish(q, j, sums);
}

static void task(void *arg, int64_t i)
{
    const pass *q = arg;
    const int64_t end = oct_min(q->strips, (i + 1) * q->per_task);
    for (int64_t s = i * q->per_task; s < end; s++) strip(q, s * STRIP);
}

oct_status oct_gemm_pack_avx512(const oct_gemm_args *a)
{
    pass q = { .a = a, .strips = oct_cdiv(a->n, STRIP) };
    if (!a->m || !a->n) return OCT_OK;
    const int64_t rows = rows_at_a_time(a);
    plan(&q);
    for (q.b = 0; q.b < a->batch; q.b++) {
        const gemm_rows r = gemm_rows_of(a, q.b);
        const oct_gemm_args one = gemm_of_rows(a, r);
        q.a = &one;
        for (q.i0 = r.first; q.i0 < r.end; q.i0 += rows) {
            q.m = oct_min(rows, r.end - q.i0);
            q.panels = oct_cdiv(q.m, MR);
            q.x = a->on.scratch;
            q.scale = (float *)(void *)(q.x + q.blocks * q.panels * q.deep * MR);
            q.per_task = oct_max(1, (int64_t)(4e6 / ((double)q.m * STRIP * (double)a->k))); /* 20 us or so */
            oct_parallel(&a->on, q.panels, pack_x, &q);
            oct_parallel(&a->on, oct_cdiv(q.strips, q.per_task), task, &q);
        }
    }
    gemm_zero_rest(a);
    return OCT_OK;
}
