/* gemm_rows.h - which rows of x and y a problem has: a batch, a part of a batch, or a group of stacked rows. */
#ifndef OCTAVO_GEMM_GEMM_ROWS_H
#define OCTAVO_GEMM_GEMM_ROWS_H
#include "core/core.h"
#include <string.h>

/* Of prepared args. Without rows of y there is no difference. */
static inline int gemm_stacked(const oct_gemm_args *a) { return a->groups && !a->stride_y; }

/* Rows of x that a problem has on average, rounded up. */
static inline int64_t gemm_mean_rows(const oct_gemm_args *a) { return gemm_stacked(a) && a->m ? (a->m - 1) / a->groups + 1 : a->m; }

typedef struct gemm_rows { int64_t first, end; } gemm_rows;
/* Those of batch b, or of group b behind the groups before it; sizes are cut at 0 and where m ends. */
static inline gemm_rows gemm_rows_of(const oct_gemm_args *a, int64_t b)
{
    gemm_rows r = { 0, a->groups ? 0 : a->m };
    if (!a->groups || !a->m) return r;
    for (int64_t g = gemm_stacked(a) ? 0 : b; g <= b; g++) {
        r.first = r.end;
        r.end += oct_max(0, oct_min(a->m_sizes[g], a->m - r.end));
    }
    return r;
}
/* Whose scales of x: those of stacked rows stand where the rows do. */
static inline int64_t gemm_x_scale_batch(const oct_gemm_args *a, int64_t b) { return gemm_stacked(a) && a->scaling != OCT_SCALE_TENSOR ? 0 : b; }

/* a for rows r: where MN_MAJOR scales of stacked rows are a matrix a group, m and x_scale become those of the group, so that
 * row i of x, counted from the first of all, has its scales at kb m + i. */
static inline oct_gemm_args gemm_of_rows(const oct_gemm_args *a, gemm_rows r)
{
    oct_gemm_args one = *a;
    if (!gemm_stacked(a) || !a->x_scale || a->scaling != OCT_SCALE_GROUP || a->scale_layout != OCT_MN_MAJOR || !a->k) return one;
    one.m = r.end - r.first;
    one.x_scale += r.first * (oct_cdiv(a->k, 128) - 1);
    return one;
}

/* With ZERO_REST: the rows of y that no problem has become 0. */
static inline void gemm_zero_rest(const oct_gemm_args *a)
{
    const int64_t bytes = oct_dtype_bits(a->y_dtype) / 8;
    if (!a->groups || !(a->flags & OCT_GEMM_ZERO_REST)) return;
    for (int64_t b = gemm_stacked(a) ? a->groups - 1 : 0; b < a->groups; b++)
        for (int64_t i = gemm_rows_of(a, b).end; i < a->m; i++)
            memset((char *)a->y + (b * a->stride_y + i * a->ldy) * bytes, 0, (size_t)(a->n * bytes));
}
#endif
