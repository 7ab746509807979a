/* paged_int4_attention.c - decode attention over a paged INT4 cache: 2 sequences of different length, 4 query heads on 2 KV
 * heads. Tokens are rotated and appended with oct_rope_kv, pages lie anywhere, and oct_attn reads them. The result is compared
 * with attention in double over the cache's own values (oct_kv_dequant).
 *
 *   cc paged_int4_attention.c $(pkg-config --cflags --libs octavo) -lm && ./a.out */
#include <octavo.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 2, HEADS = 4, KV_HEADS = 2, D = 64, PAGE = 16, PAGES_A_LANE = 4, PAGES = 10, MAX_T = PAGE * PAGES_A_LANE };

static void must(oct_status s)
{
    if (s == OCT_OK) return;
    fprintf(stderr, "%s\n", oct_error_text());
    exit(1);
}

static unsigned short bf16(double x)
{
    const float f = (float)x;
    unsigned u;
    memcpy(&u, &f, 4);
    return (unsigned short)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static double value(unsigned short h)
{
    const unsigned u = (unsigned)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

int main(void)
{
    /* Pages of the two sequences, in no order. */
    static const int32_t table[LANES * PAGES_A_LANE] = { 7, 2, 9, 0, 4, 1, 3, 8 };
    static const int32_t len[LANES] = { 50, 23 };
    oct_kv kv = { .size = sizeof kv, .format = OCT_KV_I4, .groups = 2, .heads = KV_HEADS, .d = D, .pages = PAGES, .page_size = PAGE,
                  .lanes = LANES, .page_table = table, .ld_page_table = PAGES_A_LANE };
    kv.k = calloc(1, (size_t)oct_kv_bytes(&kv));
    kv.v = calloc(1, (size_t)oct_kv_bytes(&kv));

    static unsigned short q[LANES * HEADS * D], k[LANES * KV_HEADS * D], v[LANES * KV_HEADS * D], y[LANES * HEADS * D];
    int32_t pos[LANES];
    for (int t = 0; t < 50; t++) { /* a token a lane and step, as in decoding; -1 skips a lane that has ended */
        for (int i = 0; i < LANES * KV_HEADS * D; i++) {
            k[i] = bf16(sin(i * 1.3 + t * 0.37));
            v[i] = bf16(cos(i * 0.9 - t * 0.53));
        }
        for (int i = 0; i < LANES * HEADS * D; i++) q[i] = bf16(2 * sin(i * 0.61 + t));
        for (int b = 0; b < LANES; b++) pos[b] = t < len[b] ? t : -1;
        const oct_rope_kv_args r = { .size = sizeof r, .pairs = OCT_ROPE_HALF, .t = LANES, .heads = HEADS, .d = D, .q = q, .q_out = q,
                                     .k = k, .v = v, .dtype = OCT_BF16, .pos = pos, .rope = { .theta = 10000 }, .kv = &kv };
        must(oct_rope_kv(&r));
    }

    oct_attn_args a = { .size = sizeof a, .t = LANES, .heads = HEADS, .d = D, .q = q, .q_dtype = OCT_BF16, .y = y, .y_dtype = OCT_BF16,
                        .len = len, .kv = &kv };
    a.on.scratch_bytes = oct_attn_scratch(&a);
    a.on.scratch = aligned_alloc(64, (size_t)(a.on.scratch_bytes + 63) / 64 * 64 + 64);
    must(oct_attn(&a));

    static float kf[LANES * MAX_T * KV_HEADS * D], vf[LANES * MAX_T * KV_HEADS * D];
    const oct_kv_dequant_args d = { .size = sizeof d, .kv = &kv, .len = len, .max_t = MAX_T, .k_out = kf, .v_out = vf, .y_dtype = OCT_F32 };
    must(oct_kv_dequant(&d));
    double worst = 0;
    for (int b = 0; b < LANES; b++)
        for (int h = 0; h < HEADS; h++) {
            double p[MAX_T], sum = 0, most = -1e30;
            const int g = h / (HEADS / KV_HEADS);
            for (int t = 0; t < len[b]; t++) {
                p[t] = 0;
                for (int e = 0; e < D; e++) p[t] += value(q[(b * HEADS + h) * D + e]) * kf[((b * MAX_T + t) * KV_HEADS + g) * D + e];
                p[t] /= sqrt(D);
                most = fmax(most, p[t]);
            }
            for (int t = 0; t < len[b]; t++) sum += p[t] = exp(p[t] - most);
            for (int e = 0; e < D; e++) {
                double o = 0;
                for (int t = 0; t < len[b]; t++) o += p[t] / sum * vf[((b * MAX_T + t) * KV_HEADS + g) * D + e];
                worst = fmax(worst, fabs(o - value(y[(b * HEADS + h) * D + e])));
            }
        }
    free(a.on.scratch);
    free(kv.k);
    free(kv.v);
    printf("a token and head takes %lld bytes instead of %d; largest difference from double %.1e\n", (long long)oct_kv_row_bytes(&kv), 2 * D, worst);
    return worst < 1.0 / 256 ? 0 : 1; /* values are below 1: half a bf16 step is 1/512 */
}
