/* gemm_tile_sm90.cu - y = x w^T in tiles of 128 x `columns`, for many rows of x.
 *
 * CTAs are persistent. A thread fetches 128-byte blocks of k of x and w into a ring (and a warp gathers block scales); two warpgroups
 * of 64 rows multiply. Three modes:
 *   FAST      sums stay in the tensor core over all of k.
 *   ACCURATE  they leave it for f32 registers after every `flush` blocks.
 *   SCALED    after every block, where the block's scales meet them.
 * y leaves through shared memory and the copy engine while the ring fills for the next tile, or in a loop where its rows are not
 * aligned. `split` = 2: two CTAs halve k, and each finishes half of the columns. */
#include "gemm/gemm_tile_sm90.h"
#include "isa/sm90/copy.cuh"
#include "isa/sm90/wgmma.cuh"
#include "gemm/gemm_device_sm90.cuh"

enum { FAST = TILE_FAST, ACCURATE = TILE_ACCURATE, SCALED = TILE_SCALED };

template <int columns_, int types_, int mode_, int flush_, int split_> struct shape {
    static constexpr int columns = columns_, types = types_, mode = mode_, flush = flush_, split = split_;
    static constexpr int stages = TILE_STAGES(columns, mode);
    static constexpr int type = types == F8_F8 ? F8 : BF16, block_k = types == F8_F8 ? 128 : 64;
    static constexpr int x_bytes = TILE_ROWS * 128, w_bytes = columns * 128, s_floats = TILE_ROWS + 4, s_bytes = mode == SCALED ? s_floats * 4 : 0;
    static constexpr int sums = columns / 2;
    /* Two levels of 256 columns would need 256 registers: two halves, one after the other, share the lower level. */
    static constexpr int halves = mode != FAST && columns == 256 ? 2 : 1, part = columns / halves;
    static constexpr int box = TILE_BOX_COLUMNS(columns, mode), box_bytes = 64 * box * 2;
    static constexpr int releases = mode == SCALED ? 8 : 2;
    static constexpr int cut = (columns / 2 + box - 1) / box * box; /* columns that the first CTA of a split finishes */
};

struct layout { uint32_t x, w, s, boxes, tables, full, empty, done; };
template <class S> DEVICE layout layout_of(uint32_t base)
{
    constexpr int stages = S::stages;
    layout l;
    l.x = base;
    l.w = l.x + stages * S::x_bytes;
    l.boxes = l.w + stages * S::w_bytes;
    l.s = l.boxes + 4 * S::box_bytes;
    l.tables = l.s + stages * S::s_bytes;
    l.full = l.tables + 4 * S::box * 8;
    l.empty = l.full + 8 * stages;
    l.done = l.empty + 8 * stages;
    return l;
}

/* Tile number t: rasters of p.raster tiles along m, all n inside one, batch after batch. */
typedef struct tile { int batch, m0, n0; } tile;
template <class S> DEVICE tile tile_of(const gemm_tile_params &p, int t, int rank)
{
    const int per_batch = p.tiles_m * p.tiles_n, b = t / per_batch, u = t - b * per_batch;
    const int per = p.raster * p.tiles_n, first = u / per * p.raster, width = min(p.raster, p.tiles_m - first), r = u % per;
    const int m = first + r % width, along = r / width, n = u / per & 1 ? p.tiles_n - 1 - along : along; /* to and fro */
    tile at = { b, (p.log_share ? 2 * m + rank : m) * TILE_ROWS, n * S::columns };
    return at;
}

struct place { int slot; uint32_t parity; }; /* in the ring */
template <class S> DEVICE void advance(place &at)
{
    if (++at.slot == S::stages) {
        at.slot = 0;
        at.parity ^= 1;
    }
}

/* ---- Fetching ---- */

template <class S> DEVICE void fetch_w(const gemm_tile_params &p, const layout &l, int s, int k, const tile &at, int rank)
{
    const int batch = p.w_shared ? 0 : at.batch;
    if (!p.log_share) load_box3(l.w + s * S::w_bytes, &p.w, l.full + 8 * s, k * S::block_k, at.n0, batch, KEEP_NORMAL);
    else
        load_box3_to(3, l.w + s * S::w_bytes + rank * (S::w_bytes / 2), &p.w, l.full + 8 * s, k * S::block_k,
                     at.n0 + rank * (S::columns / 2), batch, KEEP_NORMAL);
}

