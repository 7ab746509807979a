/* bench_case.h - the inside of a bench: shared by bench.c and bench_cuda.c. */
#ifndef OCTAVO_TESTS_BENCH_CASE_H
#define OCTAVO_TESTS_BENCH_CASE_H
#include "bench_svg.h"
#include "check_case.h"
#include <stdio.h>

struct ck_bench {
    const ck_op *op;
    const ck_options *o;
    struct { void *p; size_t n; } mem[512];
    int mem_count;
    uint64_t rng;
    const char *big; /* what the read limit reads */
    int64_t at;
    FILE *csv;
    ck_svg *svg;
    int gpu;         /* memory and rows of the device */
};

typedef union ck_args {
    int64_t size;
#define O(op, args) args op##_;
#include "ops.def"
#undef O
} ck_args;

/* bench_cuda.c */
void *ck_gpu_bench_mem(int64_t bytes);
void ck_gpu_bench_free(void *p);
void ck_gpu_bench_fill(ck_bench *b, void *p, int32_t dtype, int64_t n, float scale);
/* Runs the script and keeps its figures for ck_gpu_time; 0 when it cannot be run. */
int ck_gpu_peers(const char *script, const char *shape);
void ck_gpu_time(ck_bench *b, const char *shape, double bytes, double flops, int n, void *const *args);
#endif
