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

/* Heads of one operand: x to bf16 rows, or to rows of the cache. */
INLINE void heads_to_bf16(int pairs, const uint16_t *x, int64_t head_x, const angles *g, int64_t heads, int64_t d, uint16_t *y, int64_t head_y)
{
    for (int64_t h = 0; h < heads; h++) rotate(pairs, x + h * head_x, g, d, y + h * head_y, 1);
}
INLINE void heads_to_cache(int pairs, const uint16_t *x, int64_t head_x, const angles *g, const oct_kv *kv, uint8_t *at)
{
    float y[OCT_MAX_D + 8];
    for (int64_t h = 0; h < kv->heads; h++, at += kv->head_bytes)
        if (kv->format == OCT_KV_BF16) rotate(pairs, x + h * head_x, g, kv->d, at, 1);
        else {
            rotate(pairs, x + h * head_x, g, kv->d, y, 0);
            kv_store_row(kv, at, y);
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
            heads_to_bf16(pairs, (const uint16_t *)a->q + i * a->ldq, a->head_q, &g, a->heads, a->d,
                          (uint16_t *)a->q_out + i * a->ldq_out, a->head_q_out);
        if (a->kv) {
            const int64_t at = oct_kv_offset(&j->kv, oct_kv_page(&j->kv, lane, slot), slot, 0);
            heads_to_cache(pairs, (const uint16_t *)a->k + i * a->ldk, a->head_k, &g, &j->kv, (uint8_t *)j->kv.k + at);
            heads_to_cache(OCT_ROPE_NONE, (const uint16_t *)a->v + i * a->ldv, a->head_v, &g, &j->kv, (uint8_t *)j->kv.v + at);
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
