/* norm_quant_avx2.c - a row at a time: h with the sum of its squares, then h r weight, then rounding or codes. */
#include "core/core.h"
#include "core/kernel.h"
#include "isa/avx2/rows.h"

int oct_norm_quant_avx2_fits(const oct_norm_quant_args *a, oct_fit *fit) { (void)a; (void)fit; return 1; }

/* A row whose sum is known. r is split into r and a power of two that h is multiplied with first, so that neither is
 * subnormal or infinite for any h. held: the buffer holds the row's h. */
typedef struct row_state {
    const oct_norm_quant_args *a;
    float power, r;
    int held;
} row_state;

/* Sum of squares, in double: no h over- or underflows, and the order of summation does not matter to the bound. */
typedef struct squares { __m256d s[2]; } squares;
INLINE void add_squares(squares *q, __m256 h)
{
    const __m256d lo = _mm256_cvtps_pd(_mm256_castps256_ps128(h)), hi = _mm256_cvtps_pd(_mm256_extractf128_ps(h, 1));
    q->s[0] = _mm256_fmadd_pd(lo, lo, q->s[0]);
    q->s[1] = _mm256_fmadd_pd(hi, hi, q->s[1]);
}
INLINE double sum_of(const squares *q)
{
    double t[4];
    _mm256_storeu_pd(t, _mm256_add_pd(q->s[0], q->s[1]));
    return (t[0] + t[1]) + (t[2] + t[3]);
}

/* 8 of h = x + residual; written to residual_out, and rounded with it, the first time, and read from there later. */
INLINE __m256 h_of(const oct_norm_quant_args *a, int64_t i, int64_t j, int64_t some, int first)
{
    if (!first && a->residual_out)
        return load_first(a->residual_out, a->residual_dtype, i * a->ld_residual_out + j, some);
    __m256 h = load_first(a->x, a->x_dtype, i * a->ldx + j, some);
    if (a->residual) h = _mm256_add_ps(h, load_first(a->residual, a->residual_dtype, i * a->ld_residual + j, some));
    if (first && a->residual_out) {
        if (a->residual_dtype == OCT_BF16) h = bf16_to_f32x8(f32x8_to_bf16(h));
        store_first(a->residual_out, a->residual_dtype, i * a->ld_residual_out + j, h, some);
    }
    return h;
}

static void fill(const void *ctx, int64_t i, int64_t j, int64_t n, float *v)
{
    const row_state *s = ctx;
    const oct_norm_quant_args *a = s->a;
    const __m256 power = _mm256_set1_ps(s->power), r = _mm256_set1_ps(s->r);
    for (int64_t e = 0; e < n; e += 8) {
        const int64_t some = oct_min(8, n - e);
        const __m256 h = s->held ? load_first(v, OCT_F32, e, some) : h_of(a, i, j + e, some, 0);
        __m256 y = _mm256_mul_ps(_mm256_mul_ps(h, power), r);
        if (a->weight) y = _mm256_mul_ps(y, load_first(a->weight, a->weight_dtype, j + e, some));
        if (some == 8) _mm256_storeu_ps(v + e, y);
        else _mm256_maskstore_ps(v + e, first_lanes(some), y);
    }
}

static void one_row(const oct_norm_quant_args *a, const row_out *o, int64_t i, float *buf)
{
    row_state s = { a, 1, 0, a->k <= ROW_BUF };
    squares q = { { _mm256_setzero_pd(), _mm256_setzero_pd() } };
    for (int64_t j = 0; j < a->k; j += 8) {
        const int64_t some = oct_min(8, a->k - j);
        const __m256 h = h_of(a, i, j, some, 1);
        add_squares(&q, h);
        if (!s.held) continue;
        if (some == 8) _mm256_store_ps(buf + j, h);
        else _mm256_maskstore_ps(buf + j, first_lanes(some), h);
    }
    double r = 1 / __builtin_sqrt(sum_of(&q) / (double)a->k + (double)a->eps);
    if (r > 0x1p100) s.power = 0x1p64f, r *= 0x1p-64;
    if (r < 0x1p-100) s.power = 0x1p-64f, r *= 0x1p64;
    s.r = (float)r;
    write_row(o, i, buf, fill, &s);
}

enum { TASK = 1 << 15 }; /* elements: with fewer, another thread costs more than it gives */

static int64_t rows_of_task(const oct_norm_quant_args *a) { return oct_max(1, TASK / oct_max(a->k, 1)); }

static void rows(void *p, int64_t task)
{
    const oct_norm_quant_args *a = p;
    const row_out o = ROW_OUT(a);
    const int64_t n = rows_of_task(a);
    _Alignas(32) float buf[ROW_BUF];
    for (int64_t i = task * n; i < oct_min(a->m, (task + 1) * n); i++) one_row(a, &o, i, buf);
}

oct_status oct_norm_quant_avx2(const oct_norm_quant_args *a)
{
    oct_parallel(&a->on, oct_cdiv(a->m, rows_of_task(a)), rows, (void *)a);
    return OCT_OK;
}
