/* sync.cuh - mbarriers, named barriers, clusters and programmatic launches of sm_90a, as thin names for PTX. Addresses of
 * shared memory are 32-bit (shared_address). Everything static: device code of one file. */
#ifndef OCTAVO_ISA_SM90_SYNC_CUH
#define OCTAVO_ISA_SM90_SYNC_CUH
#include <stdint.h>

#define DEVICE static __device__ __forceinline__

DEVICE uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* ---- mbarrier: completes a phase when `count` arrivals and all announced bytes are in. A wait names the phase's parity. */
DEVICE void barrier_init(uint32_t b, int count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(b), "r"(count)); }
/* After the inits: seen by the copy engine and by the cluster. */
DEVICE void barrier_init_done(void) { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void barrier_arrive(uint32_t b) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(b) : "memory"); }
/* Arrives and announces bytes that copies will bring. */
DEVICE void barrier_expect(uint32_t b, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(b), "r"(bytes) : "memory");
}
/* The hint lets a waiting warp sleep, which saves power. */
DEVICE void barrier_wait(uint32_t b, uint32_t parity)
{
    asm volatile("{\n.reg .pred done;\nagain:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1, 0x989680;\n"
                 "@done bra out;\nbra again;\nout:\n}" ::"r"(b), "r"(parity) : "memory");
}
/* The same, and data that other CTAs of the cluster stored is seen after it. */
DEVICE void barrier_wait_cluster(uint32_t b, uint32_t parity)
{
    asm volatile("{\n.reg .pred done;\nagain:\n"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1, 0x989680;\n"
                 "@done bra out;\nbra again;\nout:\n}" ::"r"(b), "r"(parity) : "memory");
}
/* This thread's earlier 4-byte copies (copy_4) arrive when they are in. */
DEVICE void barrier_arrive_copies(uint32_t b)
{
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(b) : "memory");
}

/* ---- Named barriers of a CTA ---- */
DEVICE void group_sync(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
DEVICE void group_arrive(int id, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

/* ---- Clusters ---- */
DEVICE uint32_t cluster_rank(void) { uint32_t r; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
DEVICE uint32_t cluster_size(void) { uint32_t r; asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(r)); return r; }
/* Relaxed: enough once barrier_init_done has run, and to keep a CTA alive. A release here costs a fence of the whole GPU. */
DEVICE void cluster_arrive(void) { asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory"); }
DEVICE void cluster_wait(void) { asm volatile("barrier.cluster.wait.acquire;" ::: "memory"); }
/* The same place in the shared memory of another CTA. */
DEVICE uint32_t shared_of(uint32_t address, uint32_t rank)
{
    uint32_t r;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(address), "r"(rank));
    return r;
}
/* Plain form on purpose: .release.cluster would fence the whole GPU, and nothing of ours is published here. */
DEVICE void barrier_arrive_at(uint32_t b, uint32_t rank)
{
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(shared_of(b, rank)) : "memory");
}
/* Stores into another CTA and counts the bytes on a barrier there. */
DEVICE void store_remote(uint32_t a, float v, uint32_t b)
{
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(a), "f"(v), "r"(b) : "memory");
}
DEVICE void store_remote4(uint32_t a, const float *v, uint32_t b)
{
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(a), "f"(v[0]),
                 "f"(v[1]), "f"(v[2]), "f"(v[3]), "r"(b) : "memory");
}

/* ---- Programmatic launches: see core/cuda.h for the rule ---- */
DEVICE void chain_wait(void) { asm volatile("griddepcontrol.wait;" ::: "memory"); }
DEVICE void chain_launch(void) { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

/* ---- Shared memory ---- */
DEVICE float load_shared(uint32_t a) { float v; asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(a)); return v; }
DEVICE float2 load_shared2(uint32_t a)
{
    float2 v;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(a));
    return v;
}
DEVICE float4 load_shared4(uint32_t a)
{
    float4 v;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(a));
    return v;
}
DEVICE uint16_t load_shared_u16(uint32_t a) { uint16_t v; asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(a)); return v; }
DEVICE void store_shared(uint32_t a, float v) { asm volatile("st.shared.f32 [%0], %1;" ::"r"(a), "f"(v) : "memory"); }
DEVICE void store_shared4(uint32_t a, const float *v)
{
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(a), "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3]) : "memory");
}
DEVICE void store_shared2(uint32_t a, float v, float w)
{
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(a), "f"(v), "f"(w) : "memory");
}
#endif
