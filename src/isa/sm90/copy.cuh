/* copy.cuh - asynchronous copies of sm_90a: the TMA engine and cp.async. */
#ifndef OCTAVO_ISA_SM90_COPY_CUH
#define OCTAVO_ISA_SM90_COPY_CUH
#include "isa/sm90/sync.cuh"

/* L2 policies, as createpolicy would make them. */
#define KEEP_NORMAL 0x1000000000000000ull
#define KEEP_SHORT  0x12F0000000000000ull /* evict first: data that is read once */
#define KEEP_LONG   0x14F0000000000000ull /* evict last: data that every CTA reads */

/* A box of a tensor map to shared memory. Coordinates count elements. A box always brings all of its bytes: what lies
 * outside the tensor comes as zeros. Where shared memory is written, 128-byte swizzle needs an address of 1024 n. */
DEVICE void load_box3(uint32_t to, const void *map, uint32_t b, int x, int y, int z, uint64_t keep)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to), "l"(map), "r"(b), "r"(x), "r"(y), "r"(z), "l"(keep) : "memory");
}
DEVICE void load_box4(uint32_t to, const void *map, uint32_t b, int x, int y, int z, int w, uint64_t keep)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to), "l"(map), "r"(b), "r"(x), "r"(y), "r"(z), "r"(w), "l"(keep)
                 : "memory");
}
/* The same into the CTAs of the mask, at the same place in each, counted on the barrier at the same place in each. */
DEVICE void load_box3_to(uint16_t mask, uint32_t to, const void *map, uint32_t b, int x, int y, int z, uint64_t keep)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
                 "[%0], [%1, {%3, %4, %5}], [%2], %6, %7;" ::"r"(to), "l"(map), "r"(b), "r"(x), "r"(y), "r"(z), "h"(mask), "l"(keep)
                 : "memory");
}
DEVICE void load_box4_to(uint16_t mask, uint32_t to, const void *map, uint32_t b, int x, int y, int z, int w, uint64_t keep)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2], %7, %8;" ::"r"(to), "l"(map), "r"(b), "r"(x), "r"(y), "r"(z), "r"(w),
                 "h"(mask), "l"(keep) : "memory");
}
/* bytes: a multiple of 16; both addresses too. */
DEVICE void load_bulk(uint32_t to, const void *from, uint32_t bytes, uint32_t b)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from),
                 "r"(bytes), "r"(b) : "memory");
}
/* 4 bytes to shared memory; zero unless `real`. See barrier_arrive_copies. */
DEVICE void copy_4(uint32_t to, const void *from, int real)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(real ? 4 : 0) : "memory");
}

/* Shared memory to a tensor: what lies outside is not written. Stores are awaited by the thread that issued them. */
DEVICE void store_box3(const void *map, uint32_t from, int x, int y, int z, uint64_t keep)
{
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group.L2::cache_hint [%0, {%2, %3, %4}], [%1], %5;" ::"l"(map),
                 "r"(from), "r"(x), "r"(y), "r"(z), "l"(keep) : "memory");
}
DEVICE void stores_commit(void) { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/* Shared memory of all stores but the last n groups may be written again. */
template <int n> DEVICE void stores_read(void) { asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(n) : "memory"); }
DEVICE void stores_done(void) { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
/* By every thread that wrote shared memory, before the barrier after which the copy engine or a wgmma reads it. */
DEVICE void proxy_fence(void) { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
DEVICE void prefetch_map(const void *map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }
#endif
