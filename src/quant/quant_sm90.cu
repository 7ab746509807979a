// quant_sm90.cu - FP8 quantization on Hopper, in four shapes of work:
//   scope  a scope held in the registers of a CTA, or of a cluster: read once, written once
//   small  scopes of one row and at most 512 columns: 1 to 32 neighbouring threads each (tile: in a layout that suits wide rows)
//   large  one scope over many CTAs: maxima, then codes, whose reads find the end of the matrix in L2
//   loop   whatever the others leave: a CTA a scope, two passes over it
#include "isa/sm90/cluster.cuh"
#include "isa/sm90/ring.cuh"
#include "quant/quant_sm90.h"

DEVICE float bound_of(const quant_params &p) { return p.ub ? *p.ub : __int_as_float(0x7f800000); }

/* How the codes of a scope are made; its scale, given or computed, by the way. */
DEVICE float coder_for(const quant_params &p, float amax, float ub, float given, coder *c, int *how)
{
    if (!p.given) return coder_of(p.eps, amax, ub, c, how);
    *c = divide_by(given);
    *how = BY_ANY_DIVISOR;
    return given;
}

// ---- scope ----

template <int T, int TH, int U, bool CLUSTER> DEVICE void scope(const quant_params &p)
{
    __shared__ exchange shared;
    const uint32_t rank = CLUSTER ? cluster_rank() : 0, size = CLUSTER ? cluster_size() : 1;
    if (CLUSTER) exchange_open(&shared, size);
    if (!CLUSTER) chain_launch();
    chain_wait();
    if (CLUSTER) chain_launch();
    const uint32_t s = blockIdx.x / size, row = p.cols == 1 ? s : s / (uint32_t)p.cols, col = s - row * (uint32_t)p.cols;
    const int64_t i0 = row * p.bm, j0 = col * p.bk;
    const int rows = (int)min(p.bm, p.m - i0), columns = (int)min(p.bk, p.k - j0);
    const char *x = p.x + (i0 * p.ldx + j0) * type<T>::BYTES;
    uint8_t *y = p.y + i0 * p.ldy + j0;
    float *scale = p.scale + row * p.scale_row + col * p.scale_col;
    unit<T> u[U];
    int at_row[U], at_col[U];
    uint32_t m = amax_start();
#pragma unroll
    for (int i = 0; i < U; i++) {
        const uint32_t t = (rank * U + i) * TH + threadIdx.x;
        at_row[i] = (int)(t * p.magic >> 32);
        at_col[i] = (int)(t - at_row[i] * p.units) * UNIT;
        u[i] = load_unit<T>(x + (at_row[i] * p.ldx + at_col[i]) * type<T>::BYTES, at_row[i] < rows ? columns - at_col[i] : 0, p.wide);
    }
    float amax = 0;
    if (!p.given) {
#pragma unroll
        for (int i = 0; i < U; i++) m = amax_of(u[i], m);
        amax = cta_max<TH>(amax_end<T>(m));
        if (CLUSTER) amax = exchange_max(&shared, amax, rank, size);
    } else if (CLUSTER)
        exchange_skip();
    coder c;
    int how;
    const float s_ = coder_for(p, amax, p.given ? 0 : bound_of(p), p.given ? *scale : 0, &c, &how);
    if (!p.given && threadIdx.x == 0 && rank == 0) *scale = s_;
#pragma unroll
    for (int i = 0; i < U; i++) {
        uint32_t codes[4];
        encode(u[i], c, how, codes);
        store_codes(y + at_row[i] * p.ldy + at_col[i], codes, at_row[i] < rows ? columns - at_col[i] : 0, p.wide);
    }
}
#define X(TH, U, OCC_F32, OCC_BF16)                                                                                        \
    extern "C" __global__ void __launch_bounds__(TH, OCC_F32) quant_scope_f32_##TH##x##U(const __grid_constant__ quant_params p)   \
    { scope<F32, TH, U, false>(p); }                                                                                       \
    extern "C" __global__ void __launch_bounds__(TH, OCC_BF16) quant_scope_bf16_##TH##x##U(const __grid_constant__ quant_params p) \
    { scope<BF16, TH, U, false>(p); }
