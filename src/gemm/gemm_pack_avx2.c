/* gemm_pack_avx2.c - many rows of x: an outer-product kernel of 6 rows of x by 16 of w on packed f32.
 *
 * x is packed once into scratch: for each block of k, panels of 6 rows, interleaved. A task then takes strips of 16 rows of
 * w; of a strip it packs one block of k after another on its stack, where it stays in L1 while all panels of x stream
 * past it from L2. Both are packed as true values, NaN included. Sums of a strip stay on the stack between blocks. */
#include "core/core.h"
#include "core/kernel.h"
#include "gemm_avx2.h"

enum {
    MR = 6, NR = 16,
    ROWS = 516,              /* rows of x at a time, at most; a multiple of MR */
    DEEP = 256,              /* of k in a block, at most; 128 when scales are in blocks */
    SCRATCH = 16 << 20,      /* bytes of packed x that are worth fewer rows at a time */
};

typedef struct pass {
    const oct_gemm_args *a;
    int64_t b, i0, m, panels;      /* rows [i0, i0 + m) of x; m rounded up, in panels */
    int64_t deep, blocks, stride;  /* of k in a block; blocks; floats from one panel of x to the next */
    int64_t strips, per_task;
    float *x;                      /* [block][panel][deep][MR], with room behind a panel for the last store */
} pass;

static int64_t rows_at_a_time(const oct_gemm_args *a)
{
    const int64_t most = oct_max(16 * MR, oct_min(ROWS, SCRATCH / 4 / a->k / MR * MR));
    const int64_t passes = oct_max(1, oct_cdiv(a->m, most));
    return oct_cdiv(oct_cdiv(a->m, passes), MR) * MR;
}

static void plan(pass *q)
{
    const oct_gemm_args *a = q->a;
    const int64_t blocks = oct_cdiv(a->k, DEEP);
    q->deep = scaled_in_blocks(a) ? 128 : oct_cdiv(oct_cdiv(a->k, blocks), STEP) * STEP;
    q->blocks = oct_cdiv(a->k, q->deep);
    q->stride = q->deep * MR + 16;
}

int oct_gemm_pack_avx2_fits(const oct_gemm_args *a, oct_fit *fit)
{
    pass q = { .a = a };
    if (a->flags & OCT_GEMM_BATCH_INVARIANT) { fit->why = "rows of m above 16 would have other bits"; return 0; }
    if (!a->k) { fit->why = "k is 0"; return 0; }
    plan(&q);
    fit->scratch = oct_mul(oct_mul(q.blocks, q.stride), rows_at_a_time(a) / MR * 4);
    if (fit->scratch < 0) { fit->why = "k is too large"; return 0; }
    return 1;
}

/* ---- Packing ---- */

/* 8 rows of 32 bytes, 32 codes or 16 bf16, to values with k as the slow index: element (row, k) at out[k * stride + row].
 * Stores 8 floats a k, in the order of k, so that a smaller stride may cut rows off. */
INLINE void pack_square(__m256i r[8], int f8, float *out, int64_t stride)
{
    __m256i nan = _mm256_setzero_si256();
    const __m256 true_scale = _mm256_set1_ps(0x1p120f);
    if (f8)
        UNROLL for (int i = 0; i < 8; i++) nan = nan_gather(nan, r[i]);
    const int any = f8 && nan_seen(nan);
    transpose8(r); /* r[i]: the i-th dword of each row, 4 codes or 2 bf16 */
    UNROLL for (int i = 0; i < 8; i++) {
        if (f8) {
            __m256 o[4];
            widen_f8(r[i], o);
            if (any)
                UNROLL for (int v = 0; v < 4; v++) o[v] = nan_restore(o[v]);
            float *to = out + 4 * i * stride;
            _mm256_storeu_ps(to, _mm256_mul_ps(o[0], true_scale));
            _mm256_storeu_ps(to + stride, _mm256_mul_ps(o[2], true_scale));
            _mm256_storeu_ps(to + 2 * stride, _mm256_mul_ps(o[1], true_scale));
            _mm256_storeu_ps(to + 3 * stride, _mm256_mul_ps(o[3], true_scale));
        } else {
            _mm256_storeu_ps(out + 2 * i * stride, f32_bits(low_half_up(r[i])));
            _mm256_storeu_ps(out + (2 * i + 1) * stride, f32_bits(high_half(r[i])));
        }
    }
}

/* `rows` (at most 8) rows of `bytes` bytes, ld_bytes apart; missing rows and what fills up the last square are zeros. */
INLINE void pack_rows(const char *p, int64_t ld_bytes, int64_t rows, int64_t bytes, int f8, float *out, int64_t stride)
{
    const int64_t step = f8 ? 32 : 16;
    for (int64_t at = 0; at < bytes; at += 32, out += step * stride) {
        __m256i r[8];
        if (bytes - at >= 32)
            for (int i = 0; i < 8; i++) r[i] = i < rows ? load32(p + i * ld_bytes + at) : _mm256_setzero_si256();
        else
            for (int i = 0; i < 8; i++) {
                char last[32] = { 0 };
                if (i < rows) memcpy(last, p + i * ld_bytes + at, (size_t)(bytes - at));
                r[i] = load32(last);
            }
        pack_square(r, f8, out, stride);
    }
}

