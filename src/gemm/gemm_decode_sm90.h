/* gemm_decode_sm90.h - what host and device side of the decode GEMM share: the kernel's parameter and its geometry. */
#ifndef OCTAVO_GEMM_DECODE_SM90_H
#define OCTAVO_GEMM_DECODE_SM90_H
#include "gemm/gemm_sm90.h"

enum {
    DECODE_ROWS = 64,  /* rows of w a CTA */
    DECODE_BLOCKS = 2, /* blocks of 128 bytes of w's k in a stage */
    DECODE_GROUPS = 2, /* warpgroups, which take the blocks of a stage in turn */
    DECODE_THREADS = 128 * DECODE_GROUPS + 64,
    DECODE_SUM_PITCH = DECODE_ROWS + 4 /* floats of a token's sums, so that a warp's stores meet different banks */
};

typedef struct gemm_decode_params {
    oct_tensor_map w, x;    /* [batch][k blocks][rows][bytes]; see w_flat */
    int32_t stages, steps;  /* stages that shared memory holds, and that k makes */
    int32_t log_split;      /* a cluster of 2^log_split CTAs cuts k, */
    int32_t log_share;      /* or one of 2^log_share has neighbouring rows and the same x */
    int32_t w_flat, x_flat; /* elements of 128 bytes when a row of k is no multiple, and the map is [batch][1][rows][k] */
    int32_t w_shared;       /* 1: all batches have one w */
    int32_t chain;          /* 1: launched programmatically; 2: and lets the next kernel start once the ring is full */
    int32_t n, m, token_tiles;
    int32_t k_blocks;       /* blocks of 128 k that have scales */
    gemm_output out;
    gemm_scales scales;
} gemm_decode_params;

/* Shared memory: the ring; sums, over the drained ring unless CTAs of a cluster write them; barriers; scales and biases. */
static inline int32_t decode_stage_bytes(int32_t tokens, int32_t wide_x, int32_t scaled)
{
    return DECODE_BLOCKS * 128 * (DECODE_ROWS + tokens * (wide_x ? 2 : 1)) + (scaled ? DECODE_BLOCKS * (tokens + 4) * 4 : 0);
}
static inline int32_t decode_sums_bytes(int32_t tokens, int32_t split)
{
    return split ? tokens * DECODE_ROWS * 4 : DECODE_GROUPS * tokens * DECODE_SUM_PITCH * 4;
}
static inline int32_t decode_other_bytes(int32_t tokens, int32_t stages) { return 16 * stages + 16 + (2 * DECODE_ROWS + tokens) * 4; }
#endif
