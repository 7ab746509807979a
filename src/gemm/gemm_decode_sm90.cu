/* gemm_decode_sm90.cu - y = x w^T for few rows of x: a stream of weights through the tensor cores.
 *
 * The operands are swapped: 64 rows of w are the wgmma's 64 rows, tokens its columns. A CTA has 64 rows of w and all, or a
 * slice, of k. One warp streams w, one x (only the latter waits for the previous kernel of a chain); two warpgroups
 * multiply, each every second 128-byte block of k. Sums leave the tensor core after each block (128 bytes of w's k) for
 * f32 registers, where block scales meet them. At the end the warpgroups' sums are added in a fixed order.
 * A cluster either cuts k (its CTAs send their sums to the CTA that owns the row) or shares x (each CTA fetches a part for
 * all). */
#include "gemm/gemm_decode_sm90.h"
#include "isa/sm90/copy.cuh"
#include "isa/sm90/wgmma.cuh"
#include "gemm/gemm_device_sm90.cuh"

enum { BLOCKS = DECODE_BLOCKS, GROUPS = DECODE_GROUPS, ROWS = DECODE_ROWS, MATH = 128 * GROUPS };

template <int tokens, int types, int scaled> struct ring {
    static constexpr int wide = types == BF16_F8 ? 2 : 1; /* blocks of x to a block of w */
    static constexpr int w_bytes = BLOCKS * ROWS * 128, x_block = tokens * 128, x_bytes = BLOCKS * wide * x_block;
    static constexpr int s_floats = tokens + 4, s_bytes = scaled ? BLOCKS * s_floats * 4 : 0; /* scales of x, scale of w */
    static constexpr int releases = GROUPS * (scaled || types == BF16_F8 ? 4 : 1); /* arrivals that free a slot */
    uint32_t w, x, s, sums, full, empty, done, row_scales;

    __device__ __forceinline__ ring(uint32_t base, int stages, int apart)
    {
        w = base;
        x = w + stages * w_bytes;
        s = x + stages * x_bytes;
        sums = apart ? s + stages * s_bytes : base;
        full = s + stages * s_bytes + (apart ? GROUPS * tokens * (ROWS + 32) * 4 : 0);
        empty = full + 8 * stages;
        done = empty + 8 * stages;
        row_scales = done + 16;
    }
};

/* Boxes of one stage, or block by block where k is no multiple of 128 bytes. */
template <int n, int block_bytes> DEVICE void load_blocks(uint32_t to, const void *map, uint32_t b, int step, int row, int batch, int flat, uint64_t keep)
{
    if (!flat) load_box4(to, map, b, 0, row, step * n, batch, keep);
    else
        for (int i = 0; i < n; i++) load_box4(to + i * block_bytes, map, b, (step * n + i) * flat, row, 0, batch, keep);
}

template <int tokens, int types, int scaled>
DEVICE void stream_w(const gemm_decode_params &p, const ring<tokens, types, scaled> &r, int first, int steps, int row0)
{
    typedef ring<tokens, types, scaled> R;
    const int batch = p.w_shared ? 0 : blockIdx.y;
    uint32_t parity = 1;
    for (int k = 0, s = 0; k < steps; k++) {
        if (k >= p.stages) barrier_wait(r.empty + 8 * s, parity);
        barrier_expect(r.full + 8 * s, R::w_bytes);
        load_blocks<BLOCKS, ROWS * 128>(r.w + s * R::w_bytes, &p.w, r.full + 8 * s, first + k, row0, batch, p.w_flat, KEEP_SHORT);
        if (++s == p.stages) { s = 0; parity ^= 1; }
    }
    if (p.chain) {
        chain_wait();
        chain_launch();
    }
}

/* Part of a stage of x that this CTA fetches for the cluster: whole blocks, and a range of tokens where CTAs are more. */
template <int tokens, int types, int scaled>
DEVICE void share_x(const gemm_decode_params &p, uint32_t to, uint32_t full, int step, int token0, int rank)
{
    typedef ring<tokens, types, scaled> R;
    constexpr int blocks = BLOCKS * R::wide;
    const int cut = max(0, p.log_share - (blocks == 4 ? 2 : 1)), per = tokens >> cut, mine = (rank / blocks) * per;
    for (int i = rank % blocks; i < blocks; i += 1 << p.log_share)
        load_box4_to((uint16_t)((1 << (1 << p.log_share)) - 1), to + i * R::x_block + mine * 128, &p.x, full,
                     p.x_flat ? (step * blocks + i) * p.x_flat : 0, token0 + mine, p.x_flat ? 0 : step * blocks + i, blockIdx.y, KEEP_LONG);
}

