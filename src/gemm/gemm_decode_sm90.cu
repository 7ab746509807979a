/* gemm_decode_sm90.cu - y = x w^T for few rows of x: a stream of weights through the tensor cores.
 *
 * The operands are swapped: 64 rows of w are the wgmma's 64 rows, tokens its columns. A CTA has 64 rows of w and all, or a
 * slice, of k. One warp streams w, one x (only the latter waits for the previous kernel of a chain); two warpgroups
 * multiply, each every second 128-byte block of k. Sums leave the tensor core after each block for f32 registers, where
 * block scales meet them. At the end the warpgroups' sums are added in a fixed order.
 * A cluster either cuts k (its CTAs send their sums to the CTA that owns the row) or shares x (each CTA fetches a part for
 * all). */
#include "gemm/gemm_decode_sm90.h"
#include "isa/sm90/copy.cuh"
#include "isa/sm90/wgmma.cuh"
#include "gemm/gemm_device_sm90.cuh"

enum { BLOCKS = DECODE_BLOCKS, GROUPS = DECODE_GROUPS, ROWS = DECODE_ROWS, MATH = 128 * GROUPS, PITCH = DECODE_SUM_PITCH };
enum { MATH_ONLY = 1 }; /* a named barrier */

template <int tokens, int types, int scaled> struct ring {
    static constexpr int wide = types == BF16_F8 ? 2 : 1; /* blocks of x to a block of w */
    static constexpr int w_bytes = BLOCKS * ROWS * 128, x_block = tokens * 128, x_bytes = BLOCKS * wide * x_block;
    static constexpr int s_floats = tokens + 4, s_bytes = scaled ? BLOCKS * s_floats * 4 : 0; /* scales of x, scale of w */
    static constexpr int by_warp = scaled || types == BF16_F8;      /* warps read the slot by themselves */
    static constexpr int releases = GROUPS * (by_warp ? 4 : 1);     /* arrivals that free a slot */
    uint32_t w, x, s, sums, full, empty, done, columns, rows;

    __device__ __forceinline__ ring(const gemm_decode_params &p)
    {
        extern __shared__ __align__(1024) unsigned char memory[];
        w = shared_address(memory);
        x = w + p.stages * w_bytes;
        s = x + p.stages * x_bytes;
        const uint32_t end = s + p.stages * s_bytes;
        sums = p.log_split ? end : w;
        full = p.log_split ? end + tokens * ROWS * 4 : max(end, w + GROUPS * tokens * PITCH * 4);
        empty = full + 8 * p.stages;
        done = empty + 8 * p.stages;
        columns = done + 16;         /* scales, then biases, of the CTA's rows of w */
        rows = columns + 2 * ROWS * 4; /* scales of x */
    }
};

/* What a CTA works on: rows of w and of x, and stages [first, first + count) of k. Where m is no multiple,
 * the last tokens lie within x, since copies of rows beyond its end are slow; the neighbour stores the first `skip` of them. */
struct slice { int row0, token0, skip, rank, part, first, count; };
template <int tokens> DEVICE slice slice_of(const gemm_decode_params &p)
{
    const int log_cluster = p.log_split + p.log_share;
    slice a;
    int tile = blockIdx.x >> log_cluster;
    a.rank = log_cluster ? (int)cluster_rank() : 0;
    a.part = p.log_split ? a.rank : 0;
    a.token0 = a.skip = 0;
    if (__builtin_expect(p.token_tiles > 1, 0)) {
        const int from = tile % p.token_tiles * tokens;
        a.token0 = min(from, p.m - tokens);
        a.skip = from - a.token0;
        tile /= p.token_tiles;
    }
    a.row0 = ((tile << p.log_share) + a.rank - a.part) * ROWS;
    a.first = p.steps * a.part >> p.log_split;
    a.count = (p.steps * (a.part + 1) >> p.log_split) - a.first;
    return a;
}

/* ---- Fetching ---- */

