/* gemm_plain_sm90.cu - y = x w^T for any extents, strides and alignment: what the copy engine cannot address comes here.
 *
 * Tiles of 64 x 64, 64 of k at a time: every element is loaded by itself, widened to bf16, which holds f8e4m3fn exactly, and
 * multiplied with f32 sums; the next elements are fetched meanwhile. Sums start anew every 128 of k, where block scales
 * meet them. */
#include "gemm/gemm_plain_sm90.h"
#include "gemm/gemm_device_sm90.cuh"

enum { TILE = PLAIN_TILE, THREADS = PLAIN_THREADS, STEP = 64, PITCH = (STEP + 8) * 2 }; /* bytes of a row in shared memory */
enum { EACH = TILE * STEP / THREADS }; /* elements of an operand that a thread loads */

/* Lanes go along k, warps down the rows. Rows beyond the matrix and k beyond its end are 0. */
template <typename T> DEVICE void fetch(const T *p, int64_t ld, int64_t rows, int64_t k, T *v)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int row = warp + 8 * (i >> 1), col = lane + 32 * (i & 1);
        v[i] = row < rows && col < k ? p[row * ld + col] : (T)0;
    }
}
DEVICE uint16_t widened(uint8_t v) { return (uint16_t)f8x2_to_bf16x2(v); }
DEVICE uint16_t widened(uint16_t v) { return v; }
template <typename T> DEVICE void keep(uint16_t *to, const T *v)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int i = 0; i < EACH; i++) to[(warp + 8 * (i >> 1)) * (PITCH / 2) + lane + 32 * (i & 1)] = widened(v[i]);
}

DEVICE void load_matrices(uint32_t a, uint32_t *r)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(a));
}
DEVICE void mma(float *d, const uint32_t *a, const uint32_t *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* A warp has 32 rows and 16 columns: d[2 of 16 rows][2 of 8 columns][4]. */
DEVICE void multiply(uint32_t x, uint32_t w, float *d)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, r0 = (warp & 1) * 32, c0 = (warp >> 1) * 16;
#pragma unroll
    for (int k = 0; k < STEP; k += 16) {
        uint32_t a[2][4], b[4];
        /* b: columns 0-7 of k 0-7, of k 8-15; columns 8-15 likewise */
        load_matrices(w + (c0 + (lane & 7) + (lane >> 4) * 8) * PITCH + (k + (lane >> 3 & 1) * 8) * 2, b);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            load_matrices(x + (r0 + i * 16 + (lane & 15)) * PITCH + (k + (lane >> 4) * 8) * 2, a[i]);
#pragma unroll
            for (int j = 0; j < 2; j++) mma(d + (i * 2 + j) * 4, a[i], b + 2 * j);
        }
    }
}

template <typename X, typename W, int scaled> DEVICE void tile(const gemm_plain_params &p, int64_t t, uint16_t *xs, uint16_t *ws)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int64_t b = t / (p.tiles_m * p.tiles_n), u = t % (p.tiles_m * p.tiles_n), m0 = u % p.tiles_m * TILE, n0 = u / p.tiles_m * TILE;
    const X *x = (const X *)p.x + b * p.stride_x + m0 * p.ldx;
    const W *w = (const W *)p.w + b * p.stride_w + n0 * p.ldw;
    const int64_t i0 = m0 + (warp & 1) * 32 + (lane >> 2), j0 = n0 + (warp >> 1) * 16 + (lane & 3) * 2; /* of this thread's results */
    const uint32_t xa = shared_address(xs), wa = shared_address(ws);
    float sum[16] = { 0 }, d[16] = { 0 };
    X xv[EACH];
    W wv[EACH];
    fetch(x, p.ldx, p.m - m0, p.k, xv);
    fetch(w, p.ldw, p.n - n0, p.k, wv);
    for (int64_t k = 0; k < p.k; k += STEP) {
        __syncthreads();
        keep(xs, xv);
        keep(ws, wv);
        __syncthreads();
        if (k + STEP < p.k) {
            fetch(x + k + STEP, p.ldx, p.m - m0, p.k - k - STEP, xv);
            fetch(w + k + STEP, p.ldw, p.n - n0, p.k - k - STEP, wv);
        }
        multiply(xa, wa, d);
        if (!(k / STEP & 1) && k + STEP < p.k) continue; /* blocks of 128 */
#pragma unroll
        for (int i = 0; i < 16; i++) {
            float s = 1;
            if (scaled) {
                const int64_t row = i0 + (i >> 3) * 16 + (i >> 1 & 1) * 8, col = j0 + (i >> 2 & 1) * 8 + (i & 1), kb = k / 128;
                const gemm_scale &sx = p.scales.x, &sw = p.scales.w;
                s = (sx.p && row < p.m ? sx.p[b * sx.batch + (row >> sx.shift) * sx.row + kb * sx.block] : 1.0f) *
                    (col < p.n ? __ldg(sw.p + b * sw.batch + (col >> sw.shift) * sw.row + kb * sw.block) : 1.0f);
            }
            sum[i] = fmaf(s, d[i], sum[i]);
            d[i] = 0;
        }
    }
#pragma unroll
    for (int i = 0; i < 16; i += 2) {
        const int64_t row = i0 + (i >> 3) * 16 + (i >> 1 & 1) * 8, col = j0 + (i >> 2 & 1) * 8;
        if (row >= p.m) continue;
        const float sx = scaled ? 1.0f : scale_of(p.scales.x, b, row, p.m);
        store_pair(p.out, b, row, col, p.n, finish(sum[i], sx, column_of(p.out, p.scales.w, scaled, b, col, p.n)),
                   finish(sum[i + 1], sx, column_of(p.out, p.scales.w, scaled, b, col + 1, p.n)));
    }
}

template <typename X, typename W, int scaled> DEVICE void work(const gemm_plain_params &p)
{
    __shared__ __align__(16) uint16_t xs[TILE * PITCH / 2], ws[TILE * PITCH / 2];
    if (p.chain) {
        chain_wait();
        chain_launch();
    }
    for (int64_t t = blockIdx.x; t < p.tiles_m * p.tiles_n * p.batch; t += gridDim.x) tile<X, W, scaled>(p, t, xs, ws);
}

#define KERNEL(name, X, W, scaled)                                                    \
    extern "C" __global__ void __launch_bounds__(PLAIN_THREADS)                       \
    gemm_plain_##name(const __grid_constant__ gemm_plain_params p) { work<X, W, scaled>(p); }
KERNEL(f8, uint8_t, uint8_t, 0)
KERNEL(f8_scaled, uint8_t, uint8_t, 1)
KERNEL(bf16, uint16_t, uint16_t, 0)
KERNEL(w8, uint16_t, uint8_t, 0)
KERNEL(w8_scaled, uint16_t, uint8_t, 1)