template <int tokens, int types, int scaled>
DEVICE void stream_x(const gemm_decode_params &p, const ring<tokens, types, scaled> &r, int first, int steps, int row0, int token0, int rank)
{
    typedef ring<tokens, types, scaled> R;
    const int lane = threadIdx.x & 31;
    uint32_t parity = 1;
    if (p.chain) chain_wait();
    for (int k = 0, s = 0; k < steps; k++) {
        const uint32_t full = r.full + 8 * s, to = r.x + s * R::x_bytes;
        if (k >= p.stages) barrier_wait(r.empty + 8 * s, parity);
        if (!lane) {
            barrier_expect(full, R::x_bytes);
            if (p.log_share) share_x<tokens, types, scaled>(p, to, full, first + k, token0, rank);
            else load_blocks<BLOCKS * R::wide, R::x_block>(to, &p.x, full, first + k, token0, blockIdx.y, p.x_flat, KEEP_LONG);
        }
        if (scaled) {
            const gemm_scale &sx = p.scales.x, &sw = p.scales.w;
            for (int j = 0; j < BLOCKS; j++) {
                const int kb = (first + k) * BLOCKS + j, inside = kb < p.k_blocks;
                const uint32_t at = r.s + s * R::s_bytes + j * R::s_floats * 4;
                if (types == F8_F8)
                    for (int t = lane; t < tokens; t += 32) {
                        const int i = token0 + t, real = inside && i < p.m;
                        copy_4(at + t * 4, real ? sx.p + blockIdx.y * sx.batch + (i >> sx.shift) * sx.row + kb * sx.block : sx.p, real);
                    }
                if (!lane) {
                    const int real = inside && row0 < p.n;
                    copy_4(at + tokens * 4, real ? sw.p + blockIdx.y * sw.batch + (row0 >> sw.shift) * sw.row + kb * sw.block : sw.p, real);
                }
            }
            barrier_arrive_copies(full);
        }
        if (++s == p.stages) { s = 0; parity ^= 1; }
    }
}

/* 64 rows x 16 k of f8e4m3fn in a swizzled block -> a wgmma's bf16 operand: k step `step` of 8. NaN stays NaN. */
DEVICE void widen(uint32_t block, int step, uint32_t *a)
{
    const int lane = threadIdx.x & 31, g = lane >> 2;
    const uint32_t at = block + ((threadIdx.x >> 5 & 3) * 16 + g) * 128 + ((step ^ g) << 4) + (lane & 3) * 2;
#pragma unroll
    for (int i = 0; i < 4; i++) a[i] = f8x2_to_bf16x2(load_shared_u16(at + (i & 1) * 1024 + (i >> 1) * 8));
}

/* d = 128 bytes of k. */
template <int tokens, int types> DEVICE void multiply(float *d, uint32_t w, uint32_t x)
{
    const uint64_t xo = operand(x);
    if (types == BF16_F8) {
        uint32_t a[32];
#pragma unroll
        for (int i = 0; i < 8; i++) widen(w, i, a + 4 * i);
        registers_fence<tokens / 2>(d);
        products_begin();
#pragma unroll
        for (int i = 0; i < 8; i++) wgmma_registers<BF16, tokens>(d, a + 4 * i, xo + (i >> 2) * (tokens * 8) + 2 * (i & 3), i > 0);
    } else {
        const uint64_t wo = operand(w);
        registers_fence<tokens / 2>(d);
        products_begin();
#pragma unroll
        for (int i = 0; i < 4; i++) wgmma<types == F8_F8 ? F8 : BF16, tokens>(d, wo + 2 * i, xo + 2 * i, i > 0);
    }
    products_commit();
    registers_fence<tokens / 2>(d);
    products_wait<0>();
    registers_fence<tokens / 2>(d);
}

