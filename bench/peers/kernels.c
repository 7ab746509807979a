/* kernels.c - octavo's kernels beside plain C loops (plain_*.c, compiled with -O3 -march=native) and the limits of the
 * machine, all in one run, in turns, one thread. The best of all rounds counts; what is printed are ratios.
 *
 *   peer_kernels [SECONDS]     (default 30) */
#define _GNU_SOURCE
#include "octavo.h"
#include "plain.h"
#include "tests/check.h" /* ck_read_once, ck_fma_once */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { N = 4096, K = 4096, SETS = 12, M512 = 512, QM = 2048, T = 4096, H = 8, D = 128, LANES = 16 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *memory(int64_t bytes)
{
    void *p = mmap(0, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) { perror("peer_kernels"); exit(1); }
    return p;
}

static uint64_t state = 88172645463325252ULL;
static uint64_t next(void) { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return state; }
static float normal(void) /* near enough: the sum of four uniforms */
{
    const uint64_t r = next();
    float x = -2;
    for (int i = 0; i < 4; i++) x += (float)(r >> 16 * i & 0xffff) * 0x1p-16f;
    return x;
}
static void fill_bf16(uint16_t *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float x = normal();
        uint32_t u;
        memcpy(&u, &x, 4);
        p[i] = (uint16_t)(u >> 16);
    }
}
static void fill_f8(uint8_t *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const uint8_t c = (uint8_t)(next() >> 30);
        p[i] = (c & 0x7f) == 0x7f ? 0x38 : c;
    }
}
static void must(oct_status s)
{
    if (s == OCT_OK) return;
    fprintf(stderr, "peer_kernels: %s\n", oct_error_text());
    exit(1);
}

/* ---- What is timed ---- */

static const oct_on one = { .threads = 1 };
static uint8_t *w[SETS], *x8, *codes;
static uint16_t *xb[SETS / 2], *q, *y, *kb, *vb;
static float *sx, *sw, *scales;
static void *scratch;
static int64_t scratch_bytes;
static int turn;

static void gemm(int64_t m, int64_t n)
{
    oct_gemm_args a = { .size = sizeof a, .on = one, .scaling = OCT_SCALE_ROW, .m = m, .n = n, .k = K, .x = x8, .x_dtype = OCT_F8E4M3FN,
                        .w = w[turn++ % SETS], .w_dtype = OCT_F8E4M3FN, .x_scale = sx, .w_scale = sw, .y = y, .y_dtype = OCT_BF16 };
    a.on.scratch = scratch;
    a.on.scratch_bytes = scratch_bytes;
    must(oct_gemm(&a));
}
static void run_read(void) { static volatile double sink; sink += ck_read_once(w[turn++ % SETS], (int64_t)N * K); }
static void run_fma(void) { static volatile double sink; sink += ck_fma_once(100000); }
static void run_m1(void) { gemm(1, N); }
static void run_m512(void) { gemm(M512, 512); }
static void run_m1_avx2(void) { oct_cpu_mask(OCT_CPU_AVX2); run_m1(); oct_cpu_mask(~0u); }
static void run_m512_avx2(void) { oct_cpu_mask(OCT_CPU_AVX2); run_m512(); oct_cpu_mask(~0u); }
static void run_plain_quant(void) { plain_quant_row_bf16(xb[turn++ % (SETS / 2)], QM, K, codes, scales); }
static void run_quant(void)
{
    const oct_quant_args a = { .size = sizeof a, .on = one, .scaling = OCT_SCALE_ROW, .m = QM, .k = K, .x = xb[turn++ % (SETS / 2)],
                               .x_dtype = OCT_BF16, .y = codes, .y_dtype = OCT_F8E4M3FN, .scale = scales };
    must(oct_quant(&a));
}
static oct_kv caches[3];
static int32_t lens[LANES];
static void attend(const oct_kv *kv)
{
    oct_attn_args a = { .size = sizeof a, .on = one, .t = LANES, .heads = H, .d = D, .q = q, .q_dtype = OCT_BF16, .y = y, .y_dtype = OCT_BF16,
                        .len = lens, .kv = kv };
    a.on.scratch = scratch;
    a.on.scratch_bytes = scratch_bytes;
    must(oct_attn(&a));
}
static void run_attn_bf16(void) { attend(&caches[0]); }
static void run_attn_f8(void) { attend(&caches[1]); }
static void run_attn_i4(void) { attend(&caches[2]); }
static void run_plain_attn(void)
{
    for (int64_t b = 0; b < LANES; b++)
        plain_attn_bf16(q + b * H * D, kb + b * T * D, vb + b * T * D, H, 1, D, T, y + b * H * D);
}

enum { READ, FMA, GEMM_1, GEMM_512, GEMM_1_BEST, GEMM_512_BEST, PLAIN_QUANT, QUANT, PLAIN_ATTN, ATTN_BF16, ATTN_F8, ATTN_I4, CASES };
static void (*const cases[CASES])(void) = { run_read, run_fma, run_m1_avx2, run_m512_avx2, run_m1, run_m512, run_plain_quant, run_quant, run_plain_attn,
                                            run_attn_bf16, run_attn_f8, run_attn_i4 };