QUANT_SCOPE_KERNELS(X)
#undef X
extern "C" __global__ void __launch_bounds__(512, 1) quant_cluster_f32(const __grid_constant__ quant_params p) { scope<F32, 512, 4, true>(p); }
extern "C" __global__ void __launch_bounds__(512, 2) quant_cluster_bf16(const __grid_constant__ quant_params p) { scope<BF16, 512, 4, true>(p); }

// ---- stream: many scopes of whole units, one after another in a CTA; while one is coded, the next is on its way ----

template <int T, int TH, int U> DEVICE void stream(const quant_params &p)
{
    chain_launch();
    chain_wait();
    int64_t x_at[U], y_at[U]; // of the thread's units in a scope
    int row_at[U], col_at[U];
#pragma unroll
    for (int i = 0; i < U; i++) {
        const uint32_t t = i * TH + threadIdx.x;
        row_at[i] = (int)(t * p.magic >> 32);
        col_at[i] = (int)(t - row_at[i] * p.units) * UNIT;
        x_at[i] = (row_at[i] * p.ldx + col_at[i]) * type<T>::BYTES;
        y_at[i] = row_at[i] * p.ldy + col_at[i];
    }
    const float ub = p.given ? 0 : bound_of(p);
    uint32_t row = p.cols == 1 ? blockIdx.x : blockIdx.x / (uint32_t)p.cols, col = blockIdx.x - row * (uint32_t)p.cols;
    unit<T> u[U], next[U];
    const auto there = [&](int i) { return row * p.bm + row_at[i] < p.m && row_at[i] < p.bm && col * p.bk + col_at[i] < p.k && col_at[i] < p.bk; };
    const auto load = [&](unit<T> *v) {
        const char *x = p.x + (row * p.bm * p.ldx + col * p.bk) * type<T>::BYTES;
#pragma unroll
        for (int i = 0; i < U; i++) v[i] = load_if<T>(there(i), x + x_at[i]);
    };
    load(u);
    int turn = 0;
    for (int64_t s = blockIdx.x; s < p.scopes; s += gridDim.x, turn ^= 1) {
        bool here[U];
#pragma unroll
        for (int i = 0; i < U; i++) here[i] = there(i);
        uint8_t *y = p.y + row * p.bm * p.ldy + col * p.bk;
        float *scale = p.scale + row * p.scale_row + col * p.scale_col;
        row += p.step_row;
        col += p.step_col;
        if (col >= p.cols) col -= (uint32_t)p.cols, row++;
        if (s + gridDim.x < p.scopes) load(next);
        uint32_t m = amax_start();
#pragma unroll
        for (int i = 0; i < U; i++) m = amax_of(u[i], m);
        coder c;
        int how;
        const float a = p.given ? 0 : cta_max<TH>(amax_end<T>(m), turn);
        const float sc = coder_for(p, a, ub, p.given ? *scale : 0, &c, &how);
        if (!p.given && threadIdx.x == 0) *scale = sc;
#pragma unroll
        for (int i = 0; i < U; i++) {
            uint32_t codes[4];
            encode(u[i], c, how, codes);
            if (here[i]) *(uint4 *)(y + y_at[i]) = make_uint4(codes[0], codes[1], codes[2], codes[3]);
            u[i] = next[i];
        }
    }
}
#define X(TH, U, OCC_F32, OCC_BF16)                                                                                        \
    extern "C" __global__ void __launch_bounds__(TH, OCC_F32) quant_stream_f32_##TH##x##U##_##OCC_BF16(const __grid_constant__ quant_params p)   \
    { stream<F32, TH, U>(p); }                                                                                       \
    extern "C" __global__ void __launch_bounds__(TH, OCC_BF16) quant_stream_bf16_##TH##x##U##_##OCC_BF16(const __grid_constant__ quant_params p) \
    { stream<BF16, TH, U>(p); }
