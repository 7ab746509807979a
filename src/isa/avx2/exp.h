/* exp.h - exponentials on AVX2. */
#ifndef OCTAVO_ISA_AVX2_EXP_H
#define OCTAVO_ISA_AVX2_EXP_H
#include "isa/avx2/num.h"

/* 2^x for x <= 0 (a little above is fine), within 4 u relative; 0 where x < -125; NaN stays NaN.
 * x = n + r with n the nearest integer, |r| <= 1/2: adding 1.5 2^23 leaves n in the low bits. 2^r is a polynomial that
 * is 1 at 0 and 1.6 u off at most; n goes to the exponent. */
INLINE __m256 exp2_nonpos(__m256 x)
{
    const __m256 magic = _mm256_set1_ps(0x1.8p23f), t = _mm256_add_ps(x, magic), r = _mm256_sub_ps(x, _mm256_sub_ps(t, magic));
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