/* Boxes of one stage, or block by block where k is no multiple of 128 bytes. */
template <int n, int block_bytes>
DEVICE void load_blocks(uint32_t to, const void *map, uint32_t b, int step, int row, int batch, int flat, uint64_t keep)
{
    if (!flat) load_box4(to, map, b, 0, row, step * n, batch, keep);
    else
#pragma unroll 1
        for (int i = 0; i < n; i++) load_box4(to + i * block_bytes, map, b, (step * n + i) * flat, row, 0, batch, keep);
}

template <int tokens, int types, int scaled>
DEVICE void stream_w(const gemm_decode_params &p, const ring<tokens, types, scaled> &r, const slice &a)
{
    typedef ring<tokens, types, scaled> R;
    const int batch = p.w_shared ? 0 : blockIdx.y;
    const uint64_t keep = p.token_tiles > 1 ? KEEP_NORMAL : KEEP_SHORT;
    uint32_t parity = 1;
#pragma unroll 1
    for (int k = 0, s = 0; k < a.count; k++) {
        if (k >= p.stages) {
            if (k == p.stages && p.chain > 1) {
                chain_wait();
                chain_launch();
            }
            barrier_wait(r.empty + 8 * s, parity);
        }
        barrier_expect(r.full + 8 * s, R::w_bytes);
        load_blocks<BLOCKS, ROWS * 128>(r.w + s * R::w_bytes, &p.w, r.full + 8 * s, a.first + k, a.row0, batch, p.w_flat, keep);
        if (++s == p.stages) { s = 0; parity ^= 1; }
    }
    if (p.chain) {
        chain_wait();
        chain_launch();
    }
}

/* Part of a stage of x that this CTA fetches for the cluster: whole blocks, and a range of tokens where CTAs are more. */
template <int tokens, int types, int scaled>
DEVICE void share_x(const gemm_decode_params &p, uint32_t to, uint32_t full, int step, const slice &a)
{
    typedef ring<tokens, types, scaled> R;
    constexpr int blocks = BLOCKS * R::wide;
    const int cut = max(0, p.log_share - (blocks == 4 ? 2 : 1)), per = tokens >> cut, mine = a.rank / blocks * per;
    const uint16_t all = (uint16_t)((1 << (1 << p.log_share)) - 1);
#pragma unroll 1
    for (int i = a.rank % blocks; i < blocks; i += 1 << p.log_share)
        load_box4_to(all, to + i * R::x_block + mine * 128, &p.x, full, (step * blocks + i) * p.x_flat, a.token0 + mine,
                     p.x_flat ? 0 : step * blocks + i, blockIdx.y, KEEP_LONG);
}

/* The scales that a lane copies: of tokens lane and lane + 32, and lane 0 that of the rows of w. */
struct sources { const float *x[2], *w; };
template <int tokens> DEVICE sources sources_of(const gemm_decode_params &p, const slice &a)
{
    const gemm_scale &sx = p.scales.x, &sw = p.scales.w;
    const int lane = threadIdx.x & 31;
    sources f;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int t = lane + 32 * i, row = a.token0 + t;
        f.x[i] = t < tokens && row < p.m ? sx.p + blockIdx.y * sx.batch + (row >> sx.shift) * sx.row : 0;
    }
    f.w = a.row0 < p.n ? sw.p + blockIdx.y * sw.batch + (a.row0 >> sw.shift) * sw.row : 0;
    return f;
}
template <int tokens, int types, int scaled>
DEVICE void load_scales(const gemm_decode_params &p, uint32_t to, int step, const sources &f)
{
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int j = 0; j < BLOCKS; j++) {
        const int kb = step * BLOCKS + j, inside = kb < p.k_blocks;
        const uint32_t at = to + j * ring<tokens, types, scaled>::s_floats * 4;
        if (types == F8_F8) {
            if (lane < tokens) copy_scale(at + lane * 4, f.x[0], kb * p.scales.x.block, p.scales.x.p, inside);
            if (tokens > 32) copy_scale(at + (lane + 32) * 4, f.x[1], kb * p.scales.x.block, p.scales.x.p, inside);
        }
        if (!lane) copy_scale(at + tokens * 4, f.w, kb * p.scales.w.block, p.scales.w.p, inside);
    }
}

