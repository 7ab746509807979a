/* quant_sm90.h - what the Hopper kernels of quant are told. */
#ifndef OCTAVO_QUANT_SM90_H
#define OCTAVO_QUANT_SM90_H
#include <stdint.h>

typedef struct quant_params {
    const char *x;
    uint8_t *y;
    float *scale;
    const float *ub;
    float *partial;               /* of a large scope: maxima, one a CTA; of columns: [parts][k] */
    float *factor;                /* of columns: [k], what x is multiplied with (eps) or divided by */
    int64_t m, k, ldx, ldy;
    int64_t bm, bk;               /* a scope: at most bm rows and bk columns */
    int64_t cols;                 /* scopes beside each other */
    int64_t scale_row, scale_col; /* where the scale of scope (r, c) lies: r scale_row + c scale_col */
    int64_t scopes;
    int64_t across;               /* large: chunks of a row; columns: strips */
    uint64_t magic;               /* ceil(2^32 / units): row of a unit in its scope */
    int32_t units;                /* of a scope's row; of the packed matrix's row, a multiple of lanes, for small scopes */
    int32_t lanes;                /* small scopes: threads of one, a power of two */
    int32_t eps, given, wide;     /* rule, SCALE_GIVEN, rows aligned for 16-byte accesses */
    int32_t step;                 /* 1, or where rows are not wide: between a thread's elements, see load_unit */
    int32_t parts;                /* CTAs that found maxima; of columns: in each strip */
} quant_params;

/* X(threads at most, units of 16 elements a thread, CTAs an SM for f32, for bf16 and f16) */
#define QUANT_SCOPE_KERNELS(X) X(512, 1, 3, 4) X(1024, 1, 1, 2)
enum {
    QUANT_SCOPE_UNITS = 1024,                            /* what a CTA can hold */
    QUANT_CLUSTER_UNITS = 1024, QUANT_MAX_CLUSTER = 8,   /* a CTA of a cluster; CTAs of a cluster */
    QUANT_SMALL_THREADS = 256, QUANT_SMALL_COLUMNS = 512,
    QUANT_LARGE_THREADS = 512, QUANT_LARGE_PARTS = 1024,
    QUANT_STRIP = 512, QUANT_STRIP_WARPS = 8,            /* columns: of a CTA, a unit a thread; rows that it takes at once */
    QUANT_STRIP_ROWS = 32,                               /* of a CTA that makes codes */
    QUANT_COL_SMALL_ROWS = 64                            /* what a CTA can hold */
};
#endif
