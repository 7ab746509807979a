/* plain_attn.c - attention as one would write it in plain C, for a compiler with -O3 -march=native to vectorise: the
 * yardstick of oct_attn's speed. One lane, contiguous caches [len][kv_heads][d] in bf16; y[heads][d] in bf16. */
#include "plain.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static float value(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static uint16_t rounded(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Sixteen sums side by side: a compiler that may not reorder one sum can still use vectors. */
static float dot(const float *restrict q, const uint16_t *restrict k, int64_t d)
{
    float sum[16] = { 0 }, s = 0;
    int64_t e = 0;
    for (; e + 16 <= d; e += 16)
        for (int j = 0; j < 16; j++) sum[j] += q[e + j] * value(k[e + j]);
    for (; e < d; e++) s += q[e] * value(k[e]);
    for (int j = 0; j < 16; j++) s += sum[j];
    return s;
}

void plain_attn_bf16(const uint16_t *q, const uint16_t *k, const uint16_t *v, int64_t heads, int64_t kv_heads, int64_t d,
                     int64_t len, uint16_t *y)
{
    float *s = malloc((size_t)(len + 2 * d) * sizeof *s), *query = s + len, *sum = query + d;
    const float scale = 1.0f / sqrtf((float)d);
    if (!s) abort();
    for (int64_t h = 0; h < heads; h++) {
        const int64_t g = h / (heads / kv_heads);
        float most = -INFINITY, total = 0;
        for (int64_t e = 0; e < d; e++) {
            query[e] = value(q[h * d + e]) * scale;
            sum[e] = 0;
        }
        for (int64_t t = 0; t < len; t++) {
            s[t] = dot(query, k + (t * kv_heads + g) * d, d);
            most = s[t] > most ? s[t] : most;
        }
        for (int64_t t = 0; t < len; t++) {
            const uint16_t *restrict row = v + (t * kv_heads + g) * d;
            const float p = expf(s[t] - most);
            total += p;
            for (int64_t e = 0; e < d; e++) sum[e] += p * value(row[e]);
        }
        for (int64_t e = 0; e < d; e++) y[h * d + e] = rounded(sum[e] / total);
    }
    free(s);
}
