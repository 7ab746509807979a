/* limit_avx2.c - what this machine can do at most: reading memory, f32 FMA on AVX2. Timed beside the kernels. */
#include "check.h"
#include <immintrin.h>

double ck_read_once(const void *p, int64_t bytes)
{
    const char *c = p;
    const int64_t quarter = bytes / 4 / 128 * 128;
    __m256i a = _mm256_setzero_si256(), b = a;
    for (int64_t i = 0; i < quarter; i += 64)
        for (int s = 0; s < 4; s++) {
            a = _mm256_xor_si256(a, _mm256_loadu_si256((const __m256i *)(c + s * quarter + i)));
            b = _mm256_xor_si256(b, _mm256_loadu_si256((const __m256i *)(c + s * quarter + i + 32)));
        }
    a = _mm256_xor_si256(a, b);
    return (double)(_mm256_extract_epi64(a, 0) ^ _mm256_extract_epi64(a, 3));
}

double ck_fma_once(int64_t iterations)
{
    __m256 x[14];
    const __m256 f = _mm256_set1_ps(0.999f), g = _mm256_set1_ps(0.001f);
#pragma GCC unroll 14 /* every loop over x, or gcc keeps it in memory */
    for (int i = 0; i < 14; i++) x[i] = _mm256_set1_ps((float)i);
    for (int64_t n = 0; n < iterations; n++) {
#pragma GCC unroll 14
        for (int i = 0; i < 14; i++) x[i] = _mm256_fmadd_ps(x[i], f, g);
        __asm__ volatile("" : "+x"(x[0]), "+x"(x[7]));
    }
#pragma GCC unroll 14
    for (int i = 1; i < 14; i++) x[0] = _mm256_add_ps(x[0], x[i]);
    return (double)_mm256_cvtss_f32(x[0]);
}
