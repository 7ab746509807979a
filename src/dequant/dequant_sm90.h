/* dequant_sm90.h - what the Hopper kernels of dequant are told. */
#ifndef OCTAVO_DEQUANT_SM90_H
#define OCTAVO_DEQUANT_SM90_H
#include <stdint.h>

typedef struct dequant_params {
    const uint8_t *x;
    char *y;
    const float *scale;           /* NULL: 1 */
    int64_t m, k, ldx, ldy;
    int64_t bm, bk;               /* rows and columns that share a scale */
    int64_t scale_row, scale_col; /* where the scale of scope (r, c) lies */
    int64_t vectors;              /* of a row */
    uint64_t magic;               /* ceil(2^64 / vectors) for vectors > 1: the row of a vector, by a product's high word */
    int32_t wide;                 /* vectors are aligned and no scale changes in one */
    int32_t one_row, one_col;     /* a single scope that way: no division */
} dequant_params;

enum { DEQUANT_THREADS = 256, DEQUANT_VECTORS = 4 }; /* of a thread */
#endif