static void make_caches(void)
{
    static const int32_t formats[3] = { OCT_KV_BF16, OCT_KV_F8_TOKEN, OCT_KV_I4 };
    int32_t *lane = memory((int64_t)LANES * T * 4), *pos = memory((int64_t)LANES * T * 4);
    for (int64_t i = 0; i < (int64_t)LANES * T; i++) { lane[i] = (int32_t)(i / T); pos[i] = (int32_t)(i % T); }
    for (int i = 0; i < 3; i++) {
        oct_kv *kv = &caches[i];
        *kv = (oct_kv){ .size = sizeof *kv, .format = formats[i], .heads = 1, .d = D, .pages = LANES, .page_size = T };
        kv->k = i ? memory(oct_kv_bytes(kv)) : (void *)kb;
        kv->v = i ? memory(oct_kv_bytes(kv)) : (void *)vb;
        if (!i) continue;
        const oct_rope_kv_args a = { .size = sizeof a, .pairs = OCT_ROPE_NONE, .t = (int64_t)LANES * T, .heads = H, .d = D, .k = kb, .v = vb,
                                     .dtype = OCT_BF16, .pos = pos, .lane = lane, .kv = kv };
        must(oct_rope_kv(&a));
    }
}

int main(int argc, char **argv)
{
    const double seconds = argc > 1 ? atof(argv[1]) : 30;
    double best[CASES];
    for (int i = 0; i < SETS; i++) fill_f8(w[i] = memory((int64_t)N * K), (int64_t)N * K);
    for (int i = 0; i < SETS / 2; i++) fill_bf16(xb[i] = memory((int64_t)QM * K * 2), (int64_t)QM * K);
    fill_f8(x8 = memory((int64_t)M512 * K), (int64_t)M512 * K);
    fill_bf16(q = memory(LANES * H * D * 2), LANES * H * D);
    fill_bf16(kb = memory((int64_t)LANES * T * D * 2), (int64_t)LANES * T * D);
    fill_bf16(vb = memory((int64_t)LANES * T * D * 2), (int64_t)LANES * T * D);
    y = memory((int64_t)M512 * N * 2);
    codes = memory((int64_t)QM * K);
    scales = memory(N * 4);
    sx = memory(N * 4);
    sw = memory(N * 4);
    for (int i = 0; i < N; i++) sx[i] = sw[i] = 1.0f / 448;
    for (int i = 0; i < LANES; i++) lens[i] = T;
    make_caches();
    const oct_gemm_args most = { .size = sizeof most, .scaling = OCT_SCALE_ROW, .m = M512, .n = N, .k = K, .x_dtype = OCT_F8E4M3FN,
                                 .w_dtype = OCT_F8E4M3FN, .y_dtype = OCT_BF16 };
    const oct_attn_args attn = { .size = sizeof attn, .t = LANES, .heads = H, .d = D, .q_dtype = OCT_BF16, .y_dtype = OCT_BF16, .kv = &caches[0] };
    for (int best_row = 0; best_row < 2; best_row++) { /* on AVX2, and the best row here */
        oct_cpu_mask(best_row ? ~0u : OCT_CPU_AVX2);
        if (oct_gemm_scratch(&most) > scratch_bytes) scratch_bytes = oct_gemm_scratch(&most);
    }
    if (oct_attn_scratch(&attn) > scratch_bytes) scratch_bytes = oct_attn_scratch(&attn);
    scratch = memory(scratch_bytes + 4096);
    for (int i = 0; i < CASES; i++) { cases[i](); best[i] = INFINITY; }
    int rounds = 0;
    for (const double end = now() + seconds; now() < end || rounds < 3; rounds++)
        for (int i = 0; i < CASES; i++) {
            const double t = now();
            cases[i]();
            const double d = now() - t;
            if (d < best[i]) best[i] = d;
        }
    const double read = (double)N * K / best[READ], fma = 224e5 / best[FMA];
    printf("%d rounds. Reading memory %.1f GB/s, f32 FMA %.1f GF/s\n\n%-44s %10s %8s\n", rounds, read * 1e-9, fma * 1e-9, "one thread", "ratio", "floor");
    printf("%-44s %10.2f %8.2f\n", "FP8 GEMM M=1 4096x4096 on AVX2, of reading", (double)N * K / best[GEMM_1] / read, 0.6);
    printf("%-44s %10.2f %8.2f\n", "FP8 GEMM M=512 512x4096 on AVX2, of its FMA", 2.0 * M512 * 512 * K / best[GEMM_512] / fma, 0.8);
    printf("%-44s %10.2f\n", "  M=1, the best row here", (double)N * K / best[GEMM_1_BEST] / read);
    printf("%-44s %10.2f\n", "  M=512, the best row here", 2.0 * M512 * 512 * K / best[GEMM_512_BEST] / fma);
    printf("%-44s %10.2f %8.2f\n", "row quantize bf16 2048x4096, of a plain loop", best[PLAIN_QUANT] / best[QUANT], 1.3);
    printf("%-44s %10.2f %8.2f\n", "attention 16 x 8 heads, 4096 tokens, bf16", best[PLAIN_ATTN] / best[ATTN_BF16], 2.0);
    printf("%-44s %10.2f\n%-44s %10.2f\n", "  FP8 cache, of the plain loop on bf16", best[PLAIN_ATTN] / best[ATTN_F8],
           "  INT4 cache, of the plain loop on bf16", best[PLAIN_ATTN] / best[ATTN_I4]);
    return 0;
}
