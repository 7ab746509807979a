/* norm_quant_sm90.h - what the Hopper kernels of norm_quant are told. */
#ifndef OCTAVO_NORM_QUANT_SM90_H
#define OCTAVO_NORM_QUANT_SM90_H
#include "isa/sm90/rows.h"

typedef struct norm_params {
    rows_out out;
    const char *x, *residual;
    char *residual_out;
    const void *weight;
    int64_t m, k, ldx, ld_residual, ld_residual_out;
    double inv_k; /* 1 / k */
    float eps;
    int32_t x_bf16, residual_bf16, weight_bf16; /* types */
    int32_t wide;                               /* all inputs and residual_out are aligned to 16 bytes */
} norm_params;

/* X(threads, units a thread, CTAs an SM): rows of up to 16 times threads and units. A bf16 residual needs residual_out here:
 * without it h is not rounded. */
#define NORM_ROW_KERNELS(X) X(128, 1, 6) X(512, 1, 2) X(512, 2, 1)
#define NORM_BF16_KERNELS(X) X(128, 1, 8) X(512, 1, 3) X(512, 2, 2)
enum { NORM_LOOP_THREADS = 512 };
#endif
