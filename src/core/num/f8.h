/* f8.h - FP8 as scalars: the definition that every kernel is checked against (OCP OFP8 1.0). */
#ifndef OCTAVO_CORE_NUM_F8_H
#define OCTAVO_CORE_NUM_F8_H
#include <math.h>
#include <stdint.h>

#define OCT_F8E4M3FN_MAX 448.0f

static inline float oct_f8e4m3fn_to_f32(uint8_t b)
{
    const int e = b >> 3 & 15, m = b & 7;
    if ((b & 0x7f) == 0x7f) return NAN;
    const float a = e ? ldexpf((float)(8 + m), e - 10) : ldexpf((float)m, -9);
    return b & 0x80 ? -a : a;
}

/* Nearest even, saturating: finite overflow and infinities give +-448; NaN of either sign gives 0x7F. */
static inline uint8_t oct_f8e4m3fn_from_f32(float x)
{
    if (x != x) return 0x7f;
    const uint8_t sign = signbit(x) ? 0x80 : 0;
    const float a = fabsf(x);
    if (a >= OCT_F8E4M3FN_MAX) return sign | 0x7e;
    if (a < 0x1p-6f) return sign | (uint8_t)rintf(a * 512.0f); /* subnormal, or the smallest normal by rounding up */
    int e;
    (void)frexpf(a, &e); /* a = f 2^e, 1/2 <= f < 1 */
    const int m = (int)rintf(ldexpf(a, 4 - e)); /* 8 .. 16; 16 carries into the exponent */
    return sign | (uint8_t)((e + 6) * 8 + m - 8);
}
#endif