/* The scales that a lane copies for every block of a tile: of 4 rows of x, of 128 columns of w. */
struct sources { const float *x[4], *w; };
DEVICE sources sources_of(const gemm_tile_params &p, const tile &at, int columns)
{
    const int lane = threadIdx.x & 31, j = (at.n0 / 128 + lane) * 128;
    const gemm_scale &sx = p.scales.x, &sw = p.scales.w;
    sources f;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = at.m0 + lane + 32 * i;
        f.x[i] = row < p.m ? sx.p + at.batch * sx.batch + (row >> sx.shift) * sx.row : 0;
    }
    f.w = lane < 2 && j < p.n && j < at.n0 + columns ? sw.p + at.batch * sw.batch + (j >> sw.shift) * sw.row : 0;
    return f;
}
/* One thread: x and w, and the scales of x where they are contiguous. */
template <class S> DEVICE void fetch(const gemm_tile_params &p, const layout &l, int worker, int workers, int tiles, int rank, int k0, int steps)
{
    place to = { 0, 1 };
    int early = p.chain ? min(S::stages, steps) : 0; /* blocks of w fetched before the previous kernel is done */
    for (int t = worker; t < tiles; t += workers) {
        const tile at = tile_of<S>(p, t, rank);
        const float *row_scales = p.scales.x.p + at.batch * p.scales.x.batch + k0 * p.scales.x.block + at.m0;
        const uint32_t scale_bytes = S::mode == SCALED && p.bulk_scales ? max(0, min(TILE_ROWS, p.m - at.m0)) * 4 : 0;
        const uint32_t bytes = S::x_bytes + S::w_bytes + scale_bytes;
        if (early) {
#pragma unroll 1
            for (int k = 0; k < early; k++) {
                barrier_expect(l.full + 8 * k, bytes);
                fetch_w<S>(p, l, k, k0 + k, at, rank);
            }
            chain_wait();
        }
#pragma unroll 1
        for (int k = 0; k < steps; k++) {
            const uint32_t full = l.full + 8 * to.slot;
            if (k >= early) {
                barrier_wait(l.empty + 8 * to.slot, to.parity);
                barrier_expect(full, bytes);
                fetch_w<S>(p, l, to.slot, k0 + k, at, rank);
            }
            load_box3(l.x + to.slot * S::x_bytes, &p.x, full, (k0 + k) * S::block_k, at.m0, at.batch, KEEP_NORMAL);
            if (scale_bytes) load_bulk(l.s + to.slot * S::s_bytes, row_scales + k * p.scales.x.block, scale_bytes, full);
            advance<S>(to);
        }
        early = 0;
    }
    if (p.chain) chain_launch();
}

/* A warp of its own: the scales that are gathered. */
template <class S> DEVICE void fetch_scales(const gemm_tile_params &p, const layout &l, int worker, int workers, int tiles, int rank, int k0, int steps)
{
    const int lane = threadIdx.x & 31;
    place to = { 0, 1 };
    if (p.chain) chain_wait();
    for (int t = worker; t < tiles; t += workers) {
        const sources from = sources_of(p, tile_of<S>(p, t, rank), S::columns);
#pragma unroll 1
        for (int k = k0; k < k0 + steps; k++) {
            const uint32_t at = l.s + to.slot * S::s_bytes + lane * 4;
            barrier_wait(l.empty + 8 * to.slot, to.parity);
            if (!p.bulk_scales) {
#pragma unroll
                for (int i = 0; i < 4; i++) copy_scale(at + i * 128, from.x[i], k * p.scales.x.block, p.scales.x.p, 1);
            }
            if (lane < 2) copy_scale(at + TILE_ROWS * 4, from.w, k * p.scales.w.block, p.scales.w.p, 1);
            barrier_arrive_copies(l.full + 8 * to.slot);
            advance<S>(to);
        }
    }
}

