/* gemm_rows.h - which rows of x and y a batch has. */
#ifndef OCTAVO_GEMM_GEMM_ROWS_H
#define OCTAVO_GEMM_GEMM_ROWS_H
#include "core/core.h"

typedef struct gemm_rows { int64_t first, end; } gemm_rows;
/* All, or those of group b, one after another; sizes are cut at 0 and where m ends. */
static inline gemm_rows gemm_rows_of(const oct_gemm_args *a, int64_t b)
{
    gemm_rows r = { 0, a->groups ? 0 : a->m };
    for (int64_t g = 0; a->groups && a->m && g <= b; g++) {
        r.first = r.end;
        r.end += oct_max(0, oct_min(a->m_sizes[g], a->m - r.end));
    }
    return r;
}
/* Whose scales of x: those of a group's rows stand where the rows do. */
static inline int64_t gemm_x_scale_batch(const oct_gemm_args *a, int64_t b) { return a->groups && a->scaling != OCT_SCALE_TENSOR ? 0 : b; }
#endif
