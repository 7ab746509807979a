/* rows.h - what norm_quant and silu_mul_quant share: rows of computed values that are rounded, or turned to codes with a
 * scale a row or group. The struct is the part of a kernel's params that describes the output; host and device see it. */
#ifndef OCTAVO_ISA_SM90_ROWS_H
#define OCTAVO_ISA_SM90_ROWS_H
#include <stdint.h>

enum { ROWS_NONE, ROWS_ROW, ROWS_GROUP };      /* scaling */
enum { ROWS_TO_F32, ROWS_TO_BF16, ROWS_TO_F8 }; /* type of y */

typedef struct rows_out {
    char *y;
    float *scale;
    const float *ub;
    int64_t ldy, scale_row, scale_col, bk; /* bk: columns of a group */
    int32_t to, scaling, eps, wide;        /* wide: y's rows are aligned to 16 bytes */
    int32_t lanes;                         /* groups: threads of one, a power of two; 0: bk is not 16 times that */
} rows_out;
#endif
