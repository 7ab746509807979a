// quant_sm90.cu - FP8 quantization on Hopper, in five shapes of work:
//   scope  a scope held in the registers of a CTA, or of a cluster: read once, written once
//   small  scopes of one row and at most 512 columns: 1 to 32 neighbouring threads each (tile: in a layout that suits wide rows)
//   large  one scope over many CTAs: maxima, then codes, whose reads find the end of the matrix in L2
//   col    a scope a column, in strips of columns: maxima, factors, codes
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

template <int T, int U, bool CLUSTER> DEVICE void scope(const quant_params &p)
{
    __shared__ exchange shared;
    const uint32_t rank = CLUSTER ? cluster_rank() : 0, size = CLUSTER ? cluster_size() : 1;
    if (CLUSTER) exchange_open(&shared);
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
        const uint32_t t = (rank * U + i) * blockDim.x + threadIdx.x, lane = threadIdx.x % 32;
        at_row[i] = (int)(t * p.magic >> 32);
        at_col[i] = (int)(t - at_row[i] * p.units) * UNIT;
        if (p.step > 1) at_row[i] = 0, at_col[i] = (t - lane) * UNIT + lane;
        u[i] = load_unit<T>(x + (at_row[i] * p.ldx + at_col[i]) * type<T>::BYTES, at_row[i] < rows ? columns - at_col[i] : 0, p.wide,
                            p.step);
    }
    float amax = 0;
    if (!p.given) {
#pragma unroll
        for (int i = 0; i < U; i++) m = amax_of(u[i], m);
        amax = cta_max(amax_end<T>(m));
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
        store_codes(y + at_row[i] * p.ldy + at_col[i], codes, at_row[i] < rows ? columns - at_col[i] : 0, p.wide, p.step);
    }
}
/* Launched with as many warps as the scopes have units for. */
#define X(TH, U, OCC_F32, OCC_BF16)                                                                                               \
    extern "C" __global__ void __launch_bounds__(TH, OCC_F32) quant_scope_f32_##TH##x##U(const __grid_constant__ quant_params p)   \
    { scope<F32, U, false>(p); }                                                                                                  \
    extern "C" __global__ void __launch_bounds__(TH, OCC_BF16) quant_scope_bf16_##TH##x##U(const __grid_constant__ quant_params p) \
    { scope<BF16, U, false>(p); }                                                                                                 \
    extern "C" __global__ void __launch_bounds__(TH, OCC_BF16) quant_scope_f16_##TH##x##U(const __grid_constant__ quant_params p)  \
    { scope<F16, U, false>(p); }
QUANT_SCOPE_KERNELS(X)
#undef X
extern "C" __global__ void __launch_bounds__(512, 1) quant_cluster_f32(const __grid_constant__ quant_params p) { scope<F32, 2, true>(p); }
extern "C" __global__ void __launch_bounds__(512, 3) quant_cluster_bf16(const __grid_constant__ quant_params p) { scope<BF16, 2, true>(p); }
extern "C" __global__ void __launch_bounds__(512, 3) quant_cluster_f16(const __grid_constant__ quant_params p) { scope<F16, 2, true>(p); }

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
    store_codes(y, codes, n, p.wide, p.step);
    return s;
}

