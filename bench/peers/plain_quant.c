/* plain_quant.c - row-wise quantization as one would write it without intrinsics, for the compiler to vectorize
 * (-O3 -march=native): what oct_quant is measured against. Finite inputs; the codes and scales are octavo's. */
#include "plain.h"
#include <string.h>

static inline float f32_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}
static inline uint32_t bits_of_f32(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

/* Nearest even; x within +-448. Adding 2^20 times x's own power of two rounds x to a code step. */
static inline uint8_t f8e4m3fn(float x)
{
    const uint32_t u = bits_of_f32(x), a = u & 0x7fffffff, own = a & 0x7f800000;
    const uint32_t e = own > 0x3c800000 ? own : 0x3c800000; /* at least 2^-6 */
    const uint32_t magic = e + (20u << 23);
    const uint32_t steps = bits_of_f32(f32_of_bits(a) + f32_of_bits(magic)) - magic;
    return (uint8_t)((steps + (e >> 20) - 968) | (u >> 24 & 0x80));
}

static inline float scale_of(float amax)
{
    const float s = amax / 448.0f, least = 1.0f / (448.0f * 512.0f);
    return s > least ? s : least;
}

void plain_quant_row_bf16(const uint16_t *x, int64_t m, int64_t k, uint8_t *y, float *scale)
{
    for (int64_t i = 0; i < m; i++, x += k, y += k) {
        uint16_t amax = 0;
        for (int64_t j = 0; j < k; j++) {
            const uint16_t a = x[j] & 0x7fff;
            amax = a > amax ? a : amax;
        }
        const float s = scale_of(f32_of_bits((uint32_t)amax << 16));
        scale[i] = s;
        for (int64_t j = 0; j < k; j++) y[j] = f8e4m3fn(f32_of_bits((uint32_t)x[j] << 16) / s);
    }
}

void plain_quant_row_f32(const float *x, int64_t m, int64_t k, uint8_t *y, float *scale)
{
    for (int64_t i = 0; i < m; i++, x += k, y += k) {
        uint32_t amax = 0;
        for (int64_t j = 0; j < k; j++) {
            const uint32_t a = bits_of_f32(x[j]) & 0x7fffffff;
            amax = a > amax ? a : amax;
        }
        const float s = scale_of(f32_of_bits(amax));
        scale[i] = s;
        for (int64_t j = 0; j < k; j++) y[j] = f8e4m3fn(x[j] / s);
    }
}
