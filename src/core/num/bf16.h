/* bf16.h - bfloat16 and binary16 as scalars: what the references use. */
#ifndef OCTAVO_CORE_NUM_BF16_H
#define OCTAVO_CORE_NUM_BF16_H
#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t oct_f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static inline float oct_f32_from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline float oct_bf16_to_f32(uint16_t h) { return oct_f32_from_bits((uint32_t)h << 16); }

/* Nearest even; overflow gives infinity; every NaN gives 0x7FC0. */
static inline uint16_t oct_bf16_from_f32(float x)
{
    const uint32_t u = oct_f32_bits(x);
    if (x != x) return 0x7fc0;
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float oct_f16_to_f32(uint16_t h)
{
    const int e = h >> 10 & 31, m = h & 1023;
    const float a = e == 31 ? (m ? NAN : INFINITY) : e ? ldexpf((float)(1024 + m), e - 25) : ldexpf((float)m, -24);
    return h & 0x8000 ? -a : a;
}

/* Nearest even; overflow gives infinity; every NaN gives 0x7E00. */
static inline uint16_t oct_f16_from_f32(float x)
{
    if (x != x) return 0x7e00;
    const uint16_t sign = signbit(x) ? 0x8000 : 0;
    const float a = fabsf(x);
    if (a >= 65520.0f) return sign | 0x7c00;
    if (a < 0x1p-14f) return sign | (uint16_t)rintf(a * 0x1p24f); /* subnormal, or 0x0400 by rounding up */
    int e;
    (void)frexpf(a, &e); /* a = f 2^e, 1/2 <= f < 1 */
    const int m = (int)rintf(ldexpf(a, 11 - e)); /* 1024 .. 2048; 2048 carries into the exponent */
    return sign | (uint16_t)((e + 14) * 1024 + m - 1024);
}
#endif