/* ---- Multiplying ---- */

/* Warpgroups issue their products in turns, so that one adds to its sums while the other's products run; left alone they fall
 * into step, and the tensor cores wait for both. The second gives the first its first turn. */
DEVICE void take_turn(int group) { group_sync(4 + group, 256); }
DEVICE void pass_turn(int group) { group_arrive(4 + (group ^ 1), 256); }

template <class S> DEVICE void release(const gemm_tile_params &p, const layout &l, int slot)
{
    if (S::mode == SCALED) __syncwarp();
    const int who = threadIdx.x & (S::mode == SCALED ? 31 : 127);
    if (!p.log_share) { if (!who) barrier_arrive(l.empty + 8 * slot); }
    else if (who < 2) barrier_arrive_at(l.empty + 8 * slot, who);
}

/* Where this warpgroup's operands begin: slots, and what lies in them, are reached by adding. */
struct operands { uint64_t x, w; int group; };

/* One block: d (+)= x w^T for this warpgroup's rows and `part` columns of half h. */
template <class S> DEVICE void multiply(float *d, const operands &o, int slot, int h, int keep)
{
    const uint64_t x = o.x + (uint64_t)(slot * (S::x_bytes / 16)), w = o.w + (uint64_t)(slot * (S::w_bytes / 16) + h * (S::part * 8));
    registers_fence<S::part / 2>(d);
    products_begin();
#pragma unroll
    for (int i = 0; i < 4; i++) wgmma<S::type, S::part>(d, x + 2 * i, w + 2 * i, i > 0 || keep);
    products_commit();
    registers_fence<S::part / 2>(d);
}

template <class S> DEVICE void sum_fast(const gemm_tile_params &p, const layout &l, const operands &o, int steps, place &at, float *sum)
{
    int before = 0;
#pragma unroll 1
    for (int k = 0; k < steps; k++) {
        barrier_wait(l.full + 8 * at.slot, at.parity);
        multiply<S>(sum, o, at.slot, 0, k > 0);
        products_wait<1>();
        if (k > 0) release<S>(p, l, before);
        before = at.slot;
        advance<S>(at);
    }
    products_wait<0>();
    registers_fence<S::sums>(sum);
    release<S>(p, l, before);
}

template <class S> DEVICE void sum_accurate(const gemm_tile_params &p, const layout &l, const operands &o, int steps, place &at, float *sum)
{
    float d[S::part / 2];
#pragma unroll
    for (int i = 0; i < S::sums; i++) sum[i] = 0;
#pragma unroll 1
    for (int k = 0; k < steps; k += S::flush) {
        const int blocks = S::flush == 1 ? 1 : min(S::flush, steps - k);
#pragma unroll
        for (int h = 0; h < S::halves; h++) {
            place b = at;
            take_turn(o.group);
#pragma unroll 1
            for (int i = 0; i < blocks; i++) {
                if (!h) barrier_wait(l.full + 8 * b.slot, b.parity);
                multiply<S>(d, o, b.slot, h, i > 0);
                advance<S>(b);
            }
            pass_turn(o.group);
            products_wait<0>();
            registers_fence<S::part / 2>(d);
            if (h + 1 == S::halves)
#pragma unroll 1
                for (int i = 0; i < blocks; i++) {
                    release<S>(p, l, at.slot);
                    advance<S>(at);
                }
#pragma unroll
            for (int i = 0; i < S::part / 2; i++) sum[h * (S::part / 2) + i] += d[i];
        }
    }
}