QUANT_STREAM_KERNELS(X)
#undef X

// ---- rows ----

/* A CTA takes rows blockIdx.x, + gridDim.x, ..: while one is coded, the next ones arrive in a ring of shared memory. One
 * barrier of the CTA a row: behind it every thread holds its units, and the slot is free. */
template <int T, int TH, int U> DEVICE void rows(const quant_params &p)
{
    extern __shared__ __align__(128) char ring[];
    __shared__ uint64_t full[QUANT_MAX_STAGES];
    const uint32_t bytes = (uint32_t)(p.k * type<T>::BYTES), slot = (bytes + 127) & ~127u, slots = shared_address(ring), bars = shared_address(full);
    const int stages = p.stages, k = (int)p.k;
    if (threadIdx.x == 0) {
        for (int i = 0; i < stages; i++) barrier_init(bars + 8 * i, 1);
        barrier_init_done();
    }
    __syncthreads();
    chain_launch();
    chain_wait();
    if (threadIdx.x == 0)
        for (int i = 0; i < stages; i++) {
            const int64_t row = blockIdx.x + (int64_t)i * gridDim.x;
            if (row >= p.m) break;
            barrier_expect(bars + 8 * i, bytes);
            bulk_load(slots + i * slot, p.x + row * p.ldx * type<T>::BYTES, bytes, bars + 8 * i);
        }
    const float ub = p.given ? 0 : bound_of(p);
    int stage = 0, turn = 0, parity = 0;
    for (int64_t row = blockIdx.x; row < p.m; row += gridDim.x) {
        unit<T> u[U];
        barrier_wait(bars + 8 * stage, turn);
        uint32_t m = amax_start();
#pragma unroll
        for (int i = 0; i < U; i++) {
            const int col = (i * TH + threadIdx.x) * UNIT;
            u[i] = load_unit_shared<T>(slots + stage * slot + col * type<T>::BYTES, k - col);
            m = amax_of(u[i], m);
        }
        const float a = cta_max<TH>(amax_end<T>(m), parity);
        const int64_t next = row + (int64_t)stages * gridDim.x;
        if (threadIdx.x == 0 && next < p.m) {
            barrier_expect(bars + 8 * stage, bytes);
            bulk_load(slots + stage * slot, p.x + next * p.ldx * type<T>::BYTES, bytes, bars + 8 * stage);
        }
        coder c;
        int how;
        const float s = coder_for(p, a, ub, p.given ? p.scale[row * p.scale_row] : 0, &c, &how);
        if (!p.given && threadIdx.x == 0) p.scale[row * p.scale_row] = s;
#pragma unroll
        for (int i = 0; i < U; i++) {
            const int col = (i * TH + threadIdx.x) * UNIT;
            uint32_t codes[4];
            encode(u[i], c, how, codes);
            store_codes(p.y + row * p.ldy + col, codes, k - col, true);
        }
        parity ^= 1;
        if (++stage == stages) stage = 0, turn ^= 1;
    }
}
#define X(TH, U)                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(TH) quant_rows_f32_##TH##x##U(const __grid_constant__ quant_params p) { rows<F32, TH, U>(p); } \
    extern "C" __global__ void __launch_bounds__(TH) quant_rows_bf16_##TH##x##U(const __grid_constant__ quant_params p) { rows<BF16, TH, U>(p); }
QUANT_ROWS_KERNELS(X)
#undef X

// ---- small ----

/* A unit of a scope of `lanes` neighbouring threads; returns the scope's scale. */
template <int T> DEVICE float small_unit(const quant_params &p, const unit<T> &u, float ub, float given, uint8_t *y, int n)
{
    coder c;
    int how;
    float a = 0;
    if (!p.given) {
        a = amax_end<T>(amax_of(u, amax_start()));
        for (int d = p.lanes / 2; d; d /= 2) a = fmaxf(a, __shfl_xor_sync(~0u, a, d));
    }
    const float s = coder_for(p, a, ub, given, &c, &how);
    uint32_t codes[4];
    encode(u, c, how, codes);
    store_codes(y, codes, n, p.wide);
    return s;
}

