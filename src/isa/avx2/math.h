/* math.h - functions on 8 f32. */
#ifndef OCTAVO_ISA_AVX2_MATH_H
#define OCTAVO_ISA_AVX2_MATH_H
#include "isa/avx2/num.h"

/* exp(x) for x <= 0, within 1.5 u relative where the result is normal and a step of the subnormals below; exp(0) = 1,
 * NaN gives NaN. x = n ln 2 + f, |f| <= ln 2 / 2 (1 + 2^-20); the polynomial is a minimax one, within 0.1 u of exp(f).
 */
INLINE __m256 exp_nonpositive(__m256 x)
{
    const __m256 shift = _mm256_set1_ps(0x1.8p23f); /* adding it leaves the nearest integer in the low bits */
    x = _mm256_max_ps(_mm256_set1_ps(-104), x);     /* 0 from there on; NaN stays */
    const __m256 t = _mm256_fmadd_ps(x, _mm256_set1_ps(0x1.715476p0f), shift), n = _mm256_sub_ps(t, shift);
    __m256 f = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x); /* exact: 15 bits by 8 */
    f = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), f);
    __m256 p = _mm256_set1_ps(0x1.6a23cep-10f);
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0x1.123a2p-7f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0x1.5558f2p-5f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0x1.555492p-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0x1.fffffcp-2f));
    p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(f, f), f), _mm256_set1_ps(1));
    /* times 2^(n + 64), which is never subnormal, then 2^-64, which rounds once */
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(127 + 64)), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(power)), _mm256_set1_ps(0x1p-64f));
}

/* 2^x for x <= 0, within 3 u relative; 0 where x < -125; NaN stays NaN.
 * x = n + r with n the nearest integer, |r| <= 1/2: adding 1.5 2^23 leaves n in the low bits. 2^r is a polynomial that
 * is 1 at 0 and 1.6 u off at most; n goes to the exponent. */
INLINE __m256 exp2_nonpositive(__m256 x)
{
    const __m256 magic = _mm256_set1_ps(0x1.8p23f), t = _mm256_add_ps(x, magic),
                 r = _mm256_sub_ps(x, _mm256_sub_ps(t, magic));
    __m256 p = _mm256_set1_ps(0.001326472731307149f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.009671512991189957f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.05550733581185341f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.24022242426872253f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.6931470036506653f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), n));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(-125.0f), _CMP_LT_OQ), p);
}
#endif