template <class S> DEVICE void sum_scaled(const gemm_tile_params &p, const layout &l, const operands &o, int row, int steps, place &at, float *sum)
{
    float d[S::part / 2];
#pragma unroll
    for (int i = 0; i < S::sums; i++) sum[i] = 0;
#pragma unroll 1
    for (int k = 0; k < steps; k++) {
        barrier_wait(l.full + 8 * at.slot, at.parity);
        const uint32_t s = l.s + at.slot * S::s_bytes;
        const float x0 = load_shared(s + row * 4), x1 = load_shared(s + (row + 8) * 4);
        const float2 w = load_shared2(s + TILE_ROWS * 4);
        float scale[S::columns / 128][2]; /* of 128 columns, which meet one scale of w */
#pragma unroll
        for (int c = 0; c < S::columns / 128; c++) {
            scale[c][0] = x0 * (c ? w.y : w.x);
            scale[c][1] = x1 * (c ? w.y : w.x);
        }
#pragma unroll
        for (int h = 0; h < S::halves; h++) {
            take_turn(o.group);
            multiply<S>(d, o, at.slot, h, 0);
            pass_turn(o.group);
            products_wait<0>();
            registers_fence<S::part / 2>(d);
            if (h + 1 == S::halves) release<S>(p, l, at.slot);
#pragma unroll
            for (int i = 0; i < S::part / 2; i++) sum[h * (S::part / 2) + i] += scale[(h * S::part + i * 2) / 128][i >> 1 & 1] * d[i];
        }
        advance<S>(at);
    }
}

/* ---- Finishing ---- */

DEVICE void store_matrices(uint32_t a, uint32_t x, uint32_t y, uint32_t z, uint32_t w)
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(a), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}

/* Where 8 bf16 of a row lie in a staged box, with the swizzle that the box's map has. */
template <class S> DEVICE uint32_t staged(int row, int chunk)
{
    return S::box == 64 ? row * 128 + ((chunk ^ (row & 7)) << 4) : row * 64 + ((chunk ^ (row >> 1 & 3)) << 4);
}

/* One box from shared memory to y, where the copy engine cannot do it. bf16 lies as store_matrices left it; f32 in rows of
 * `box` with chunks of 4 likewise exchanged. */
template <class S> DEVICE void copy_box(const gemm_tile_params &p, uint32_t from, const tile &at, int row0, int col0)
{
#pragma unroll 1
    for (int e = threadIdx.x & 127; e < 64 * S::box / 2; e += 128) {
        const int row = e / (S::box / 2), pair = e % (S::box / 2);
        float2 v;
        if (p.out.y_bf16) {
            const uint32_t w = __float_as_uint(load_shared(from + staged<S>(row, pair >> 2) + (pair & 3) * 4));
            v = make_float2(__uint_as_float(w << 16), __uint_as_float(w & 0xffff0000u));
        } else v = load_shared2(from + row * (S::box * 4) + (((pair >> 1) ^ (row & 7)) << 4) + (pair & 1) * 8);
        if (row0 + row < p.m) store_pair(p.out, at.batch, row0 + row, col0 + 2 * pair, p.n, v.x, v.y);
    }
}

