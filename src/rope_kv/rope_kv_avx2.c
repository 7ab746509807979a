/* rope_kv_avx2.c - a token at a time: its cosines and sines once, then every head 8 pairs a step. */
#include "core/core.h"
#include "core/kernel.h"
#include "isa/avx2/kv.h"

int oct_rope_kv_avx2_fits(const oct_rope_kv_args *a, oct_fit *fit) { (void)a; (void)fit; return 1; }

/* What all heads of a token share. HALF: the cosines at c, the sines at s. INTERLEAVED: each twice, sines with the
 * sign that the element's product has. */
typedef struct angles { float c[OCT_MAX_D + 8], s[OCT_MAX_D + 8]; } angles;

static void load_angles(const oct_rope_kv_args *a, int64_t pos, angles *g)
{
    float row[OCT_MAX_D];
    const float *cs = row;
    const int64_t half = a->d / 2;
    if (a->pairs == OCT_ROPE_NONE) return;
    if (a->table && pos < a->table_len) cs = a->table + pos * a->d;
    else oct_rope_row(&a->rope, a->d, pos, row);
    for (int64_t j = 0; j < half; j++) {
        if (a->pairs == OCT_ROPE_HALF) {
            g->c[j] = cs[j];
            g->s[j] = cs[half + j];
        } else {
            g->c[2 * j] = g->c[2 * j + 1] = cs[j];
            g->s[2 * j] = -cs[half + j];
            g->s[2 * j + 1] = cs[half + j];
        }
    }
}

/* To y as bf16 or as f32. */
INLINE void put(void *y, int bf16, int64_t at, __m256 v, int64_t n)
{
    if (bf16) store_first((uint16_t *)y + at, OCT_BF16, 0, v, n);
    else if (n >= 8) _mm256_storeu_ps((float *)y + at, v);
    else _mm256_maskstore_ps((float *)y + at, first_lanes(n), v);
}

/* One head; y may be x. */
INLINE void rotate(int pairs, const uint16_t *x, const angles *g, int64_t d, void *y, int bf16)
{
    if (pairs == OCT_ROPE_HALF) {
        const int64_t half = d / 2;
        for (int64_t j = 0; j < half; j += 8) {
            const int64_t n = oct_min(8, half - j);
            const __m256 x0 = load_first(x + j, OCT_BF16, 0, n), x1 = load_first(x + half + j, OCT_BF16, 0, n);
            const __m256 c = _mm256_loadu_ps(g->c + j), s = _mm256_loadu_ps(g->s + j);
            put(y, bf16, j, _mm256_fmsub_ps(x0, c, _mm256_mul_ps(x1, s)), n);
            put(y, bf16, half + j, _mm256_fmadd_ps(x1, c, _mm256_mul_ps(x0, s)), n);
        }
    } else
        for (int64_t j = 0; j < d; j += 8) {
            const int64_t n = oct_min(8, d - j);
            __m256 v = load_first(x + j, OCT_BF16, 0, n);
            if (pairs == OCT_ROPE_INTERLEAVED)
                v = _mm256_fmadd_ps(v, _mm256_loadu_ps(g->c + j), _mm256_mul_ps(_mm256_permute_ps(v, 0xb1), _mm256_loadu_ps(g->s + j)));
            put(y, bf16, j, v, n);
        }
}

/* Divides a head by its root mean square, in the order of octavo.h. y has room for d rounded up to 8. */
static void normalize(float *y, int64_t d, float eps)
{
    double s[OCT_MAX_D];
    int64_t n = 4;
    while (n < d) n *= 2;
    if (d % 4) y[d] = y[d + 1] = 0; /* d is even */
    for (int64_t e = 0; e < n; e += 4) {
        const __m256d w = _mm256_cvtps_pd(e < d ? _mm_loadu_ps(y + e) : _mm_setzero_ps());
        _mm256_storeu_pd(s + e, _mm256_mul_pd(w, w));
    }
    while ((n /= 2) >= 4)
        for (int64_t e = 0; e < n; e += 4) _mm256_storeu_pd(s + e, _mm256_add_pd(_mm256_loadu_pd(s + e), _mm256_loadu_pd(s + e + n)));
    const double square = (s[0] + s[2] + (s[1] + s[3])) / (double)d + (double)eps, r = square == 0 ? 1 : 1 / sqrt(square);
    for (int64_t e = 0; e < d; e += 4)
        _mm_storeu_ps(y + e, _mm256_cvtpd_ps(_mm256_mul_pd(_mm256_cvtps_pd(_mm_loadu_ps(y + e)), _mm256_set1_pd(r))));
}