template <int tokens, int types, int scaled>
DEVICE void stream_x(const gemm_decode_params &p, const ring<tokens, types, scaled> &r, const slice &a)
{
    typedef ring<tokens, types, scaled> R;
    const int lane = threadIdx.x & 31;
    uint32_t parity = 1;
    sources from;
    if (scaled) from = sources_of<tokens>(p, a);
    if (p.chain) chain_wait();
#pragma unroll 1
    for (int k = 0, s = 0; k < a.count; k++) {
        const uint32_t full = r.full + 8 * s, to = r.x + s * R::x_bytes;
        if (k >= p.stages) barrier_wait(r.empty + 8 * s, parity);
        if (!scaled || !lane) {
            barrier_expect(full, R::x_bytes);
            if (p.log_share) share_x<tokens, types, scaled>(p, to, full, a.first + k, a);
            else load_blocks<BLOCKS * R::wide, R::x_block>(to, &p.x, full, a.first + k, a.token0, blockIdx.y, p.x_flat, KEEP_LONG);
        }
        if (scaled) {
            load_scales<tokens, types, scaled>(p, r.s + s * R::s_bytes, a.first + k, from);
            barrier_arrive_copies(full);
        }
        if (++s == p.stages) { s = 0; parity ^= 1; }
    }
}

/* ---- Multiplying ---- */

/* 64 rows x 16 k of f8e4m3fn in a swizzled block -> a wgmma's bf16 operand: k step `step` of 8. NaN stays NaN. */
DEVICE void widen(uint32_t block, int step, uint32_t *a)
{
    const int lane = threadIdx.x & 31, g = lane >> 2;
    const uint32_t at = block + ((threadIdx.x >> 5 & 3) * 16 + g) * 128 + ((step ^ g) << 4) + (lane & 3) * 2;
#pragma unroll
    for (int i = 0; i < 4; i++) a[i] = f8x2_to_bf16x2(load_shared_u16(at + (i & 1) * 1024 + (i >> 1) * 8));
}

