/* gemm_sm90.h - what host and device sides of all Hopper GEMMs share. */
#ifndef OCTAVO_GEMM_SM90_H
#define OCTAVO_GEMM_SM90_H
#include <stdint.h>

#ifdef OCTAVO_CORE_CUDA_H
/* host: oct_tensor_map is core's */
#else
typedef struct oct_tensor_map { alignas(64) uint64_t words[16]; } oct_tensor_map;
#endif

/* Where results go. */
typedef struct gemm_output {
    void *y;
    const void *bias; /* or NULL */
    int64_t ldy, stride_y, stride_bias;
    int32_t y_bf16, bias_bf16;
    int32_t pairs, quads; /* 1: 2 or 4 neighbouring columns, from a multiple on, may be stored at once */
} gemm_output;

/* Scale of row r and k block kb in batch b: p[b batch + (r >> shift) row + kb block], or 1 when p is NULL. */
typedef struct gemm_scale {
    const float *p;
    int64_t batch, row, block;
    int32_t shift, unused;
} gemm_scale;
typedef struct gemm_scales { gemm_scale x, w; } gemm_scales;
#endif
