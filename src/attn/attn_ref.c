/* attn_ref.c - softmax(scale q K) V in double, the formula of octavo.h. */
#include "core/core.h"
#include "core/kernel.h"
#include "core/num/kv.h"

int oct_attn_ref_fits(const oct_attn_args *a, oct_fit *fit) { (void)a; (void)fit; return 1; }

/* Element e of a row of the cache, unrounded. */
static double value(const oct_kv *kv, const uint8_t *row, int64_t e)
{
    const oct_kv_parts p = oct_kv_load(kv, row, e);
    return (double)p.scale * (double)p.code + (double)p.shift;
}

static const uint8_t *row_of(const oct_kv *kv, const void *data, int64_t lane, int64_t t, int64_t h)
{
    return (const uint8_t *)data + oct_kv_offset(kv, oct_kv_page(kv, lane, t), t, h);
}

static double score(const oct_attn_args *a, const oct_kv *kv, const uint16_t *q, int64_t lane, int64_t t, int64_t g)
{
    const uint8_t *row = row_of(kv, kv->k, lane, t, g);
    double s = 0;
    for (int64_t e = 0; e < a->d; e++) s += (double)oct_bf16_to_f32(q[e]) * value(kv, row, e);
    return s * (double)a->scale;
}

static void head(const oct_attn_args *a, const oct_kv *kv, int64_t i, int64_t h)
{
    const int64_t lane = a->lane ? a->lane[i] : i, n = a->len[i], g = h / (a->heads / kv->heads), at = i * a->ldy + h * a->head_y;
    const uint16_t *q = (const uint16_t *)a->q + i * a->ldq + h * a->head_q;
    double most = -INFINITY, sum = 0, y[OCT_MAX_D];
    for (int64_t t = 0; t < n; t++) most = fmax(most, score(a, kv, q, lane, t, g));
    for (int64_t e = 0; e < a->d; e++) y[e] = 0;
    for (int64_t t = 0; t < n; t++) {
        const double p = exp(score(a, kv, q, lane, t, g) - most);
        const uint8_t *row = row_of(kv, kv->v, lane, t, g);
        sum += p;
        for (int64_t e = 0; e < a->d; e++) y[e] += p * value(kv, row, e);
    }
    for (int64_t e = 0; e < a->d; e++) {
        const float v = n ? (float)(y[e] / sum) : 0.0f;
        if (a->y_dtype == OCT_BF16) ((uint16_t *)a->y)[at + e] = oct_bf16_from_f32(v);
        else ((float *)a->y)[at + e] = v;
    }
}

/* What the tokens of one split add up to. */
static void split(const oct_attn_args *a, const oct_kv *kv, int64_t i, int64_t h, int64_t j)
{
    const int64_t lane = a->lane ? a->lane[i] : i, n = a->len[i], g = h / (a->heads / kv->heads), width = oct_cdiv(n, a->splits);
    const int64_t from = oct_min(n, j * width), to = oct_min(n, from + width), at = j * a->heads + h;
    const uint16_t *q = (const uint16_t *)a->q + i * a->ldq + h * a->head_q;
    double most = -INFINITY, sum = 0, y[OCT_MAX_D];
    for (int64_t t = from; t < to; t++) most = fmax(most, score(a, kv, q, lane, t, g));
    for (int64_t e = 0; e < a->d; e++) y[e] = 0;
    for (int64_t t = from; t < to && most > -INFINITY; t++) {
        const double p = exp(score(a, kv, q, lane, t, g) - most);
        const uint8_t *row = row_of(kv, kv->v, lane, t, g);
        sum += p;
        for (int64_t e = 0; e < a->d; e++) y[e] += p * value(kv, row, e);
    }
    if (a->y_max) a->y_max[i * a->ld_split + at] = (float)most;
    if (a->y_sum) a->y_sum[i * a->ld_split + at] = (float)sum;
    for (int64_t e = 0; a->y_split && e < a->d; e++) a->y_split[((i * a->splits * a->heads) + at) * a->d + e] = (float)y[e];
}

oct_status oct_attn_ref(const oct_attn_args *a)
{
    const oct_kv kv = oct_kv_full(a->kv);
    for (int64_t i = 0; i < a->t; i++)
        for (int64_t h = 0; h < a->heads; h++) {
            head(a, &kv, i, h);
            for (int64_t j = 0; j < a->splits; j++) split(a, &kv, i, h, j);
        }
    return OCT_OK;
}
