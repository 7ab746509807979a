/* numbers.h - BF16 and F16 as the weights of a folder have them. */
#ifndef OCTAVO_LLAMA_NUMBERS_H
#define OCTAVO_LLAMA_NUMBERS_H
#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t lm_bf16(float x) /* nearest even */
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return x != x ? 0x7fc0 : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float lm_bf16_value(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, 4);
    return x;
}

static inline float lm_f16_value(uint16_t h)
{
    const int e = h >> 10 & 31, m = h & 1023;
    const float a = e == 31 ? (m ? NAN : INFINITY) : e ? ldexpf((float)(1024 + m), e - 25) : ldexpf((float)m, -24);
    return h & 0x8000 ? -a : a;
}
#endif