/* sum += s d, or sum += d. s: the block's scales in shared memory. */
template <int tokens, int types, int scaled> DEVICE void add(float *sum, const float *d, uint32_t s)
{
    if (!scaled) {
#pragma unroll
        for (int i = 0; i < tokens / 2; i++) sum[i] += d[i];
        return;
    }
    const float sw = load_shared(s + tokens * 4);
#pragma unroll
    for (int j = 0; j < tokens / 8; j++) {
        float2 v = make_float2(sw, sw);
        if (types == F8_F8) {
            v = load_shared2(s + (j * 8 + (threadIdx.x & 3) * 2) * 4);
            v.x *= sw;
            v.y *= sw;
        }
        sum[4 * j] += v.x * d[4 * j];
        sum[4 * j + 1] += v.y * d[4 * j + 1];
        sum[4 * j + 2] += v.x * d[4 * j + 2];
        sum[4 * j + 3] += v.y * d[4 * j + 3];
    }
}

/* All blocks of this warpgroup. */
template <int tokens, int types, int scaled>
DEVICE void multiply_all(const gemm_decode_params &p, const ring<tokens, types, scaled> &r, int steps, float *sum)
{
    typedef ring<tokens, types, scaled> R;
    const int group = threadIdx.x >> 7, share = 1 << p.log_share;
    uint32_t parity = 0;
    float d[tokens / 2];
#pragma unroll
    for (int i = 0; i < tokens / 2; i++) sum[i] = 0;
    for (int k = 0, s = 0; k < steps; k++) {
        barrier_wait(r.full + 8 * s, parity);
#pragma unroll
        for (int j = 0; j < BLOCKS; j += GROUPS) {
            const uint32_t scales = r.s + s * R::s_bytes + (j + group) * R::s_floats * 4;
            multiply<tokens, types>(d, r.w + s * R::w_bytes + (j + group) * ROWS * 128, r.x + s * R::x_bytes + (j + group) * R::wide * R::x_block);
            if (scaled) add<tokens, types, scaled>(sum, d, scales);
            if (j + GROUPS >= BLOCKS) {
                /* One thread may speak for its warpgroup where only wgmmas read the slot, else one for its warp. */
                if (R::releases > GROUPS) __syncwarp();
                const int who = threadIdx.x & (R::releases > GROUPS ? 31 : 127);
                if (!p.log_share) { if (!who) barrier_arrive(r.empty + 8 * s); }
                else if (who < share) barrier_arrive_at(r.empty + 8 * s, who);
            }
            if (!scaled) add<tokens, types, scaled>(sum, d, scales);
        }
        if (++s == p.stages) { s = 0; parity ^= 1; }
    }
}

