/* cluster.cuh - the largest of a cluster of up to 8 CTAs, by stores into each other's shared memory that a barrier counts. */
#ifndef OCTAVO_ISA_SM90_CLUSTER_CUH
#define OCTAVO_ISA_SM90_CLUSTER_CUH
#include "isa/sm90/num.cuh"

enum { MAX_CLUSTER = 8 };
struct exchange { /* in shared memory */
    uint64_t barrier;
    float all[MAX_CLUSTER];
};

/* At the kernel's beginning, by all threads. */
DEVICE void exchange_open(exchange *x)
{
    if (threadIdx.x == 0) {
        barrier_init(shared_address(&x->barrier), 1);
        barrier_init_done();
    }
    __syncthreads();
    cluster_arrive();
}
/* Once, by all threads, with a CTA's value; or exchange_skip. Each CTA waits for its own barrier, on which every CTA's
 * store arrives; nobody touches another's memory afterwards, so CTAs may end at different times. */
DEVICE float exchange_max(exchange *x, float a, uint32_t rank, uint32_t size)
{
    const uint32_t b = shared_address(&x->barrier), slot = shared_address(&x->all[rank]);
    cluster_wait(); /* the others' barriers are set up */
    if (threadIdx.x == 0) barrier_expect(b, 4 * size);
    if (threadIdx.x < size) store_remote(shared_of(slot, threadIdx.x), a, shared_of(b, threadIdx.x));
    barrier_wait_cluster(b, 0);
    for (uint32_t i = 0; i < size; i++) a = fmaxf(a, x->all[i]);
    return a;
}
DEVICE void exchange_skip() { cluster_wait(); }
#endif
