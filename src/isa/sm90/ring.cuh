/* ring.cuh - bulk copies from device memory into a ring of shared memory, each counted by bytes on a barrier. */
#ifndef OCTAVO_ISA_SM90_RING_CUH
#define OCTAVO_ISA_SM90_RING_CUH
#include "isa/sm90/num.cuh"

DEVICE uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }
DEVICE void barrier_init(uint32_t bar, int arrivals) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals)); }
DEVICE void barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void barrier_expect(uint32_t bar, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
DEVICE void barrier_wait(uint32_t bar, uint32_t parity)
{
    asm volatile("{\n.reg .pred P;\nWAIT:\nmbarrier.try_wait.parity.acquire.cta.shared::cta.b64 P, [%0], %1, 0x989680;\n"
                 "@P bra DONE;\nbra WAIT;\nDONE:\n}" ::"r"(bar), "r"(parity) : "memory");
}
/* p, to and bytes are multiples of 16. What is read is not kept in L2. */
DEVICE void bulk_load(uint32_t to, const void *p, uint32_t bytes, uint32_t bar)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(to),
                 "l"(p), "r"(bytes), "r"(bar), "l"(0x12f0000000000000ull)
                 : "memory");
}
DEVICE uint4 load_shared16(uint32_t p)
{
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(p));
    return v;
}
/* The first n elements (n a multiple of what 16 bytes hold) of a unit in shared memory; the others are 0. */
template <int T> DEVICE unit<T> load_unit_shared(uint32_t p, int n)
{
    enum { PER = 16 / type<T>::BYTES };
    unit<T> u;
#pragma unroll
    for (int i = 0; i < UNIT / PER; i++) {
        const uint4 v = i * PER < n ? load_shared16(p + 16 * i) : make_uint4(0, 0, 0, 0);
        u.w[4 * i] = v.x, u.w[4 * i + 1] = v.y, u.w[4 * i + 2] = v.z, u.w[4 * i + 3] = v.w;
    }
    return u;
}
#endif