template <int tokens, int types, int scaled> DEVICE void decode(const gemm_decode_params &p)
{
    typedef ring<tokens, types, scaled> R;
    extern __shared__ __align__(1024) unsigned char memory[];
    const R r(shared_address(memory), p.stages, p.log_split > 0);
    const int tid = threadIdx.x, lane = tid & 31, warp = __shfl_sync(~0u, tid >> 5, 0), log_cluster = p.log_split + p.log_share;
    const int rank = log_cluster ? (int)cluster_rank() : 0;
    int tile = blockIdx.x >> log_cluster, token0 = 0;
    if (p.token_tiles > 1) {
        token0 = tile % p.token_tiles * tokens;
        tile /= p.token_tiles;
    }
    const int row0 = (p.log_share ? (tile << p.log_share) + rank : tile) * ROWS, part = p.log_split ? rank : 0;
    const int first = (int)((int64_t)p.steps * part >> p.log_split), steps = (int)((int64_t)p.steps * (part + 1) >> p.log_split) - first;

    if (warp == 4 * GROUPS) { /* w: the barriers first, and its loads without waiting for anybody */
        if (!lane) {
            for (int i = 0; i < p.stages; i++) {
                barrier_init(r.full + 8 * i, 2 + (scaled ? 32 : 0));
                barrier_init(r.empty + 8 * i, R::releases << p.log_share);
            }
            barrier_init(r.done, 1);
            barrier_init_done();
            if (p.log_split) barrier_expect(r.done, GROUPS * ROWS * tokens * 4);
        }
        __syncwarp();
        group_arrive(1, DECODE_THREADS);
        if (log_cluster) cluster_arrive();
        if (!lane) stream_w<tokens, types, scaled>(p, r, first, steps, row0);
        __syncwarp();
        if (log_cluster) cluster_wait();
    } else if (warp == 4 * GROUPS + 1) {
        group_sync(1, DECODE_THREADS);
        if (log_cluster) cluster_arrive();
        if (p.log_share) cluster_wait(); /* the peers have barriers */
        stream_x<tokens, types, scaled>(p, r, first, steps, row0, token0, rank);
        __syncwarp();
        if (p.log_split) cluster_wait();
    } else {
        const int group = tid >> 7;
        /* After the loop a thread finishes two neighbouring rows of w, of those that this CTA of a split owns. */
        const int log_rows = 6 - p.log_split, rows = 1 << log_rows, pair = tid & (rows / 2 - 1), j = row0 + (part << log_rows) + 2 * pair;
        gemm_column c[2];
        float sum[tokens / 2];
        group_sync(1, DECODE_THREADS);
        if (log_cluster) cluster_arrive();
        for (int i = 0; i < 2; i++) c[i] = column_of(p.out, p.scales.w, scaled, blockIdx.y, j + i, p.n);
        if (p.chain) chain_wait();
        if (tid < tokens) store_shared(r.row_scales + tid * 4, scaled ? 1.0f : scale_of(p.scales.x, blockIdx.y, token0 + tid, p.m));
        multiply_all(p, r, steps, sum);

        /* Sums lie as [source][token][row]; a stride of rows + 4 keeps the stores of a warp in different banks. */
        const int stride = rows + 4, row = (warp & 3) * 16 + (lane >> 2), column = (lane & 3) * 2, source = part * GROUPS + group;
        if (p.log_split) {
            cluster_wait();
            for (int h = 0; h < 2; h++) {
                const int at = row + 8 * h, owner = at >> log_rows;
                const uint32_t done = shared_of(r.done, owner), to = shared_of(r.sums + ((source * tokens + column) * stride + (at & (rows - 1))) * 4, owner);
#pragma unroll
                for (int i = 0; i < tokens / 4; i++) store_remote(to + ((i >> 1) * 8 + (i & 1)) * stride * 4, sum[(i >> 1) * 4 + h * 2 + (i & 1)], done);
            }
            barrier_wait_cluster(r.done, 0);
        } else {
            group_sync(2, MATH); /* the ring is drained */
#pragma unroll
            for (int i = 0; i < tokens / 2; i++)
                store_shared(r.sums + ((source * tokens + (i >> 2) * 8 + column + (i & 1)) * stride + row + (i >> 1 & 1) * 8) * 4, sum[i]);
        }
        group_sync(2, MATH);
        for (int t = tid >> (log_rows - 1); t < min(tokens, p.m - token0); t += MATH >> (log_rows - 1)) {
            float2 v = make_float2(0, 0);
#pragma unroll 4
            for (int i = 0; i < GROUPS << p.log_split; i++) {
                const float2 one = load_shared2(r.sums + ((i * tokens + t) * stride + 2 * pair) * 4);
                v.x += one.x;
                v.y += one.y;
            }
            const float sx = load_shared(r.row_scales + t * 4);
            store_pair(p.out, blockIdx.y, token0 + t, j, p.n, finish(v.x, sx, c[0]), finish(v.y, sx, c[1]));
        }
    }
    if (p.log_share) { /* nobody leaves while a peer may still reach its barriers */
        __syncwarp();
        if (warp < 4 * GROUPS) cluster_wait();
        cluster_arrive();
        cluster_wait();
    }
}

#define KERNEL(tokens, name, types, scaled)                                                          \
    extern "C" __global__ void __launch_bounds__(DECODE_THREADS)                                     \
    gemm_decode_##name##_##tokens(const __grid_constant__ gemm_decode_params p)                      \
    {                                                                                                \
        decode<tokens, types, scaled>(p);                                                            \
    }
#define KERNELS(name, types, scaled) \
    KERNEL(8, name, types, scaled)   \
    KERNEL(16, name, types, scaled)  \
    KERNEL(32, name, types, scaled)  \
    KERNEL(64, name, types, scaled)
KERNELS(f8, F8_F8, 0)
KERNELS(f8_scaled, F8_F8, 1)
KERNELS(bf16, BF16_BF16, 0)
KERNELS(w8, BF16_F8, 0)
KERNELS(w8_scaled, BF16_F8, 1)