/* Any shape: threads lie along the rows, one after another. */
template <int T> DEVICE void small(const quant_params &p)
{
    chain_launch();
    chain_wait();
    const uint32_t lanes = p.lanes, t = blockIdx.x * QUANT_SMALL_THREADS + threadIdx.x, l = t & (lanes - 1);
    const uint32_t row = t / (uint32_t)p.units, col = (t - row * p.units) / lanes;
    const int64_t j = col * p.bk + l * UNIT, left = min(p.bk, p.k - col * p.bk) - l * UNIT;
    const bool there = row < p.m && col < p.cols;
    const int n = there ? (int)min(left, (int64_t)UNIT) : 0;
    float *scale = p.scale + row * p.scale_row + col * p.scale_col;
    const unit<T> u = load_unit<T>(p.x + (row * p.ldx + j) * type<T>::BYTES, n, p.wide);
    const float s = small_unit<T>(p, u, p.given ? 0 : bound_of(p), p.given && there ? *scale : 1.0f, p.y + row * p.ldy + j, n);
    if (!p.given && l == 0 && there) *scale = s;
}

/* Rows of 512 columns and more, scopes of whole units: a CTA takes 512 columns of 8 rows, a row a warp. The scales of 8 rows
 * that lie together in memory (MN-major) are stored together. */
template <int T> DEVICE void tile(const quant_params &p)
{
    enum { ROWS = QUANT_SMALL_THREADS / 32 };
    __shared__ float scales[2][ROWS][32];
    chain_launch();
    chain_wait();
    const uint32_t lanes = p.lanes, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const float ub = p.given ? 0 : bound_of(p);
    uint32_t band = blockIdx.x / (uint32_t)p.across, chunk = blockIdx.x - band * (uint32_t)p.across;
    const auto row = [&]() { return (int64_t)band * ROWS + warp; };
    const auto col = [&]() { return (int)(chunk * 32 + lane) * UNIT; };
    const auto there = [&]() { return row() < p.m && col() < p.k; };
    const auto load = [&]() { return load_if<T>(there(), p.x + (row() * p.ldx + col()) * type<T>::BYTES); };
    unit<T> u = load(), next;
    int turn = 0;
    for (int64_t t = blockIdx.x; t < p.tiles; t += gridDim.x, turn ^= 1) {
        const int n = there() ? UNIT : 0;
        const uint32_t first = chunk * (32 / lanes), scope = first + lane / lanes, rows = band * ROWS;
        uint8_t *y = p.y + row() * p.ldy + col();
        float *scale = p.scale + row() * p.scale_row + scope * p.scale_col;
        band += p.step_row;
        chunk += p.step_col;
        if (chunk >= p.across) chunk -= (uint32_t)p.across, band++;
        if (t + gridDim.x < p.tiles) next = load();
        const float s = small_unit<T>(p, u, ub, p.given && n ? *scale : 1.0f, y, n);
        if (!p.given) {
            if (p.scale_row != 1) {
                if (lane % lanes == 0 && n) *scale = s;
            } else {
                if (lane % lanes == 0) scales[turn][warp][lane / lanes] = s;
                __syncthreads();
                const uint32_t g = threadIdx.x / ROWS, r = threadIdx.x % ROWS;
                if (g < 32 / lanes && first + g < p.cols && rows + r < p.m) p.scale[rows + r + (first + g) * p.scale_col] = scales[turn][r][g];
            }
        }
        u = next;
    }
}
#define SMALL(name, T, OCC, OCC_TILE)                                                                                                         \
    extern "C" __global__ void __launch_bounds__(QUANT_SMALL_THREADS, OCC) quant_small_##name(const __grid_constant__ quant_params p) { small<T>(p); } \
    extern "C" __global__ void __launch_bounds__(QUANT_SMALL_THREADS, OCC_TILE) quant_tile_##name(const __grid_constant__ quant_params p) { tile<T>(p); }