/* Columns [from, to) of sum -> y. columns: this thread's columns thread % 128 and + 128 of the tile; rows: scales of its two rows. */
template <class S, int from, int to>
DEVICE void write_tile(const gemm_tile_params &p, const layout &l, int group, const tile &at, const float *sum, const gemm_column *columns,
                       const float *rows, int &box)
{
    const int thread = threadIdx.x & 127, lane = thread & 31, warp = thread >> 5, bar = group + 2;
#pragma unroll
    for (int c = from / S::box; c < to / S::box; c++) {
        const uint32_t table = l.tables + (group * 2 + box) * S::box * 8;
        const uint32_t staging = l.boxes + (group * 2 + (p.out.y_bf16 ? box : 0)) * S::box_bytes; /* f32 takes both */
        const int mine = thread - c * S::box % 128; /* this thread knows column `mine` of the box */
        if (mine >= 0 && mine < S::box) {
            const gemm_column v = columns[c * S::box / 128];
            store_shared(table + mine * 8, v.scale);
            store_shared(table + mine * 8 + 4, v.bias);
        }
        if (p.boxes && !thread) stores_read<1>();
        group_sync(bar, 128);
#pragma unroll
        for (int j = 0; j < S::box / 16; j++) {
            float v[8];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float4 t = load_shared4(table + (j * 16 + h * 8 + (lane & 3) * 2) * 8);
                const gemm_column c0 = { t.x, t.y }, c1 = { t.z, t.w };
                const float *f = sum + (c * S::box / 8 + j * 2 + h) * 4;
                v[4 * h] = finish(f[0], rows[0], c0);
                v[4 * h + 1] = finish(f[1], rows[0], c1);
                v[4 * h + 2] = finish(f[2], rows[1], c0);
                v[4 * h + 3] = finish(f[3], rows[1], c1);
            }
            if (p.out.y_bf16)
                store_matrices(staging + staged<S>(warp * 16 + (lane & 15), j * 2 + (lane >> 4)), f32x2_to_bf16x2(v[0], v[1]),
                               f32x2_to_bf16x2(v[2], v[3]), f32x2_to_bf16x2(v[4], v[5]), f32x2_to_bf16x2(v[6], v[7]));
            else {
                const int row = warp * 16 + (lane >> 2);
                const uint32_t to_row = staging + row * (S::box * 4) + (lane & 1) * 8, chunk = j * 4 + (lane >> 1 & 1);
#pragma unroll
                for (int h = 0; h < 4; h++) /* columns h / 2, rows h % 2; row + 8 exchanges alike */
                    store_shared2(to_row + (h & 1) * (S::box * 32) + (((chunk + (h >> 1) * 2) ^ (row & 7)) << 4), v[2 * h], v[2 * h + 1]);
            }
        }
        if (p.boxes) proxy_fence();
        group_sync(bar, 128);
        if (!p.boxes) copy_box<S>(p, staging, at, at.m0 + group * 64, at.n0 + c * S::box);
        else if (!thread) {
            store_box3(&p.y, staging, at.n0 + c * S::box, at.m0 + group * 64, at.batch, KEEP_NORMAL);
            stores_commit();
        }
        box ^= 1;
    }
}

/* split: each CTA of the pair finishes columns [from, to) of all rows; the sums of the others go to the peer, over its
 * drained ring. */
template <class S, int from, int to> DEVICE void exchange(const layout &l, int group, int rank, float *sum)
{
    constexpr int kept = (to - from) / 8, sent = S::columns / 8 - kept, first = from ? 0 : to / 2; /* in 4 registers; register */
    const uint32_t slot = (threadIdx.x & 127) * 16;
    const uint32_t there = shared_of(l.x + group * sent * 2048 + slot, rank ^ 1), done = shared_of(l.done, rank ^ 1);
    const uint32_t here = l.x + group * kept * 2048 + slot;
#pragma unroll
    for (int i = 0; i < sent; i++) store_remote4(there + i * 2048, sum + first + 4 * i, done);
    barrier_wait_cluster(l.done, 0);
#pragma unroll
    for (int i = 0; i < kept; i++) {
        const float4 v = load_shared4(here + i * 2048);
        float *f = sum + from / 2 + 4 * i;
        f[0] += v.x;
        f[1] += v.y;
        f[2] += v.z;
        f[3] += v.w;
    }
}

template <class S> DEVICE void scales_of(const gemm_tile_params &p, const tile &here, int thread, int row, gemm_column *columns, float *rows)
{
    for (int i = 0; i < 2; i++) {
        columns[i] = column_of(p.out, p.scales.w, S::mode == SCALED, here.batch, here.n0 + thread + 128 * i, p.n);
        rows[i] = S::mode == SCALED ? 1.0f : scale_of(p.scales.x, here.batch, here.m0 + row + 8 * i, p.m);
    }
}