/* Any shape: threads lie along the rows, one after another. */
template <int T> DEVICE void small(const quant_params &p)
{
    chain_launch();
    chain_wait();
    const uint32_t lanes = p.lanes, t = blockIdx.x * QUANT_SMALL_THREADS + threadIdx.x, l = t & (lanes - 1);
    const uint32_t row = t / (uint32_t)p.units, col = (t - row * p.units) / lanes;
    const int at = p.wide ? l * UNIT : l;
    const int64_t j = col * p.bk + at;
    const bool there = row < p.m && col < p.cols;
    const int n = there ? (int)min(p.bk, p.k - col * p.bk) - at : 0;
    float *scale = p.scale + row * p.scale_row + col * p.scale_col;
    const unit<T> u = load_unit<T>(p.x + (row * p.ldx + j) * type<T>::BYTES, n, p.wide, p.step);
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
SMALL(f32, F32, 5, 5)
SMALL(bf16, BF16, 6, 6)
SMALL(f16, F16, 6, 6)
#undef SMALL

// ---- large: a matrix, one scope ----

/* Chunks of a row, a unit a thread. The second pass goes backward, so that it finds the end of the matrix in L2. */
enum { CHUNK = QUANT_LARGE_THREADS * UNIT };
struct chunk { int64_t row, col; int n; }; // a thread's first element, and how many elements the row has from there on
DEVICE int first_in_chunk(const quant_params &p) { return p.step == 1 ? threadIdx.x * UNIT : threadIdx.x / 32 * (32 * UNIT) + threadIdx.x % 32; }
DEVICE chunk chunk_of(const quant_params &p, int64_t i)
{
    const int64_t row = p.m == 1 ? 0 : i / p.across, col = (i - row * p.across) * CHUNK + first_in_chunk(p);
    return { row, col, (int)max(min(p.k - col, (int64_t)CHUNK), (int64_t)0) };
}

template <int T> DEVICE void large_max(const quant_params &p)
{
    enum { AHEAD = T == F32 ? 2 : 4 };
    const int64_t chunks = p.m * p.across, whole = p.m == 1 && p.wide ? p.k / CHUNK : 0;
    uint32_t m = amax_start();
    chain_launch();
    chain_wait();
    int64_t i = blockIdx.x;
    for (; i + (AHEAD - 1) * (int64_t)gridDim.x < whole; i += AHEAD * (int64_t)gridDim.x) {
        unit<T> u[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; j++)
            u[j] = load_whole<T>(p.x + ((i + j * (int64_t)gridDim.x) * QUANT_LARGE_THREADS + threadIdx.x) * UNIT * type<T>::BYTES);
#pragma unroll
        for (int j = 0; j < AHEAD; j++) m = amax_of(u[j], m);
    }
    for (; i < chunks; i += gridDim.x) {
        const chunk c = chunk_of(p, i);
        m = amax_of(load_unit<T>(p.x + (c.row * p.ldx + c.col) * type<T>::BYTES, c.n, p.wide, p.step), m);
    }
    const float a = cta_max(amax_end<T>(m));
    if (threadIdx.x == 0) p.partial[blockIdx.x] = a;
}

template <int T> DEVICE void large_codes(const quant_params &p)
{
    chain_launch();
    chain_wait();
    const chunk at = chunk_of(p, p.m * p.across - 1 - blockIdx.x);
    const bool whole = p.wide && at.n >= UNIT;
    const char *x = p.x + (at.row * p.ldx + at.col) * type<T>::BYTES;
    uint8_t *y = p.y + at.row * p.ldy + at.col;
    const unit<T> u = whole ? load_whole_again<T>(x) : load_unit<T>(x, at.n, false, p.step);
    float a = 0;
    if (!p.given) {
        for (int i = threadIdx.x; i < p.parts; i += QUANT_LARGE_THREADS) a = fmaxf(a, p.partial[i]);
        a = cta_max(a);
    }
    coder c;
    int how;
    const float s = coder_for(p, a, p.given ? 0 : bound_of(p), p.given ? *p.scale : 0, &c, &how);
    if (!p.given && blockIdx.x == 0 && threadIdx.x == 0) *p.scale = s;
    uint32_t codes[4];
    encode(u, c, how, codes);
    if (whole) store_whole_again(y, codes);
    else store_codes(y, codes, at.n, false, p.step);
}
#define LARGE(name, T, OCC)                                                                                            \
    extern "C" __global__ void __launch_bounds__(QUANT_LARGE_THREADS, 2) quant_large_max_##name(const __grid_constant__ quant_params p) \
    { large_max<T>(p); }                                                                                                 \
    extern "C" __global__ void __launch_bounds__(QUANT_LARGE_THREADS, OCC) quant_large_codes_##name(const __grid_constant__ quant_params p) \
    { large_codes<T>(p); }
LARGE(f32, F32, 2)
LARGE(bf16, BF16, 3)
LARGE(f16, F16, 3)

// ---- col ----

/* The rows of a strip go to its CTAs' warps in turn, so that all of the matrix is read from the top down; the codes are
 * made from the bottom up, where L2 still has it. */
template <int T> DEVICE void col_max(const quant_params &p)
{
    enum { AHEAD = 4 };
    __shared__ float part[QUANT_STRIP_WARPS][QUANT_STRIP];
    chain_launch();
    chain_wait();
    const int64_t strip = blockIdx.x % (uint32_t)p.across, band = blockIdx.x / (uint32_t)p.across, col0 = strip * QUANT_STRIP;
    const int warp = threadIdx.x / 32, at = threadIdx.x % 32 * UNIT, n = (int)max(min(p.k - col0 - at, (int64_t)UNIT), (int64_t)0);
    const int64_t step = (int64_t)p.parts * QUANT_STRIP_WARPS, stride = step * p.ldx * type<T>::BYTES;
    int64_t row = band * QUANT_STRIP_WARPS + warp;
    const char *x = p.x + (row * p.ldx + col0 + at) * type<T>::BYTES;
    unit<T> m = { { 0 } };
    if (p.wide && n == UNIT)
        for (; row + (AHEAD - 1) * step < p.m; row += AHEAD * step, x += AHEAD * stride) {
            unit<T> u[AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; i++) u[i] = load_whole<T>(x + i * stride);
#pragma unroll
            for (int i = 0; i < AHEAD; i++) maxima_of(u[i], m);
        }
    for (; row < p.m; row += step, x += stride) maxima_of(load_unit<T>(x, n, p.wide), m);
#pragma unroll
    for (int i = 0; i < UNIT; i++) part[warp][at + i] = fabsf(element(m, i));
    __syncthreads();
    for (int j = threadIdx.x; j < QUANT_STRIP && col0 + j < p.k; j += QUANT_STRIP_WARPS * 32) {
        float a = 0;
#pragma unroll
        for (int i = 0; i < QUANT_STRIP_WARPS; i++) a = fmaxf(a, part[i][j]);
        p.partial[band * p.k + col0 + j] = a;
    }
}

/* 32 columns a CTA. */
extern "C" __global__ void __launch_bounds__(QUANT_STRIP_WARPS * 32) quant_col_factor(const __grid_constant__ quant_params p)
{
    __shared__ float part[QUANT_STRIP_WARPS][32];
    chain_launch();
    chain_wait();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t col = (int64_t)blockIdx.x * 32 + lane;
    float a = 0;
    if (col < p.k)
#pragma unroll 8
        for (int i = warp; i < p.parts; i += QUANT_STRIP_WARPS) a = fmaxf(a, p.partial[i * p.k + col]);
    part[warp][lane] = a;
    __syncthreads();
    if (warp || col >= p.k) return;
    for (int i = 1; i < QUANT_STRIP_WARPS; i++) a = fmaxf(a, part[i][lane]);
    coder c;
    int how;
    const float s = coder_of(p.eps, a, bound_of(p), &c, &how);
    p.scale[col] = s;
    p.factor[col] = p.eps ? c.factor : s;
}

template <int T> DEVICE void col_encode(const quant_params &p, const unit<T> &u, const float *f, uint32_t *codes)
{
#pragma unroll
    for (int i = 0; i < UNIT; i += 4) {
        float q[4];
#pragma unroll
        for (int j = 0; j < 4; j++) q[j] = p.eps ? element(u, i + j) * f[i + j] : __fdiv_rn(element(u, i + j), f[i + j]);
        codes[i / 4] = f8x4(q[0], q[1], q[2], q[3]);
    }
}
template <int T> DEVICE void col_codes(const quant_params &p)
{
    enum { ROWS = QUANT_STRIP_ROWS / QUANT_STRIP_WARPS, AHEAD = T == F32 ? 2 : 4 }; // of a warp, one after another
    chain_launch();
    chain_wait();
    const int64_t block = (gridDim.x - 1 - blockIdx.x) / (uint32_t)p.across, strip = blockIdx.x % (uint32_t)p.across;
    const int64_t row = block * QUANT_STRIP_ROWS + threadIdx.x / 32 * ROWS, col = strip * QUANT_STRIP + threadIdx.x % 32 * UNIT;
    const int n = (int)max(min(p.k - col, (int64_t)UNIT), (int64_t)0);
    const char *x = p.x + (row * p.ldx + col) * type<T>::BYTES;
    uint8_t *y = p.y + row * p.ldy + col;
    uint32_t codes[4];
    float f[UNIT];
#pragma unroll
    for (int i = 0; i < UNIT; i++) f[i] = i < n ? p.factor[col + i] : 1.0f;
    if (p.wide && n == UNIT && row + ROWS <= p.m) {
#pragma unroll 1
        for (int r = 0; r < ROWS; r += AHEAD) {
            unit<T> u[AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; i++) u[i] = load_whole_again<T>(x + (r + i) * p.ldx * type<T>::BYTES);
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                col_encode(p, u[i], f, codes);
                store_whole_again(y + (r + i) * p.ldy, codes);
            }
        }
        return;
    }
#pragma unroll 1
    for (int r = 0; r < ROWS && row + r < p.m; r++) {
        col_encode(p, load_unit<T>(x + r * p.ldx * type<T>::BYTES, n, p.wide), f, codes);
        store_codes(y + r * p.ldy, codes, n, p.wide);
    }
}

