/* convert.cuh - pairs of numbers between formats, in registers; the first of a pair lies in the low half of a word. */
#ifndef OCTAVO_ISA_SM90_CONVERT_CUH
#define OCTAVO_ISA_SM90_CONVERT_CUH
#include "isa/sm90/sync.cuh"

DEVICE uint32_t f32x2_to_bf16x2(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
DEVICE uint16_t f32_to_bf16(float v) { return (uint16_t)f32x2_to_bf16x2(v, 0.0f); }
DEVICE float bf16_to_f32(uint16_t v) { return __uint_as_float((uint32_t)v << 16); }
/* Two f8e4m3fn codes -> two bf16, exact; NaN stays NaN. By way of f16, the only type that the hardware decodes to. */
DEVICE uint32_t f8x2_to_bf16x2(uint16_t codes)
{
    uint32_t r;
    asm("{\n.reg .b32 h;\n.reg .b16 l, u;\n.reg .f32 a, b;\n"
        "cvt.rn.f16x2.e4m3x2 h, %1;\nmov.b32 {l, u}, h;\ncvt.f32.f16 a, l;\ncvt.f32.f16 b, u;\n"
        "cvt.rn.bf16x2.f32 %0, b, a;\n}" : "=r"(r) : "h"(codes));
    return r;
}
#endif