static void pack_x(void *arg, int64_t panel)
{
    const pass *q = arg;
    const oct_gemm_args *a = q->a;
    const int f8 = a->x_dtype == OCT_F8E4M3FN, bytes = f8 ? 1 : 2;
    const int64_t i = panel * MR, rows = oct_min(MR, q->m - i);
    const char *x = (const char *)a->x + (q->b * a->stride_x + (q->i0 + i) * a->ldx) * bytes;
    for (int64_t kb = 0; kb < q->blocks; kb++) {
        const int64_t k0 = kb * q->deep, n = oct_min(q->deep, a->k - k0) * bytes;
        float *out = q->x + (kb * q->panels + panel) * q->stride;
        if (f8) pack_rows(x + k0, a->ldx, rows, n, 1, out, MR);
        else pack_rows(x + k0 * 2, a->ldx * 2, rows, n, 0, out, MR);
    }
}

/* ---- The kernel ---- */

/* sum (+)= x w over n of k, for 6 x 16; with scales: sum (+)= scale[i] of that. */
INLINE void kernel(int64_t n, const float *x, const float *w, float *sum, int first, const float *scale)
{
    __m256 c[MR][2];
    UNROLL for (int i = 0; i < MR; i++) c[i][0] = c[i][1] = _mm256_setzero_ps();
    for (int64_t k = 0; k < n; k++, x += MR, w += NR) {
        const __m256 w0 = _mm256_loadu_ps(w), w1 = _mm256_loadu_ps(w + 8);
        UNROLL for (int i = 0; i < MR; i++) {
            const __m256 v = _mm256_broadcast_ss(x + i);
            c[i][0] = _mm256_fmadd_ps(v, w0, c[i][0]);
            c[i][1] = _mm256_fmadd_ps(v, w1, c[i][1]);
        }
    }
    UNROLL for (int i = 0; i < MR; i++)
        UNROLL for (int h = 0; h < 2; h++) {
            float *to = sum + i * NR + 8 * h;
            const __m256 old = first ? _mm256_setzero_ps() : _mm256_loadu_ps(to);
            _mm256_storeu_ps(to, scale ? _mm256_fmadd_ps(c[i][h], _mm256_broadcast_ss(scale + i), old) : _mm256_add_ps(c[i][h], old));
        }
}

/* Rows [j, j + 16) of w against all of x. */
static void strip(const pass *q, int64_t j)
{
    const oct_gemm_args *a = q->a;
    const int f8 = a->w_dtype == OCT_F8E4M3FN, bytes = f8 ? 1 : 2;
    const int64_t cols = oct_min(NR, a->n - j), ld = a->ldw * bytes;
    const char *w = (const char *)a->w + (q->b * a->stride_w + j * a->ldw) * bytes;
    float sums[ROWS * NR], packed[DEEP * NR];
    for (int64_t kb = 0; kb < q->blocks; kb++) {
        const int64_t k0 = kb * q->deep, n = oct_min(q->deep, a->k - k0);
        for (int64_t h = 0; h < NR; h += 8) {
            const char *rows = w + h * ld + k0 * bytes;
            if (f8) pack_rows(rows, ld, cols - h, n, 1, packed + h, NR);
            else pack_rows(rows, ld, cols - h, n * 2, 0, packed + h, NR);
        }
        const float sw = scaled_in_blocks(a) ? scale_of(w_scale_of(a, q->b, j), kb) : 1;
        const char *next = kb + 1 < q->blocks ? w + (k0 + n) * bytes : w + NR * ld; /* block, to fetch while this one is used */
        const float *x = q->x + kb * q->panels * q->stride;
        for (int64_t p = 0; p < q->panels; p++, x += q->stride) {
            float s[MR];
            for (int64_t r = p; r < cols; r += q->panels)
                for (int64_t at = 0; at < n * bytes; at += 64) _mm_prefetch(next + r * ld + at, _MM_HINT_T1);
            if (scaled_in_blocks(a)) {
                for (int i = 0; i < MR; i++) s[i] = sw * scale_of(x_scale_of(a, q->b, q->i0 + oct_min(p * MR + i, q->m - 1)), kb);
                kernel(n, x, packed, sums + p * MR * NR, !kb, s);
            } else
                kernel(n, x, packed, sums + p * MR * NR, !kb, 0);
        }
    }
    for (int64_t i = 0; i < q->m; i++)
        for (int64_t h = 0; h < cols; h += 8)
            finish8(a, q->b, q->i0 + i, j + h, cols - h, _mm256_loadu_ps(sums + i * NR + h));
}

static void task(void *arg, int64_t i)
{
    const pass *q = arg;
    const int64_t end = oct_min(q->strips, (i + 1) * q->per_task);
    for (int64_t s = i * q->per_task; s < end; s++) strip(q, s * NR);
}

oct_status oct_gemm_pack_avx2(const oct_gemm_args *a)
{
    pass q = { .a = a, .x = a->on.scratch, .strips = oct_cdiv(a->n, NR) };
    const int64_t rows = rows_at_a_time(a);
    if (!a->m || !a->n) return OCT_OK;
    plan(&q);
    for (q.b = 0; q.b < a->batch; q.b++) {
        const gemm_rows r = gemm_rows_of(a, q.b);
        const oct_gemm_args one = gemm_of_rows(a, r);
        q.a = &one;
        for (q.i0 = r.first; q.i0 < r.end; q.i0 += rows) {
            q.m = oct_min(rows, r.end - q.i0);
            q.panels = oct_cdiv(q.m, MR);
            q.per_task = oct_max(1, (int64_t)(1e6 / ((double)q.m * NR * (double)a->k))); /* 20 us or so */
            oct_parallel(&a->on, q.panels, pack_x, &q);
            oct_parallel(&a->on, oct_cdiv(q.strips, q.per_task), task, &q);
        }
    }
    gemm_zero_rest(a);
    return OCT_OK;
}
