/* wgmma.cuh - warpgroup matrix products of sm_90a: d[64 x n] (+)= a[64 x 32 bytes of k] b[n x 32 bytes of k]^T, f32 sums.
 *
 * Both operands lie k-major in shared memory in rows of 128 bytes with the TMA's 128-byte swizzle; a may be registers.
 * A thread holds, of each 8 columns, d[row][col], d[row][col + 1], d[row + 8][col], d[row + 8][col + 1] with
 * row = 16 (warp % 4) + lane / 4 and col = 2 (lane % 4).
 * Order of use:  registers_fence(d) products_begin() wgmma.. products_commit() registers_fence(d) products_wait<n>()
 * registers_fence(d), then use. ptxas serialises everything when this is broken (C7510 to C7519). */
#ifndef OCTAVO_ISA_SM90_WGMMA_CUH
#define OCTAVO_ISA_SM90_WGMMA_CUH
#include "isa/sm90/sync.cuh"

DEVICE void products_begin(void) { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void products_commit(void) { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int n> DEVICE void products_wait(void) { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory"); }
/* The compiler moves no access of d across. */
template <int n> DEVICE void registers_fence(float *d)
{
#pragma unroll
    for (int i = 0; i < n; i++) asm volatile("" : "+f"(d[i])::"memory");
}
/* Operand at a shared address of 1024 n. + 2: 32 bytes further in k. + 64: 8 rows further. */
DEVICE uint64_t operand(uint32_t a)
{
    return (uint64_t)((a & 0x3FFFF) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

/* Types of the operands. */
enum { F8 = 0, BF16 = 1 };
/* keep = 0: d = a b^T. */
template <int type, int n> DEVICE void wgmma(float *d, uint64_t a, uint64_t b, int keep);
/* bf16, a in registers: as ldmatrix gives 64 rows of 32 bytes. */
template <int n> DEVICE void wgmma_registers(float *d, const uint32_t *a, uint64_t b, int keep);

/* Register lists. */
#define L4   "%0, %1, %2, %3"
#define L8   L4 ", %4, %5, %6, %7"
#define L16  L8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define L32  L16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define L48  L32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define L64  L48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define L80  L64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define L96  L80 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define L112 L96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define L128 L112 ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define D4(i)  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define D8(i)  D4(i), D4(i + 4)
#define D16(i) D8(i), D8(i + 8)
#define D4_    D4(0)
#define D8_    D8(0)
#define D16_   D16(0)
#define D32_   D16(0), D16(16)
#define D48_   D32_, D16(32)
#define D64_   D48_, D16(48)
#define D80_   D64_, D16(64)
#define D96_   D80_, D16(80)
#define D112_  D96_, D16(96)
#define D128_  D112_, D16(112)

/* r = n / 2 registers; p0.. are the operands after them. */
#define SHAPE(r, n, p0, p1, p2, p3, p4, p5)                                                                                  \
    template <> __device__ __forceinline__ void wgmma<F8, n>(float *d, uint64_t a, uint64_t b, int keep)                     \
    {                                                                                                                        \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n                   \
                     "k32.f32.e4m3.e4m3 {" L##r "}, %" #p0 ", %" #p1 ", p, 1, 1;\n}"                                         \
                     : D##r##_ : "l"(a), "l"(b), "r"(keep));                                                                 \
    }                                                                                                                        \
    template <> __device__ __forceinline__ void wgmma<BF16, n>(float *d, uint64_t a, uint64_t b, int keep)                   \
    {                                                                                                                        \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n                   \
                     "k16.f32.bf16.bf16 {" L##r "}, %" #p0 ", %" #p1 ", p, 1, 1, 0, 0;\n}"                                   \
                     : D##r##_ : "l"(a), "l"(b), "r"(keep));                                                                 \
    }                                                                                                                        \
    template <> __device__ __forceinline__ void wgmma_registers<n>(float *d, const uint32_t *a, uint64_t b, int keep)  \
    {                                                                                                                        \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p5 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n                   \
                     "k16.f32.bf16.bf16 {" L##r "}, {%" #p0 ", %" #p1 ", %" #p2 ", %" #p3 "}, %" #p4 ", p, 1, 1, 0;\n}"      \
                     : D##r##_ : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep));                             \
    }
SHAPE(4, 8, 4, 5, 6, 7, 8, 9)
SHAPE(8, 16, 8, 9, 10, 11, 12, 13)
SHAPE(16, 32, 16, 17, 18, 19, 20, 21)
SHAPE(32, 64, 32, 33, 34, 35, 36, 37)
SHAPE(64, 128, 64, 65, 66, 67, 68, 69)
SHAPE(80, 160, 80, 81, 82, 83, 84, 85)
SHAPE(96, 192, 96, 97, 98, 99, 100, 101)
SHAPE(112, 224, 112, 113, 114, 115, 116, 117)
SHAPE(128, 256, 128, 129, 130, 131, 132, 133)
#undef SHAPE
#undef L4
#undef L8
#undef L16
#undef L32
#undef L48
#undef L64
#undef L80
#undef L96
#undef L112
#undef L128
#undef D4
#undef D8
#undef D16
#undef D4_
#undef D8_
#undef D16_
#undef D32_
#undef D48_
#undef D64_
#undef D80_
#undef D96_
#undef D112_
#undef D128_
#endif