SMALL(f32, F32, 6, 4)
SMALL(bf16, BF16, 8, 6)

// ---- large: a matrix, one scope ----

/* Chunks of a row, a unit a thread. The first pass leaves the last chunks in L2, where the second, which goes backward,
 * finds them: what comes before is read as evict-first. */
struct chunk { int64_t row, col; };
DEVICE chunk chunk_of(const quant_params &p, int64_t i)
{
    const int64_t row = p.m == 1 ? 0 : i / p.across;
    return { row, (i - row * p.across) * (QUANT_LARGE_THREADS * UNIT) + threadIdx.x * UNIT };
}
DEVICE int left_of(const quant_params &p, chunk c) { return (int)max(min(p.k - c.col, (int64_t)UNIT), (int64_t)0); }

template <int T> DEVICE void large_max(const quant_params &p)
{
    const int64_t chunks = p.m * p.across;
    const uint64_t first = policy_evict_first(), last = policy_normal();
    uint32_t m = amax_start();
    chain_launch();
    chain_wait();
    int64_t i = blockIdx.x;
    if (p.m == 1 && p.wide) { /* whole chunks: the next one is on its way while one is looked at */
        const int64_t whole = p.k / (QUANT_LARGE_THREADS * UNIT), step = (int64_t)gridDim.x * QUANT_LARGE_THREADS * UNIT * type<T>::BYTES;
        const char *x = p.x + (i * (QUANT_LARGE_THREADS * UNIT) + threadIdx.x * UNIT) * type<T>::BYTES;
        unit<T> u, next;
        if (i < whole) u = load_whole<T>(x, i < p.keep ? first : last);
        for (; i < whole; i += gridDim.x) {
            x += step;
            if (i + gridDim.x < whole) next = load_whole<T>(x, i + gridDim.x < p.keep ? first : last);
            m = amax_of(u, m);
            u = next;
        }
    }
    for (; i < chunks; i += gridDim.x) {
        const chunk c = chunk_of(p, i);
        m = amax_of(load_unit<T>(p.x + (c.row * p.ldx + c.col) * type<T>::BYTES, left_of(p, c), p.wide), m);
    }
    const float a = cta_max<QUANT_LARGE_THREADS>(amax_end<T>(m));
    if (threadIdx.x == 0) p.partial[blockIdx.x] = a;
}

template <int T> DEVICE void large_codes(const quant_params &p)
{
    chain_launch();
    chain_wait();
    const chunk at = chunk_of(p, p.m * p.across - 1 - blockIdx.x);
    const int n = left_of(p, at);
    const unit<T> u = load_unit<T>(p.x + (at.row * p.ldx + at.col) * type<T>::BYTES, n, p.wide);
    float a = 0;
    if (!p.given) {
        for (int i = threadIdx.x; i < p.parts; i += QUANT_LARGE_THREADS) a = fmaxf(a, p.partial[i]);
        a = cta_max<QUANT_LARGE_THREADS>(a);
    }
    coder c;
    int how;
    const float s = coder_for(p, a, p.given ? 0 : bound_of(p), p.given ? *p.scale : 0, &c, &how);
    if (!p.given && blockIdx.x == 0 && threadIdx.x == 0) *p.scale = s;
    uint32_t codes[4];
    encode(u, c, how, codes);
    uint8_t *y = p.y + at.row * p.ldy + at.col;
    if (p.wide && n >= UNIT && p.evict) store16_evict_first(y, make_uint4(codes[0], codes[1], codes[2], codes[3]));
    else store_codes(y, codes, n, p.wide);
}
template <int T> DEVICE void large_stream(const quant_params &p)
{
    chain_launch();
    chain_wait();
    const int64_t step = (int64_t)gridDim.x * QUANT_LARGE_THREADS * UNIT;
    int64_t i = (p.across - 1 - blockIdx.x) * (QUANT_LARGE_THREADS * UNIT) + threadIdx.x * UNIT; // from the end
    unit<T> u = load_if<T>(i >= 0 && i < p.k, p.x + i * type<T>::BYTES), next;
    float a = 0;
    if (!p.given) {
        for (int j = threadIdx.x; j < p.parts; j += QUANT_LARGE_THREADS) a = fmaxf(a, p.partial[j]);
        a = cta_max<QUANT_LARGE_THREADS>(a);
    }
    coder c;
    int how;
    const float s = coder_for(p, a, p.given ? 0 : bound_of(p), p.given ? *p.scale : 0, &c, &how);
    if (!p.given && blockIdx.x == 0 && threadIdx.x == 0) *p.scale = s;
    for (; i >= 0; i -= step) {
        next = load_if<T>(i >= step, p.x + (i - step) * type<T>::BYTES);
        uint32_t codes[4];
        encode(u, c, how, codes);
        if (i < p.k) store16_evict_first(p.y + i, make_uint4(codes[0], codes[1], codes[2], codes[3]));
        u = next;
    }
}
#define LARGE(name, T, OCC)                                                                                            \
    extern "C" __global__ void __launch_bounds__(QUANT_LARGE_THREADS, OCC) quant_large_max_##name(const __grid_constant__ quant_params p) \
    { large_max<T>(p); }                                                                                                 \
    extern "C" __global__ void __launch_bounds__(QUANT_LARGE_THREADS, OCC) quant_large_codes_##name(const __grid_constant__ quant_params p) \
    { large_codes<T>(p); }                                                                                               \
    extern "C" __global__ void __launch_bounds__(QUANT_LARGE_THREADS, T == F32 ? 2 : 3) quant_large_stream_##name(const __grid_constant__ quant_params p) \
    { large_stream<T>(p); }