/* Few rows: a CTA holds 128 columns of up to 64, 8 lanes side by side. */
template <int T> DEVICE void col_small(const quant_params &p)
{
    enum { WARPS = QUANT_STRIP_WARPS, WIDTH = 8 * UNIT, U = QUANT_COL_SMALL_ROWS / (4 * WARPS) };
    __shared__ float part[WARPS][WIDTH], factor[WIDTH];
    chain_launch();
    chain_wait();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, at = lane % 8 * UNIT;
    const int64_t col0 = (int64_t)blockIdx.x * WIDTH;
    const int n = (int)max(min(p.k - col0 - at, (int64_t)UNIT), (int64_t)0);
    unit<T> u[U], m = { { 0 } };
#pragma unroll
    for (int i = 0; i < U; i++) {
        const int64_t row = (i * WARPS + warp) * 4 + lane / 8;
        u[i] = load_unit<T>(p.x + (row * p.ldx + col0 + at) * type<T>::BYTES, row < p.m ? n : 0, p.wide);
    }
#pragma unroll
    for (int i = 0; i < U; i++) maxima_of(u[i], m);
#pragma unroll
    for (int i = 0; i < UNIT; i++) {
        float a = fabsf(element(m, i));
        a = fmaxf(a, __shfl_xor_sync(~0u, a, 8));
        a = fmaxf(a, __shfl_xor_sync(~0u, a, 16));
        if (lane < 8) part[warp][at + i] = a;
    }
    __syncthreads();
    if (threadIdx.x < WIDTH && col0 + threadIdx.x < p.k) {
        float a = 0, s = 0;
        coder c = { 0 };
        int how;
        for (int i = 0; i < WARPS; i++) a = fmaxf(a, part[i][threadIdx.x]);
        if (p.given) s = p.scale[col0 + threadIdx.x];
        else p.scale[col0 + threadIdx.x] = s = coder_of(p.eps, a, bound_of(p), &c, &how);
        factor[threadIdx.x] = p.eps ? c.factor : s;
    }
    __syncthreads();
    float f[UNIT];
#pragma unroll
    for (int i = 0; i < UNIT; i++) f[i] = i < n ? factor[at + i] : 1.0f;
#pragma unroll
    for (int i = 0; i < U; i++) {
        const int64_t row = (i * WARPS + warp) * 4 + lane / 8;
        uint32_t codes[4];
        col_encode(p, u[i], f, codes);
        store_codes(p.y + row * p.ldy + col0 + at, codes, row < p.m ? n : 0, p.wide);
    }
}
#define COL(name, T)                                                                                                             \
    extern "C" __global__ void __launch_bounds__(QUANT_STRIP_WARPS * 32) quant_col_max_##name(const __grid_constant__ quant_params p)   \
    { col_max<T>(p); }                                                                                                           \
    extern "C" __global__ void __launch_bounds__(QUANT_STRIP_WARPS * 32) quant_col_codes_##name(const __grid_constant__ quant_params p) \
    { col_codes<T>(p); }                                                                                                         \
    extern "C" __global__ void __launch_bounds__(QUANT_STRIP_WARPS * 32) quant_col_small_##name(const __grid_constant__ quant_params p) \
    { col_small<T>(p); }