/* d = 128 bytes of w's k. wo, xo: the operands; w: where that of w lies. */
template <int tokens, int types> DEVICE void multiply(float *d, uint64_t wo, uint64_t xo, uint32_t w)
{
    if (types == BF16_F8) {
        uint32_t a[32];
#pragma unroll
        for (int i = 0; i < 8; i++) widen(w, i, a + 4 * i);
        registers_fence<tokens / 2>(d);
        products_begin();
#pragma unroll
        for (int i = 0; i < 8; i++) wgmma_registers<tokens>(d, a + 4 * i, xo + (i >> 2) * (tokens * 8) + 2 * (i & 3), i > 0);
    } else {
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
    const float sw = scaled ? load_shared(s + tokens * 4) : 1.0f;
#pragma unroll
    for (int j = 0; j < tokens / 8; j++) {
        float2 v = make_float2(sw, sw);
        if (scaled && types == F8_F8) {
            v = load_shared2(s + (j * 8 + (threadIdx.x & 3) * 2) * 4);
            v.x *= sw;
            v.y *= sw;
        }
#pragma unroll
        for (int i = 4 * j; i < 4 * j + 4; i++) sum[i] = scaled ? fmaf(i & 1 ? v.y : v.x, d[i], sum[i]) : sum[i] + d[i];
    }
}

/* One thread may speak for its warpgroup where only wgmmas read the slot, else one for its warp. */
template <int tokens, int types, int scaled>
DEVICE void release(const gemm_decode_params &p, const ring<tokens, types, scaled> &r, int s)
{
    constexpr int by_warp = ring<tokens, types, scaled>::by_warp;
    if (by_warp) __syncwarp();
    const int who = threadIdx.x & (by_warp ? 31 : 127);
    if (!p.log_share) { if (!who) barrier_arrive(r.empty + 8 * s); }
    else if (who < 1 << p.log_share) barrier_arrive_at(r.empty + 8 * s, who);
}

/* All blocks of this warpgroup. */
template <int tokens, int types, int scaled>
DEVICE void multiply_all(const gemm_decode_params &p, const ring<tokens, types, scaled> &r, int count, float *sum)
{
    typedef ring<tokens, types, scaled> R;
    const int group = threadIdx.x >> 7;
    uint32_t parity = 0;
    const uint32_t w = r.w + group * (ROWS * 128);
    const uint64_t wo = operand(w), xo = operand(r.x + group * (R::wide * R::x_block));
    float d[tokens / 2];
#pragma unroll
    for (int i = 0; i < tokens / 2; i++) sum[i] = 0;
#pragma unroll 1
    for (int k = 0, s = 0; k < count; k++) {
        barrier_wait(r.full + 8 * s, parity);
#pragma unroll
        for (int j = 0; j < BLOCKS; j += GROUPS) {
            const uint32_t scales = r.s + s * R::s_bytes + (j + group) * R::s_floats * 4;
            const int w_offset = s * R::w_bytes + j * (ROWS * 128), x_offset = s * R::x_bytes + j * (R::wide * R::x_block);
            multiply<tokens, types>(d, wo + (uint64_t)(w_offset / 16), xo + (uint64_t)(x_offset / 16), w + w_offset);
            if (scaled) add<tokens, types, scaled>(sum, d, scales);
            if (j + GROUPS >= BLOCKS) release(p, r, s);
            if (!scaled) add<tokens, types, scaled>(sum, d, scales);
        }
        if (++s == p.stages) { s = 0; parity ^= 1; }
    }
}

/* ---- Finishing ---- */

/* Sums go through shared memory as [warpgroup][token][row]; then a thread has 4 rows of w of every 16th token. */
template <int tokens, int types, int scaled>
DEVICE void finish_alone(const gemm_decode_params &p, const ring<tokens, types, scaled> &r, const slice &a, const float *sum)
{
    const int tid = threadIdx.x, lane = tid & 31, row = (tid >> 5 & 3) * 16 + (lane >> 2), token = (lane & 3) * 2;
    const uint32_t to = r.sums + (((tid >> 7) * tokens + token) * PITCH + row) * 4;
    group_sync(MATH_ONLY, MATH); /* the ring is drained */
#pragma unroll
    for (int i = 0; i < tokens / 2; i++) store_shared(to + (((i >> 2) * 8 + (i & 1)) * PITCH + (i >> 1 & 1) * 8) * 4, sum[i]);
    group_sync(MATH_ONLY, MATH);
    const int j = (tid & 15) * 4, limit = min(tokens, p.m - a.token0);
    const float4 s = load_shared4(r.columns + j * 4), b = load_shared4(r.columns + (ROWS + j) * 4);
#pragma unroll
    for (int i = 0; i < (tokens + 15) / 16; i++) {
        const int t = i * 16 + (tid >> 4);
        if (t >= limit) break;
        if (t < a.skip) continue;
        const float sx = load_shared(r.rows + t * 4);
        const float4 f = load_shared4(r.sums + (t * PITCH + j) * 4), g = load_shared4(r.sums + ((tokens + t) * PITCH + j) * 4);
        const float v[4] = { fmaf(f.x + g.x, sx * s.x, b.x), fmaf(f.y + g.y, sx * s.y, b.y), fmaf(f.z + g.z, sx * s.z, b.z),
                             fmaf(f.w + g.w, sx * s.w, b.w) };
        store_4(p.out, blockIdx.y, a.token0 + t, a.row0 + j, p.n, v);
    }
}

/* split: the warpgroups add their sums, each for every second 8 tokens, over the drained ring. What a warp has of 16 rows
 * then goes to the CTA that owns them, in the order of the registers: [part][warp][8 tokens][lane]. There the parts are added in
 * order, and leave one by one: they are few. */
template <int tokens, int types, int scaled>
DEVICE void finish_split(const gemm_decode_params &p, const ring<tokens, types, scaled> &r, const slice &a, float *sum)
{
    constexpr int octets = tokens / 8;
    const int tid = threadIdx.x, group = tid >> 7, warp = tid >> 5 & 3, log_warps = 2 - p.log_split, per = (octets * 32) << log_warps;
    const int owner = warp >> log_warps, first = (a.part << log_warps) + (warp & ((1 << log_warps) - 1));
    const uint32_t to = shared_of(r.sums + (first * octets * 32 + (tid & 31)) * 16, owner), done = shared_of(r.done, owner);
    const uint32_t between = r.w + (tid & 127) * 16;
    group_sync(MATH_ONLY, MATH); /* the ring is drained */
#pragma unroll
    for (int j = 0; j < octets; j++)
        if ((j & 1) != group) store_shared4(between + j * 2048, sum + 4 * j);
    group_sync(MATH_ONLY, MATH);
    cluster_wait(); /* the owners' barriers are set up */
#pragma unroll
    for (int j = 0; j < octets; j++)
        if ((j & 1) == group) {
            const float4 v = load_shared4(between + j * 2048);
            sum[4 * j] += v.x;
            sum[4 * j + 1] += v.y;
            sum[4 * j + 2] += v.z;
            sum[4 * j + 3] += v.w;
            store_remote4(to + j * 512, sum + 4 * j, done);
        }
    barrier_wait_cluster(r.done, 0);
#pragma unroll 1
    for (int i = tid; i < per * 4; i += MATH) {
        float f = 0;
#pragma unroll
        for (int q = 0; q < 4; q++)
            if (q < 1 << p.log_split) f += load_shared(r.sums + (q * per * 4 + i) * 4);
        const int lane = i >> 2 & 31, octet = i >> 7;
        const int j = ((a.part << log_warps) + octet / octets) * 16 + (i >> 1 & 1) * 8 + (lane >> 2), t = octet % octets * 8 + (lane & 3) * 2 + (i & 1);
        if (a.row0 + j < p.n && t >= a.skip && a.token0 + t < p.m)
            store_one(p.out, blockIdx.y * p.out.stride_y + (a.token0 + t) * p.out.ldy + a.row0 + j,
                      fmaf(f, load_shared(r.rows + t * 4) * load_shared(r.columns + j * 4), load_shared(r.columns + (ROWS + j) * 4)));
    }
}

template <int tokens, int types, int scaled> DEVICE void decode(const gemm_decode_params &p)
{
    typedef ring<tokens, types, scaled> R;
    const int tid = threadIdx.x, warp = __shfl_sync(~0u, tid >> 5, 0), clustered = p.log_split + p.log_share;
    if (tid == 128 * GROUPS) {
        const R r(p);
        prefetch_map(&p.w);
        prefetch_map(&p.x);
#pragma unroll 1
        for (int i = 0; i < p.stages; i++) {
            barrier_init(r.full + 8 * i, 2 + (scaled ? 32 : 0));
            barrier_init(r.empty + 8 * i, R::releases << p.log_share);
        }
        if (p.log_split) barrier_init(r.done, 1);
        barrier_init_done();
        if (p.log_split) barrier_expect(r.done, ROWS * tokens * 4);
    }
    __syncthreads();
    if (clustered) cluster_arrive();
    if (__builtin_expect(warp == 4 * GROUPS, 1)) { /* w: its first loads wait for nobody */
        const R r(p);
        if (!(tid & 31)) stream_w(p, r, slice_of<tokens>(p));
        __syncwarp();
        if (clustered) cluster_wait();
    } else if (warp == 4 * GROUPS + 1) {
        const R r(p);
        if (p.log_share) cluster_wait(); /* the peers have barriers */
        if (scaled || !(tid & 31)) stream_x(p, r, slice_of<tokens>(p)); /* all lanes where scales are gathered */
        __syncwarp();
        if (p.log_split) cluster_wait();
    } else {
        const R r(p);
        const slice a = slice_of<tokens>(p);
        float sum[tokens / 2];
        if (tid < ROWS) {
            const gemm_column c = column_of(p.out, p.scales.w, scaled, blockIdx.y, a.row0 + tid, p.n);
            store_shared(r.columns + tid * 4, c.scale);
            store_shared(r.columns + (ROWS + tid) * 4, c.bias);
        }
        if (p.chain) chain_wait();
        if (tid < tokens) store_shared(r.rows + tid * 4, scaled ? 1.0f : scale_of(p.scales.x, blockIdx.y, a.token0 + tid, p.m));
        multiply_all(p, r, a.count, sum);
        if (p.log_split) finish_split(p, r, a, sum);
        else finish_alone(p, r, a, sum);
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