LARGE(f32, F32, 2)
LARGE(bf16, BF16, 4)

// ---- loop ----

template <int T> DEVICE void loop(const quant_params &p)
{
    chain_launch();
    chain_wait();
    for (int64_t s = blockIdx.x; s < p.scopes; s += gridDim.x) {
        const int64_t r = s / p.cols, cc = s - r * p.cols, i0 = r * p.bm, j0 = cc * p.bk;
        const int64_t rows = min(p.bm, p.m - i0), columns = min(p.bk, p.k - j0);
        float *scale = p.scale + r * p.scale_row + cc * p.scale_col;
        uint32_t m = amax_start();
        if (!p.given)
            for (int64_t i = 0; i < rows; i++)
#pragma unroll 1
                for (int64_t j = threadIdx.x * UNIT; j < columns; j += QUANT_LARGE_THREADS * UNIT)
                    m = amax_of(load_unit<T>(p.x + ((i0 + i) * p.ldx + j0 + j) * type<T>::BYTES, (int)min(columns - j, (int64_t)UNIT), p.wide), m);
        coder c;
        int how;
        const float a = cta_max<QUANT_LARGE_THREADS>(amax_end<T>(m));
        const float sc = coder_for(p, a, p.given ? 0 : bound_of(p), p.given ? *scale : 0, &c, &how);
        if (!p.given && threadIdx.x == 0) *scale = sc;
        for (int64_t i = 0; i < rows; i++)
#pragma unroll 1
            for (int64_t j = threadIdx.x * UNIT; j < columns; j += QUANT_LARGE_THREADS * UNIT) {
                const int n = (int)min(columns - j, (int64_t)UNIT);
                uint32_t codes[4];
                encode(load_unit<T>(p.x + ((i0 + i) * p.ldx + j0 + j) * type<T>::BYTES, n, p.wide), c, how, codes);
                store_codes(p.y + (i0 + i) * p.ldy + j0 + j, codes, n, p.wide);
            }
        __syncthreads(); // the maxima of this scope have been read
    }
}
extern "C" __global__ void __launch_bounds__(QUANT_LARGE_THREADS, 2) quant_loop_f32(const __grid_constant__ quant_params p) { loop<F32>(p); }
extern "C" __global__ void __launch_bounds__(QUANT_LARGE_THREADS, 2) quant_loop_bf16(const __grid_constant__ quant_params p) { loop<BF16>(p); }
