/* cluster.cuh - the largest of a cluster of up to 8 CTAs, by stores into each other's shared memory that a barrier counts. */
#ifndef OCTAVO_ISA_SM90_CLUSTER_CUH
#define OCTAVO_ISA_SM90_CLUSTER_CUH
#include "isa/sm90/num.cuh"

enum { MAX_CLUSTER = 8 };
struct exchange { /* in shared memory */
    uint64_t barrier;
    float all[MAX_CLUSTER];
};

DEVICE uint32_t cluster_rank() { uint32_t r; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
DEVICE uint32_t cluster_size() { uint32_t r; asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(r)); return r; }

/* At the kernel's beginning, by all threads. */
DEVICE void exchange_open(exchange *x)
{
    if (threadIdx.x == 0) {
        const uint32_t bar = (uint32_t)__cvta_generic_to_shared(&x->barrier);
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar));
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
}
/* Once, by all threads, with a CTA's value; or exchange_skip. Each CTA waits for its own barrier, on which every CTA's
 * store arrives; nobody touches another's memory afterwards, so CTAs may end at different times. */
DEVICE float exchange_max(exchange *x, float a, uint32_t rank, uint32_t size)
{
    const uint32_t bar = (uint32_t)__cvta_generic_to_shared(&x->barrier), slot = (uint32_t)__cvta_generic_to_shared(&x->all[rank]);
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); // the others' barriers are set up
    if (threadIdx.x == 0) asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(4 * size) : "memory");
    if (threadIdx.x < size) {
        uint32_t to, to_bar;
        asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(slot), "r"(threadIdx.x));
        asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to_bar) : "r"(bar), "r"(threadIdx.x));
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(to), "f"(a), "r"(to_bar) : "memory");
    }
    asm volatile("{\n.reg .pred P;\nWAIT:\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 P, [%0], 0, 0x989680;\n"
                 "@P bra DONE;\nbra WAIT;\nDONE:\n}" ::"r"(bar) : "memory");
    for (uint32_t i = 0; i < size; i++) a = fmaxf(a, x->all[i]);
    return a;
}
DEVICE void exchange_skip() { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }
#endif
