/* rope_kv_ref.c - the formula of octavo.h, a token and a head at a time. */
#include "core/core.h"
#include "core/kernel.h"
#include "core/num/kv.h"

int oct_rope_kv_ref_fits(const oct_rope_kv_args *a, oct_fit *fit) { (void)a; (void)fit; return 1; }

static void rotate(const oct_rope_kv_args *a, const float *cs, const uint16_t *x, float *y)
{
    const int64_t half = a->d / 2, step = a->pairs == OCT_ROPE_HALF ? 1 : 2, other = a->pairs == OCT_ROPE_HALF ? half : 1;
    for (int64_t j = 0; j < half; j++) {
        const float x0 = oct_bf16_to_f32(x[j * step]), x1 = oct_bf16_to_f32(x[j * step + other]);
        const float c = cs[j], s = cs[half + j];
        y[j * step] = a->pairs == OCT_ROPE_NONE ? x0 : fmaf(x0, c, -(x1 * s));
        y[j * step + other] = a->pairs == OCT_ROPE_NONE ? x1 : fmaf(x1, c, x0 * s);
    }
}

/* Divides a head by its root mean square. */
static void normalize(const oct_rope_kv_args *a, float *y)
{
    double s[OCT_MAX_D] = { 0 };
    int64_t n = 1;
    if (!(a->flags & OCT_ROPE_KV_NORM)) return;
    while (n < a->d) n *= 2;
    for (int64_t e = 0; e < a->d; e++) s[e] = (double)y[e] * (double)y[e];
    while (n /= 2)
        for (int64_t e = 0; e < n; e++) s[e] += s[e + n];
    const double square = s[0] / (double)a->d + (double)a->norm_eps, r = square == 0 ? 1 : 1 / sqrt(square);
    for (int64_t e = 0; e < a->d; e++) y[e] = (float)((double)y[e] * r);
}

static void round_to(const float *y, int64_t d, uint16_t *out)
{
    for (int64_t e = 0; e < d; e++) out[e] = oct_bf16_from_f32(y[e]);
}

oct_status oct_rope_kv_ref(const oct_rope_kv_args *a)
{
    float row[OCT_MAX_D] = { 0 }, y[OCT_MAX_D];
    oct_kv kv = { 0 };
    if (a->kv) kv = oct_kv_full(a->kv);
    for (int64_t i = 0; i < a->t; i++) {
        const int64_t pos = a->pos[i], slot = a->slot ? a->slot[i] : pos, lane = a->lane ? a->lane[i] : i;
        const float *cs = row;
        if (pos < 0) continue;
        if (a->pairs != OCT_ROPE_NONE && a->table && pos < a->table_len) cs = a->table + pos * a->d;
        else if (a->pairs != OCT_ROPE_NONE) oct_rope_row(&a->rope, a->d, pos, row);
        for (int64_t h = 0; a->q && h < a->heads; h++) {
            uint16_t *out = (uint16_t *)a->q_out + i * a->ldq_out + h * a->head_q_out;
            rotate(a, cs, (const uint16_t *)a->q + i * a->ldq + h * a->head_q, y);
            normalize(a, y);
            round_to(y, a->d, out);
        }
        for (int64_t h = 0; h < kv.heads; h++) {
            const uint16_t *v = (const uint16_t *)a->v + i * a->ldv + h * a->head_v;
            const int64_t at = oct_kv_offset(&kv, oct_kv_page(&kv, lane, slot), slot, h);
            rotate(a, cs, (const uint16_t *)a->k + i * a->ldk + h * a->head_k, y);
            normalize(a, y);
            oct_kv_store(&kv, (uint8_t *)kv.k + at, y);
            if (a->k_out) round_to(y, a->d, (uint16_t *)a->k_out + i * a->ldk_out + h * a->head_k_out);
            for (int64_t e = 0; e < a->d; e++) y[e] = oct_bf16_to_f32(v[e]);
            oct_kv_store(&kv, (uint8_t *)kv.v + at, y);
        }
    }
    return OCT_OK;
}
