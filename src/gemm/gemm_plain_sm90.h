/* gemm_plain_sm90.h - what host and device side of the plain GEMM share. */
#ifndef OCTAVO_GEMM_PLAIN_SM90_H
#define OCTAVO_GEMM_PLAIN_SM90_H
#include "gemm/gemm_sm90.h"

enum { PLAIN_TILE = 64, PLAIN_THREADS = 256 };

typedef struct gemm_plain_params {
    const void *x, *w;
    int64_t ldx, stride_x, ldw, stride_w;
    gemm_output out;
    gemm_scales scales;
    int64_t m, n, k, batch;
    int64_t tiles_m, tiles_n;
    int32_t chain, unused;
} gemm_plain_params;
#endif
