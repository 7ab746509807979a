/* silu_mul_quant_sm90.h - what the Hopper kernels of silu_mul_quant are told. */
#ifndef OCTAVO_SILU_MUL_QUANT_SM90_H
#define OCTAVO_SILU_MUL_QUANT_SM90_H
#include "isa/sm90/rows.h"

typedef struct silu_params {
    rows_out out;
    const char *gate, *up;
    int64_t m, k, ld_gate, ld_up;
    int64_t units;      /* flat: of a row, groups filled up to whole lanes */
    int32_t bf16, wide; /* of gate and up */
} silu_params;

/* X(threads, units a thread, CTAs an SM for f32, for bf16): rows of up to 16 times threads and units */
#define SILU_ROW_KERNELS(X) X(128, 1, 8, 8) X(512, 1, 2, 3) X(512, 2, 1, 2) X(512, 4, 1, 1)
enum { SILU_FLAT_THREADS = 256, SILU_LOOP_THREADS = 512 };
#endif
