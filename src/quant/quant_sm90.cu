// quant_sm90.cu - FP8 quantization on Hopper, in four shapes of work:
//   scope  a scope held in the registers of a CTA, or of a cluster: read once, written once
//   small  scopes of one row and at most 512 columns: 1 to 32 neighbouring threads each (tile: in a layout that suits wide rows)
//   large  one scope over many CTAs: maxima, then codes, whose reads find the end of the matrix in L2
//   loop   whatever the others leave: a CTA a scope, two passes over it
#include "isa/sm90/cluster.cuh"
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
    const float stored = coder_for(p, amax, p.given ? 0 : bound_of(p), p.given ? *scale : 0, &c, &how);
    if (!p.given && threadIdx.x == 0 && rank == 0) *scale = stored;
#pragma unroll
    for (int i = 0; i < U; i++) {
        uint32_t codes[4];
        encode(u[i], c, how, codes);
        store_codes(y + at_row[i] * p.ldy + at_col[i], codes, at_row[i] < rows ? columns - at_col[i] : 0, p.wide);
    }
}
#define X(TH, U, OCC_F32, OCC_BF16)                                                                                               \
    extern "C" __global__ void __launch_bounds__(TH, OCC_F32) quant_scope_f32_##TH##x##U(const __grid_constant__ quant_params p)   \
    { scope<F32, TH, U, false>(p); }                                                                                              \
    extern "C" __global__ void __launch_bounds__(TH, OCC_BF16) quant_scope_bf16_##TH##x##U(const __grid_constant__ quant_params p) \
    { scope<BF16, TH, U, false>(p); }
QUANT_SCOPE_KERNELS(X)
#undef X
extern "C" __global__ void __launch_bounds__(512, 1) quant_cluster_f32(const __grid_constant__ quant_params p) { scope<F32, 512, 2, true>(p); }
extern "C" __global__ void __launch_bounds__(512, 3) quant_cluster_bf16(const __grid_constant__ quant_params p) { scope<BF16, 512, 2, true>(p); }

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

/* Rows of whole units, 512 columns and more: a CTA takes 512 columns of 8 rows, a row a warp. Scales of rows that lie
 * together in memory (MN-major) are stored together. */
template <int T> DEVICE void tile(const quant_params &p)
{
    enum { ROWS = QUANT_SMALL_THREADS / 32 };
    __shared__ float scales[ROWS][33];
    chain_launch();
    chain_wait();
    const uint32_t lanes = p.lanes, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t band = blockIdx.x / (uint32_t)p.across, chunk = blockIdx.x - band * (uint32_t)p.across;
    const uint32_t first = chunk * (32 / lanes), scope = first + lane / lanes, row0 = band * ROWS;
    const int col = (int)(chunk * 32 + lane) * UNIT;
    const int64_t row = row0 + warp;
    const bool there = row < p.m && col < p.k;
    const unit<T> u = load_if<T>(there, p.x + (row * p.ldx + col) * type<T>::BYTES);
    float *scale = p.scale + row * p.scale_row + scope * p.scale_col;
    const float ub = p.given ? 0 : bound_of(p);
    const float s = small_unit<T>(p, u, ub, p.given && there ? *scale : 1.0f, p.y + row * p.ldy + col, there ? UNIT : 0);
    if (p.given) return;
    if (p.scale_row != 1) {
        if (lane % lanes == 0 && there) *scale = s;
        return;
    }
    if (lane % lanes == 0) scales[warp][lane / lanes] = s;
    __syncthreads();
    const uint32_t g = threadIdx.x / ROWS, r = threadIdx.x % ROWS;
    if (g < 32 / lanes && first + g < p.cols && row0 + r < p.m) p.scale[row0 + r + (first + g) * p.scale_col] = scales[r][g];
}
#define SMALL(name, T, OCC, OCC_TILE)                                                                                          \
    extern "C" __global__ void __launch_bounds__(QUANT_SMALL_THREADS, OCC) quant_small_##name(const __grid_constant__ quant_params p) \
    { small<T>(p); }                                                                                                           \
    extern "C" __global__ void __launch_bounds__(QUANT_SMALL_THREADS, OCC_TILE) quant_tile_##name(const __grid_constant__ quant_params p) \
    { tile<T>(p); }
SMALL(f32, F32, 6, 5)
SMALL(bf16, BF16, 8, 6)
#undef SMALL

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
    if (p.wide && n >= UNIT) store16_evict_first(y, make_uint4(codes[0], codes[1], codes[2], codes[3]));
    else store_codes(y, codes, n, p.wide);
}
#define LARGE(name, T, OCC)                                                                                            \
    extern "C" __global__ void __launch_bounds__(QUANT_LARGE_THREADS, OCC) quant_large_max_##name(const __grid_constant__ quant_params p) \
    { large_max<T>(p); }                                                                                                 \
    extern "C" __global__ void __launch_bounds__(QUANT_LARGE_THREADS, OCC) quant_large_codes_##name(const __grid_constant__ quant_params p) \
    { large_codes<T>(p); }
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
