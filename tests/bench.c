/* bench.c - times every row on its op's shapes, interleaved round by round with the limits of the machine. */
#define _GNU_SOURCE
#include "bench_case.h"
#include "check_cuda.h"
#include "core/core.h"
#include "core/num/bf16.h"
#include "core/num/f8.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MAX_ROUNDS = 400, MAX_ROWS = 8, READ_BYTES = 96 << 20, FMA_N = 200000 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void *ck_bench_mem(ck_bench *b, int64_t bytes)
{
    const size_t n = (size_t)(bytes ? bytes : 1);
    const int room = (int)(sizeof b->mem / sizeof *b->mem);
    void *p = b->gpu ? ck_gpu_bench_mem(bytes) : mmap(0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || b->mem_count == room) {
        fprintf(stderr, "bench: no memory for %lld bytes\n", (long long)bytes);
        exit(1);
    }
    if (!b->gpu) memset(p, 1, n);
    b->mem[b->mem_count].p = p;
    b->mem[b->mem_count++].n = n;
    return p;
}

void ck_bench_fill(ck_bench *b, void *p, int32_t dtype, int64_t n, float scale)
{
    if (b->gpu) {
        ck_gpu_bench_fill(b, p, dtype, n, scale);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float x = 0; /* near normal: the sum of four uniforms */
        b->rng ^= b->rng << 13; b->rng ^= b->rng >> 7; b->rng ^= b->rng << 17;
        for (int j = 0; j < 4; j++) x += (float)(b->rng >> (16 * j) & 0xffff) * 0x1p-16f - 0.5f;
        x *= scale;
        if (dtype == OCT_F32) ((float *)p)[i] = x;
        else if (dtype == OCT_BF16) ((uint16_t *)p)[i] = oct_bf16_from_f32(x);
        else if (dtype == OCT_F16) ((uint16_t *)p)[i] = oct_f16_from_f32(x);
        else ((uint8_t *)p)[i] = oct_f8e4m3fn_from_f32(x * 100);
    }
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The read limit takes the next 8 MiB of a block larger than the caches, with as many threads as the kernels. */
static _Thread_local volatile double sink; /* keeps the work from being optimised away */
typedef struct span_job { const char *p; int64_t part; } span_job;
static void read_part(void *p, int64_t i)
{
    const span_job *j = p;
    sink += ck_read_once(j->p + i * j->part, j->part);
}
static void fma_part(void *p, int64_t i)
{
    (void)p; (void)i;
    sink += ck_fma_once(FMA_N);
}
static void pairs_part(void *p, int64_t i)
{
    (void)p; (void)i;
    sink += ck_pairs_once(FMA_N);
}
static double time_read(ck_bench *b, const oct_on *on)
{
    enum { SPAN = 8 << 20 };
    const int parts = b->o->threads;
    span_job j = { b->big + b->at, SPAN };
    b->at = (b->at + (int64_t)SPAN * parts) % (READ_BYTES - (int64_t)SPAN * parts);
    const double t = now();
    oct_parallel(on, parts, read_part, &j);
    return (double)SPAN * parts / (now() - t);
}
static double time_sums(ck_bench *b, const oct_on *on, oct_body *part, double flops)
{
    const double t = now();
    oct_parallel(on, b->o->threads, part, 0);
    return flops * FMA_N * b->o->threads / (now() - t);
}

/* What arithmetic is held against: f32 FMA of AVX2, or, for a row that has it, products of bf16 pairs. */
enum { FMA, PAIRS, SUMS };
static int sums_of(const oct_row *r) { return r->needs & OCT_CPU_AVX512_BF16 ? PAIRS : FMA; }

void ck_time(ck_bench *b, const char *shape, double bytes, double flops, int n, void *const *args)
{
    if (b->o->shape && !strstr(shape, b->o->shape)) return;
    if (b->gpu) {
        ck_gpu_time(b, shape, bytes, flops, n, args);
        return;
    }
    const oct_row *rows[MAX_ROWS];
    double *t[MAX_ROWS], read = 0, sums[SUMS] = { 0, 0 };
    int count = 0, turn = 0, rounds = 0;
    const oct_on on = { .threads = b->o->threads };
    ck_args full;
    for (int i = 0; i < n; i++) {
        oct_on *p = (oct_on *)((char *)args[i] + b->op->op->on_offset);
        *p = on;
    }
    int64_t most = 0;
    for (int i = 0; i < oct_row_count && count < MAX_ROWS; i++) {
        int64_t scratch;
        const oct_row *r = &oct_rows[i];
        if (r->op != b->op->op->op || (b->o->filter && !strstr(r->name, b->o->filter))) continue;
        if (oct_row_device(r) != OCT_CPU || (r->needs & oct_cpu_features()) != r->needs) continue;
        if (b->o->backend && strcmp(r->backend, b->o->backend)) continue;
        if (oct_op_run_row(b->op->op, r, args[0], &full, &scratch) != OCT_OK) continue;
        if (!strcmp(r->backend, "ref") && bytes + flops > 4e7) continue; /* scalar double: seconds a call */
        most = oct_max(most, scratch);
        rows[count] = r;
        t[count++] = malloc(MAX_ROUNDS * sizeof(double));
    }
    void *scratch = most ? ck_bench_mem(b, most) : 0;
    for (int i = 0; i < n; i++) {
        oct_on *p = (oct_on *)((char *)args[i] + b->op->op->on_offset);
        p->scratch = scratch;
        p->scratch_bytes = most;
    }
    /* A unit is long enough for the clock and short enough to fall between disturbances. */
    int inner[MAX_ROWS];
    for (int i = 0; i < count; i++) {
        const double t0 = now();
        oct_op_run_row(b->op->op, rows[i], args[0], &full, 0);
        const double one = now() - t0;
        inner[i] = one > 1e-4 ? 1 : (int)(1e-4 / (one + 1e-8)) + 1;
    }
    const double end = now() + b->o->seconds;
    for (; rounds < MAX_ROUNDS && (now() < end || rounds < 5); rounds++) {
        read = fmax(read, time_read(b, &on));
        sums[FMA] = fmax(sums[FMA], time_sums(b, &on, fma_part, 224));
        if (oct_cpu_features() & OCT_CPU_AVX512_BF16) sums[PAIRS] = fmax(sums[PAIRS], time_sums(b, &on, pairs_part, 896));
        for (int i = 0; i < count; i++) {
            const double t0 = now();
            for (int j = 0; j < inner[i]; j++) oct_op_run_row(b->op->op, rows[i], args[turn++ % n], &full, 0);
            t[i][rounds] = (now() - t0) / inner[i];
        }
    }
    double ref = 0;
    for (int i = 0; i < count; i++) {
        qsort(t[i], (size_t)rounds, sizeof **t, by_value);
        if (!strcmp(rows[i]->backend, "ref")) ref = t[i][0];
    }
    for (int i = 0; i < count; i++) {
        const double best = t[i][0], med = t[i][rounds / 2], peak = sums[sums_of(rows[i])], floor_s = fmax(bytes / read, flops / peak);
        const char *bound = bytes / read > flops / peak ? "read" : sums_of(rows[i]) == PAIRS ? "pairs" : "fma";
        char vs[24] = "";
        if (ref > 0) snprintf(vs, sizeof vs, "%.1fx ref", ref / best);
        printf("%-26s %-30s %10.1f us  median %10.1f  %7.2f GB/s %7.2f GF/s  %5.1f %% of %-5s  %s\n", rows[i]->name, shape,
               best * 1e6, med * 1e6, bytes / best * 1e-9, flops / best * 1e-9, 100 * floor_s / best, bound, vs);
        if (b->csv)
            fprintf(b->csv, "%s,%s,%d,%.3f,%.3f,%.4f,%.4f,%s,%.4f,%.4f,%.4f,%.3f\n", rows[i]->name, shape, b->o->threads, best * 1e6,
                    med * 1e6, bytes / best * 1e-9, flops / best * 1e-9, bound, read * 1e-9, peak * 1e-9, floor_s / best,
                    ref > 0 ? ref / best : 0);
        if (b->svg && strcmp(rows[i]->backend, "ref")) ck_svg_bar(b->svg, rows[i]->name, shape, floor_s / best, bound);
        free(t[i]);
    }
}

void ck_bench_drop(ck_bench *b)
{
    while (b->mem_count) {
        b->mem_count--;
        if (b->gpu) ck_gpu_bench_free(b->mem[b->mem_count].p);
        else munmap(b->mem[b->mem_count].p, b->mem[b->mem_count].n);
    }
}

int ck_bench_gpu(const ck_bench *b) { return b->gpu; }

int ck_bench_sets(const ck_bench *b, double bytes)
{
    if (!b->gpu) return 6;
    const double n = 200e6 / bytes + 1; /* three L2 caches and more */
    return n > CK_BENCH_SETS ? CK_BENCH_SETS : n < 2 ? 2 : (int)n;
}

/* A row of the op is wanted, and is for the machine that is timed. */
static int wanted(const ck_bench *b)
{
    for (int i = 0; i < oct_row_count; i++) {
        const oct_row *r = &oct_rows[i];
        if (r->op == b->op->op->op && oct_row_device(r) == (b->gpu ? OCT_CUDA : OCT_CPU) &&
            (!b->o->filter || strstr(r->name, b->o->filter)))
            return 1;
    }
    return 0;
}

int ck_bench_all(const ck_options *o)
{
    ck_bench b = { .o = o, .rng = 88172645463325252ULL };
    if (o->backend && !strcmp(o->backend, "sm90")) {
        if (!ck_gpu_open()) {
            printf("bench: %s\n", oct_error_text());
            return 1;
        }
        b.gpu = 1;
    }
    char *big = mmap(0, READ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (big == MAP_FAILED) return 1;
    memset(big, 1, READ_BYTES);
    b.big = big;
    if (o->csv && !(b.csv = fopen(o->csv, "w"))) { perror(o->csv); return 1; }
    if (o->svg && !(b.svg = ck_svg_open(o->svg))) { perror(o->svg); return 1; }
    const oct_cuda_device *gpu = b.gpu ? oct_cuda_open(0) : 0;
    if (b.csv && gpu)
        fprintf(b.csv, "# %s, %d multiprocessors, %.0f GB, CUDA driver %d.%d\n", gpu->name, gpu->sms, (double)gpu->memory * 1e-9,
                gpu->driver / 1000, gpu->driver % 1000 / 10);
    if (b.csv && gpu) fprintf(b.csv, "kernel,shape,launch,median_us,best_us,worst_us,gb_s,gflop_s,copy_gb_s,of_limit,peer,peer_us,times_peer\n");
    else if (b.csv) fprintf(b.csv, "kernel,shape,threads,best_us,median_us,gb_s,gflop_s,limit,read_gb_s,peak_gflop_s,of_limit,times_ref\n");
    if (b.gpu && o->peers && !ck_gpu_peers(o->peers, o->shape)) printf("bench: no peers: python3 %s failed\n", o->peers);
    if (b.gpu) printf("%s; median of interleaved replays of a graph of rotating buffers\n", gpu->name);
    else printf("%d thread%s; best of interleaved rounds; limits measured in the same rounds\n", o->threads, o->threads > 1 ? "s" : "");
#define O(name, args) { b.op = &ck_##name; if (b.op->bench && wanted(&b)) b.op->bench(&b); ck_bench_drop(&b); }
#include "ops.def"
#undef O
    munmap(big, READ_BYTES);
    if (b.csv && fclose(b.csv)) return 1;
    return b.svg ? ck_svg_close(b.svg) : 0;
}