INLINE void round_row(const float *y, int64_t d, uint16_t *out)
{
    for (int64_t e = 0; e < d; e += 8) put(out, 1, e, _mm256_loadu_ps(y + e), d - e);
}

/* Heads of one operand: x to bf16 rows, or to rows of the cache and, of k, to bf16 rows as well. */
INLINE void heads_to_bf16(const oct_rope_kv_args *a, int pairs, const uint16_t *x, const angles *g, uint16_t *out)
{
    float y[OCT_MAX_D + 8];
    for (int64_t h = 0; h < a->heads; h++, x += a->head_q, out += a->head_q_out)
        if (!(a->flags & OCT_ROPE_KV_NORM)) rotate(pairs, x, g, a->d, out, 1);
        else {
            rotate(pairs, x, g, a->d, y, 0);
            normalize(y, a->d, a->norm_eps);
            round_row(y, a->d, out);
        }
}
INLINE void heads_to_cache(const oct_rope_kv_args *a, int pairs, const uint16_t *x, int64_t head_x, const angles *g, const oct_kv *kv, uint8_t *at,
                           int norm, uint16_t *out)
{
    float y[OCT_MAX_D + 8];
    for (int64_t h = 0; h < kv->heads; h++, at += kv->head_bytes, x += head_x) {
        if (kv->format == OCT_KV_BF16 && !norm && !out) {
            rotate(pairs, x, g, kv->d, at, 1);
            continue;
        }
        rotate(pairs, x, g, kv->d, y, 0);
        if (norm) normalize(y, kv->d, a->norm_eps);
        kv_store_row(kv, at, y);
        if (out) round_row(y, kv->d, out + h * a->head_k_out);
    }
}

typedef struct job {
    const oct_rope_kv_args *a;
    oct_kv kv;
    int64_t tokens; /* of a task */
} job;

INLINE void tokens_of(const job *j, int pairs, int64_t from, int64_t to)
{
    const oct_rope_kv_args *a = j->a;
    angles g;
    for (int64_t i = from; i < to; i++) {
        const int64_t pos = a->pos[i], slot = a->slot ? a->slot[i] : pos, lane = a->lane ? a->lane[i] : i;
        if (pos < 0) continue;
        load_angles(a, pos, &g);
        if (a->q)
            heads_to_bf16(a, pairs, (const uint16_t *)a->q + i * a->ldq, &g, (uint16_t *)a->q_out + i * a->ldq_out);
        if (a->kv) {
            const int64_t at = oct_kv_offset(&j->kv, oct_kv_page(&j->kv, lane, slot), slot, 0);
            uint16_t *k_out = a->k_out ? (uint16_t *)a->k_out + i * a->ldk_out : 0;
            heads_to_cache(a, pairs, (const uint16_t *)a->k + i * a->ldk, a->head_k, &g, &j->kv, (uint8_t *)j->kv.k + at, a->flags & OCT_ROPE_KV_NORM, k_out);
            heads_to_cache(a, OCT_ROPE_NONE, (const uint16_t *)a->v + i * a->ldv, a->head_v, &g, &j->kv, (uint8_t *)j->kv.v + at, 0, 0);
        }
    }
}

static void task(void *p, int64_t i)
{
    const job *j = p;
    const int64_t from = i * j->tokens, to = oct_min(j->a->t, from + j->tokens);
    switch (j->a->pairs) {
    case OCT_ROPE_HALF: tokens_of(j, OCT_ROPE_HALF, from, to); break;
    case OCT_ROPE_NONE: tokens_of(j, OCT_ROPE_NONE, from, to); break;
    default:            tokens_of(j, OCT_ROPE_INTERLEAVED, from, to); break;
    }
}

oct_status oct_rope_kv_avx2(const oct_rope_kv_args *a)
{
    enum { WORK = 1 << 14 }; /* elements of a task, about: several microseconds */
    job j = { .a = a };
    if (a->kv) j.kv = oct_kv_full(a->kv);
    j.tokens = oct_max(1, WORK / (((a->q ? a->heads : 0) + 2 * j.kv.heads + 1) * a->d));
    oct_parallel(&a->on, oct_cdiv(a->t, j.tokens), task, &j);
    return OCT_OK;
}
