/* kv.h - rows of a KV cache as scalars: the definition that every kernel is checked against (see "The KV cache" in
 * octavo.h). A row is bytes; nothing in it need be aligned. kv is full. */
#ifndef OCTAVO_CORE_NUM_KV_H
#define OCTAVO_CORE_NUM_KV_H
#include "core/num/bf16.h"
#include "core/num/f8.h"
#include "octavo.h"

static inline float oct_kv_f16(const uint8_t *p) { return oct_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }
static inline void oct_kv_put_f16(uint8_t *p, float x)
{
    const uint16_t h = oct_f16_from_f32(x);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

/* Smallest and largest of n values. NaN is ignored, here and below: with no other value they are +inf and -inf. */
static inline void oct_kv_range(const float *x, int64_t n, float *mn, float *mx)
{
    *mn = INFINITY;
    *mx = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        *mn = x[i] < *mn ? x[i] : *mn;
        *mx = x[i] > *mx ? x[i] : *mx;
    }
    *mn += 0.0f; /* never -0, which min and max may or may not tell from 0 */
    *mx += 0.0f;
}

/* The scalars of an F8_TOKEN row, and of a group of an I4 row, from the range of its values. */
typedef struct oct_kv_f8 { float scale, shift, mul, add; } oct_kv_f8;
static inline oct_kv_f8 oct_kv_f8_from_range(float mn, float mx)
{
    const float least = 1.0f / (448.0f * 512.0f), range = (mx - mn) / 2.0f;
    const float half = range < 32750.0f ? range : 32750.0f, s = half / 448.0f;
    const float scale = s > least ? s : least, shift = mn + 448.0f * scale;
    return (oct_kv_f8){ scale, shift, 1.0f / scale, -shift / scale };
}
typedef struct oct_kv_i4 { float scale, shift, mul; } oct_kv_i4;
static inline oct_kv_i4 oct_kv_i4_from_range(float mn, float mx)
{
    const float scale = (mx - mn) / 15.0f;
    return (oct_kv_i4){ scale, mn, (float)(15.0 / ((double)scale * 15.0 + 1e-8)) };
}
static inline uint8_t oct_kv_i4_code(float x, oct_kv_i4 s)
{
    const float r = rintf((x - s.shift) * s.mul), low = r > 0.0f ? r : 0.0f;
    return (uint8_t)(low < 15.0f ? low : 15.0f);
}

/* Writes d values as a row. */
static inline void oct_kv_store(const oct_kv *kv, uint8_t *row, const float *x)
{
    float mn, mx;
    const int64_t d = kv->d, groups = kv->groups;
    if (kv->format == OCT_KV_BF16) {
        for (int64_t i = 0; i < d; i++) {
            const uint16_t h = oct_bf16_from_f32(x[i]);
            row[2 * i] = (uint8_t)h;
            row[2 * i + 1] = (uint8_t)(h >> 8);
        }
    } else if (kv->format == OCT_KV_F8_TOKEN) {
        oct_kv_range(x, d, &mn, &mx);
        const oct_kv_f8 s = oct_kv_f8_from_range(mn, mx);
        oct_kv_put_f16(row, s.scale);
        oct_kv_put_f16(row + 2, s.shift);
        for (int64_t i = 0; i < d; i++) row[4 + i] = oct_f8e4m3fn_from_f32(fmaf(x[i], s.mul, s.add));
    } else {
        for (int64_t g = 0; g < groups; g++) {
            const float *y = x + g * (d / groups);
            uint8_t *codes = row + 4 * groups + g * (d / groups) / 2;
            oct_kv_range(y, d / groups, &mn, &mx);
            const oct_kv_i4 s = oct_kv_i4_from_range(mn, mx);
            oct_kv_put_f16(row + 4 * g, s.scale);
            oct_kv_put_f16(row + 4 * g + 2, s.shift);
            for (int64_t i = 0; i < d / groups; i += 2)
                codes[i / 2] = (uint8_t)(oct_kv_i4_code(y[i], s) | oct_kv_i4_code(y[i + 1], s) << 4);
        }
    }
}

/* Element i of a row as scale, code, shift. BF16: 1, value, -0, so that the fma gives the value, -0 included. */
typedef struct oct_kv_parts { float scale, code, shift; } oct_kv_parts;
static inline oct_kv_parts oct_kv_load(const oct_kv *kv, const uint8_t *row, int64_t i)
{
    if (kv->format == OCT_KV_BF16)
        return (oct_kv_parts){ 1.0f, oct_bf16_to_f32((uint16_t)(row[2 * i] | row[2 * i + 1] << 8)), -0.0f };
    if (kv->format == OCT_KV_F8_TOKEN)
        return (oct_kv_parts){ oct_kv_f16(row), oct_f8e4m3fn_to_f32(row[4 + i]), oct_kv_f16(row + 2) };
    const uint8_t *p = row + 4 * (i / (kv->d / kv->groups)), b = row[4 * kv->groups + i / 2];
    return (oct_kv_parts){ oct_kv_f16(p), (float)(i % 2 ? b >> 4 : b & 15), oct_kv_f16(p + 2) };
}
#endif