template <class S> DEVICE void work(const gemm_tile_params &p)
{
    extern __shared__ __align__(1024) unsigned char memory[];
    const layout l = layout_of<S>(shared_address(memory));
    const int warp = __shfl_sync(~0u, (int)threadIdx.x >> 5, 0), group = warp >> 2, clustered = S::split > 1 || p.log_share;
    const int rank = clustered ? (int)cluster_rank() : 0, part = S::split > 1 ? rank : 0;
    const int worker = blockIdx.x >> clustered, workers = gridDim.x >> clustered, tiles = p.tiles_m * p.tiles_n * p.batch;
    const int k0 = p.k_steps * part / S::split, steps = p.k_steps * (part + 1) / S::split - k0;
    if (threadIdx.x == 256) {
        prefetch_map(&p.w);
        prefetch_map(&p.x);
        if (p.boxes) prefetch_map(&p.y);
#pragma unroll 1
        for (int i = 0; i < S::stages; i++) {
            barrier_init(l.full + 8 * i, 1 + (S::mode == SCALED ? 32 : 0));
            barrier_init(l.empty + 8 * i, S::releases << p.log_share);
        }
        barrier_init(l.done, 1);
        barrier_init_done();
        if (S::split > 1) barrier_expect(l.done, 256 * 4 * (rank ? S::columns - S::cut : S::cut) / 2);
    }
    if (clustered) { cluster_arrive(); cluster_wait(); }
    else __syncthreads();
    if (group == 2) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        if (threadIdx.x == 256) fetch<S>(p, l, worker, workers, tiles, rank, k0, steps);
        if (S::mode == SCALED && warp == 9) fetch_scales<S>(p, l, worker, workers, tiles, rank, k0, steps);
        __syncwarp();
        if (S::split > 1) { cluster_arrive(); cluster_wait(); }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        const int thread = threadIdx.x & 127, row = group * 64 + (warp & 3) * 16 + (thread >> 2 & 7);
        const operands o = { operand(l.x + group * 8192), operand(l.w), group };
        if (S::mode != FAST && group) pass_turn(group);
        place at = { 0, 0 };
        int box = 0;
        if (p.chain) chain_wait();
        for (int t = worker; t < tiles; t += workers) {
            const tile here = tile_of<S>(p, t, rank);
            float sum[S::sums], rows[2];
            gemm_column columns[2];
            scales_of<S>(p, here, thread, row, columns, rows);
            if (S::mode == FAST) sum_fast<S>(p, l, o, steps, at, sum);
            else if (S::mode == ACCURATE) sum_accurate<S>(p, l, o, steps, at, sum);
            else sum_scaled<S>(p, l, o, row, steps, at, sum);
            if (S::split == 1) write_tile<S, 0, S::columns>(p, l, group, here, sum, columns, rows, box);
            else {
                cluster_arrive(); /* both rings are drained */
                cluster_wait();
                if (!rank) {
                    exchange<S, 0, S::cut>(l, group, rank, sum);
                    write_tile<S, 0, S::cut>(p, l, group, here, sum, columns, rows, box);
                } else {
                    exchange<S, S::cut, S::columns>(l, group, rank, sum);
                    write_tile<S, S::cut, S::columns>(p, l, group, here, sum, columns, rows, box);
                }
            }
        }
        if (!thread) stores_done();
    }
    if (clustered) { /* nobody leaves while a peer may still reach its barriers */
        __syncwarp();
        cluster_arrive();
        cluster_wait();
    }
}

#define KERNEL(name, columns, types, mode, flush, split)                                             \
    extern "C" __global__ void __launch_bounds__(TILE_THREADS, 1)                                    \
    gemm_tile_##name##_##columns(const __grid_constant__ gemm_tile_params p)                         \
    {                                                                                                \
        work<shape<columns, types, mode, flush, split> >(p);                                         \
    }
KERNEL(f8, 256, F8_F8, FAST, 1, 1)
KERNEL(f8, 224, F8_F8, FAST, 1, 1)
KERNEL(f8, 128, F8_F8, FAST, 1, 1)
KERNEL(f8_split, 160, F8_F8, FAST, 1, 2)
KERNEL(f8_exact, 256, F8_F8, ACCURATE, 2, 1)
KERNEL(f8_exact, 192, F8_F8, ACCURATE, 2, 1)
KERNEL(f8_exact, 128, F8_F8, ACCURATE, 2, 1)
KERNEL(f8_exact_split, 160, F8_F8, ACCURATE, 2, 2)
KERNEL(f8_scaled, 256, F8_F8, SCALED, 1, 1)
KERNEL(f8_scaled, 128, F8_F8, SCALED, 1, 1)
KERNEL(bf16, 256, BF16_BF16, FAST, 1, 1)
KERNEL(bf16, 128, BF16_BF16, FAST, 1, 1)
