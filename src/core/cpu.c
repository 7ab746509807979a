/* cpu.c - features of this CPU, and the floating-point environment that kernels run in. */
#include "core/core.h"
#include <stdatomic.h>

static _Atomic uint32_t mask = ~0u;

static uint32_t detect(void)
{
    uint32_t f = 0;
#if defined(__x86_64__)
    __builtin_cpu_init(); /* its answers include the operating system's consent */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
        f |= OCT_CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
        f |= OCT_CPU_AVX512;
    if (f & OCT_CPU_AVX512 && __builtin_cpu_supports("avx512bf16")) f |= OCT_CPU_AVX512_BF16;
    if (f & OCT_CPU_AVX512 && __builtin_cpu_supports("avx512vbmi")) f |= OCT_CPU_AVX512_VBMI;
#endif
    return f;
}

uint32_t oct_cpu_features(void)
{
    static _Atomic uint32_t found = 1u << 31; /* not looked yet */
    uint32_t f = atomic_load_explicit(&found, memory_order_relaxed);
    if (f == 1u << 31) atomic_store_explicit(&found, f = detect(), memory_order_relaxed);
    return f & atomic_load_explicit(&mask, memory_order_relaxed);
}

void oct_cpu_mask(uint32_t allowed) { atomic_store(&mask, allowed); }

/* Hosts set DAZ and FTZ (torch.set_flush_denormal) or another rounding; kernels count on neither. */
#if defined(__x86_64__)
#include <xmmintrin.h>
uint32_t oct_fp_enter(void)
{
    const uint32_t saved = _mm_getcsr();
    _mm_setcsr(0x1f80); /* all exceptions masked, round to nearest, no DAZ, no FTZ */
    return saved;
}
void oct_fp_leave(uint32_t saved) { _mm_setcsr(saved); }
#else
#include <fenv.h>
uint32_t oct_fp_enter(void)
{
    const uint32_t saved = (uint32_t)fegetround();
    fesetround(FE_TONEAREST);
    return saved;
}
void oct_fp_leave(uint32_t saved) { fesetround((int)saved); }
#endif
