/* norm_quant_avx2.c - a row at a time: h with the sum of its squares, then h r weight, then rounding or codes. */
#include "core/core.h"
#include "core/kernel.h"
#include "isa/avx2/rows.h"

int oct_norm_quant_avx2_fits(const oct_norm_quant_args *a, oct_fit *fit)
{
    (void)a;
    (void)fit;
    return 1;
}

/* A row whose sum is known. r is split into r and a power of two that h is multiplied with first, so that neither is
 * subnormal or infinite for any h. held: the buffer holds the row's h. */
typedef struct row_state {
    const oct_norm_quant_args *a;
    float power, r;
    int held;
} row_state;

/* Squares in double: no h over- or underflows, and k does not matter to the bound. */
INLINE void add_squares(__m256d s[2], __m256 h)
{
    const __m256d lo = _mm256_cvtps_pd(_mm256_castps256_ps128(h)), hi = _mm256_cvtps_pd(_mm256_extractf128_ps(h, 1));
    s[0] = _mm256_fmadd_pd(lo, lo, s[0]);
    s[1] = _mm256_fmadd_pd(hi, hi, s[1]);
}

typedef struct row_in {
    stream x, residual;
    void *out;
} row_in;
static row_in row_in_of(const oct_norm_quant_args *a, int64_t i)
{
    row_in r = { stream_of(a->x, a->x_dtype, i, a->m, a->ldx), { 0, 0 }, 0 };
    if (a->residual) r.residual = stream_of(a->residual, a->residual_dtype, i, a->m, a->ld_residual);
    if (a->residual_out)
        r.out = (char *)a->residual_out + i * a->ld_residual_out * (a->residual_dtype == OCT_BF16 ? 2 : 4);
    return r;
}

/* n <= 8 of h = x + residual. The first time they are written to residual_out and rounded with it; later they are read
 * from there. */
INLINE __m256 h_of(const row_in *r, int32_t xd, int32_t rd, int64_t j, int64_t n, int first)
{
    if (!first && r->out) return load_first(r->out, rd, j, n);
    __m256 h = stream_load(&r->x, xd, j, n);
    if (r->residual.row) h = _mm256_add_ps(h, stream_load(&r->residual, rd, j, n));
    if (first && r->out) {
        store_first(r->out, rd, j, h, n);
        if (rd == OCT_BF16) h = bf16_to_f32x8(f32x8_to_bf16(h));
    }
    return h;
}

/* Sum of the squares of h; h itself goes to buf unless that is NULL. */
INLINE double first_pass_typed(const row_in *r, int32_t xd, int32_t rd, int64_t k, float *buf)
{
    __m256d s[4] = { _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd() };
    double t[4];
    int64_t j = 0;
    for (; j + 16 <= k; j += 16) {
        const __m256 h0 = h_of(r, xd, rd, j, 8, 1), h1 = h_of(r, xd, rd, j + 8, 8, 1);
        add_squares(s, h0);
        add_squares(s + 2, h1);
        if (!buf) continue;
        _mm256_store_ps(buf + j, h0);
        _mm256_store_ps(buf + j + 8, h1);
    }
    for (; j < k; j += 8) {
        const int64_t n = oct_min(8, k - j);
        const __m256 h = h_of(r, xd, rd, j, n, 1);
        add_squares(s, h);
        if (buf) _mm256_maskstore_ps(buf + j, first_lanes(n), h);
    }
    _mm256_storeu_pd(t, _mm256_add_pd(_mm256_add_pd(s[0], s[1]), _mm256_add_pd(s[2], s[3])));
    return (t[0] + t[1]) + (t[2] + t[3]);
}
static double first_pass(const oct_norm_quant_args *a, int64_t i, float *buf)
{
    if (!a->k) return 0;
    const row_in r = row_in_of(a, i);
    if (a->residual_dtype == OCT_BF16)
        return a->x_dtype == OCT_BF16 ? first_pass_typed(&r, OCT_BF16, OCT_BF16, a->k, buf)
                                      : first_pass_typed(&r, OCT_F32, OCT_BF16, a->k, buf);
    return a->x_dtype == OCT_BF16 ? first_pass_typed(&r, OCT_BF16, OCT_F32, a->k, buf)
                                  : first_pass_typed(&r, OCT_F32, OCT_F32, a->k, buf);
}

/* v[0, n) = h r weight, weights from w on; h is in v. */
INLINE void weigh(const row_state *s, const void *w, int32_t dtype, int64_t n, float *v)
{
    const __m256 power = _mm256_set1_ps(s->power), r = _mm256_set1_ps(s->r);
    int64_t e = 0;
    for (; e + 8 <= n; e += 8) {
        const __m256 y = _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(v + e), power), r);
        _mm256_storeu_ps(v + e, w ? _mm256_mul_ps(y, load_first(w, dtype, e, 8)) : y);
    }
    if (e == n) return;
    const __m256 y = _mm256_mul_ps(_mm256_mul_ps(load_first(v, OCT_F32, e, n - e), power), r);
    _mm256_maskstore_ps(v + e, first_lanes(n - e), w ? _mm256_mul_ps(y, load_first(w, dtype, e, n - e)) : y);
}

static void fill(const void *ctx, int64_t i, int64_t j, int64_t n, float *v)
{
    const row_state *s = ctx;
    const oct_norm_quant_args *a = s->a;
    if (!s->held) {
        const row_in r = row_in_of(a, i);
        for (int64_t e = 0; e < n; e += 8) {
            const int64_t some = oct_min(8, n - e);
            _mm256_maskstore_ps(v + e, first_lanes(some), h_of(&r, a->x_dtype, a->residual_dtype, j + e, some, 0));
        }
    }
    if (a->weight_dtype == OCT_BF16) weigh(s, a->weight ? (const uint16_t *)a->weight + j : 0, OCT_BF16, n, v);
    else weigh(s, a->weight ? (const float *)a->weight + j : 0, OCT_F32, n, v);
}

static void one_row(const oct_norm_quant_args *a, const row_out *o, int64_t i, float *buf)
{
    row_state s = { a, 1, 0, a->k <= ROW_BUF };
    double r = 1 / __builtin_sqrt(first_pass(a, i, s.held ? buf : 0) / (double)a->k + (double)a->eps);
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
