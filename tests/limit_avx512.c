/* limit_avx512.c - what this machine can do at most: products of bf16 pairs on AVX-512. Timed beside the kernels. */
#include "check.h"
#include <immintrin.h>

double ck_pairs_once(int64_t iterations)
{
    __m512 x[14];
    __m512i f = _mm512_set1_epi32(0x3f7f3f7f), g = _mm512_set1_epi32((int)0xbb800000); /* 0.996; -0.004 and 0 */
#pragma GCC unroll 14 /* every loop over x, or gcc keeps it in memory */
    for (int i = 0; i < 14; i++) x[i] = _mm512_set1_ps((float)i);
    for (int64_t n = 0; n < iterations; n++) {
        __asm__ volatile("" : "+v"(f), "+v"(g));
#pragma GCC unroll 14
        for (int i = 0; i < 14; i++) x[i] = _mm512_dpbf16_ps(x[i], (__m512bh)f, (__m512bh)g);
    }
#pragma GCC unroll 14
    for (int i = 1; i < 14; i++) x[0] = _mm512_add_ps(x[0], x[i]);
    return (double)_mm512_reduce_add_ps(x[0]);
}