COL(f32, F32)
COL(bf16, BF16)
COL(f16, F16)
#undef COL

// ---- loop ----

template <int T> DEVICE void loop(const quant_params &p)
{
    const int at = first_in_chunk(p);
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
                for (int64_t j = at; j < columns; j += CHUNK)
                    m = amax_of(load_unit<T>(p.x + ((i0 + i) * p.ldx + j0 + j) * type<T>::BYTES, (int)min(columns - j, (int64_t)CHUNK), p.wide, p.step), m);
        coder c;
        int how;
        const float a = cta_max(amax_end<T>(m));
        const float sc = coder_for(p, a, p.given ? 0 : bound_of(p), p.given ? *scale : 0, &c, &how);
        if (!p.given && threadIdx.x == 0) *scale = sc;
        for (int64_t i = 0; i < rows; i++)
#pragma unroll 1
            for (int64_t j = at; j < columns; j += CHUNK) {
                const int n = (int)min(columns - j, (int64_t)CHUNK);
                uint32_t codes[4];
                encode(load_unit<T>(p.x + ((i0 + i) * p.ldx + j0 + j) * type<T>::BYTES, n, p.wide, p.step), c, how, codes);
                store_codes(p.y + (i0 + i) * p.ldy + j0 + j, codes, n, p.wide, p.step);
            }
        __syncthreads(); // the maxima of this scope have been read
    }
}
extern "C" __global__ void __launch_bounds__(QUANT_LARGE_THREADS, 1) quant_loop_f32(const __grid_constant__ quant_params p) { loop<F32>(p); }
extern "C" __global__ void __launch_bounds__(QUANT_LARGE_THREADS, 1) quant_loop_bf16(const __grid_constant__ quant_params p) { loop<BF16>(p); }
extern "C" __global__ void __launch_bounds__(QUANT_LARGE_THREADS, 1) quant_loop_f16(const __grid_constant__ quant_params p) { loop<F16>(p); }
