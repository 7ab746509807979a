/* check_rows.h - STEP for rows of computed values that are rounded, or turned to codes with a scale a row or group:
 * what norm_quant and silu_mul_quant write. */
#ifndef OCTAVO_TESTS_CHECK_ROWS_H
#define OCTAVO_TESTS_CHECK_ROWS_H
#include "check.h"
#include <math.h>
#include <stdlib.h>

typedef struct ck_rows {
    int32_t scaling, rule, layout, dtype;
    int64_t m, k, block_k, ldy, ld_scale;
    const void *y;
    const float *scale;
    const double *v, *bound; /* [m][k]; a NaN bound: anything may stand there */
    float ub;                /* infinity: none */
} ck_rows;
/* Of the args of either op. */
#define CK_ROWS(a, v, bound)                                                                                           \
    { (a).scaling, (a).rule, (a).scale_layout, (a).y_dtype, (a).m, (a).k, (a).block_k, (a).ldy, (a).ld_scale, (a).y, (a).scale, v, bound, \
      (a).scale_ub && *(a).scale_ub == *(a).scale_ub ? *(a).scale_ub : INFINITY }

/* The axis of outputs that both ops have. */
#define CK_ROW_MODES CK_NAMES("y", "f32", "bf16", "row min", "row eps", "group min", "group eps")
static inline void ck_row_mode(int64_t mode, int32_t *scaling, int32_t *rule, int32_t *dtype)
{
    *scaling = mode < 2 ? OCT_SCALE_NONE : mode < 4 ? OCT_SCALE_ROW : OCT_SCALE_GROUP;
    *rule = mode >= 2 && mode % 2;
    *dtype = mode == 0 ? OCT_F32 : mode == 1 ? OCT_BF16 : OCT_F8E4M3FN;
}
/* Extents of the scales; *ld_scale is set for GROUP. */
static inline void ck_row_scales(int32_t scaling, int32_t layout, int64_t m, int64_t k, int64_t block_k, int64_t pad,
                                 int64_t *r, int64_t *s, int64_t *ld_scale)
{
    const int64_t bk = block_k ? block_k : 128, groups = k / bk + (k % bk != 0);
    *r = scaling != OCT_SCALE_GROUP ? 1 : layout == OCT_MN_MAJOR ? groups : m;
    *s = scaling == OCT_SCALE_NONE ? 0 : scaling == OCT_SCALE_ROW || layout == OCT_MN_MAJOR ? m : groups;
    *ld_scale = scaling == OCT_SCALE_GROUP ? *s + pad : 0;
}

static inline int ck_is_canonical(const void *y, int32_t dtype, int64_t at)
{
    if (dtype == OCT_F32) return ((const uint32_t *)y)[at] == 0x7fc00000;
    return dtype == OCT_BF16 ? ((const uint16_t *)y)[at] == 0x7fc0 : ((const uint8_t *)y)[at] == 0x7f;
}
static inline void ck_row_value(ck_case *c, const ck_rows *w, int64_t i, int64_t j, double exact, double bound)
{
    const int64_t at = i * w->ldy + j;
    const double got = ck_value(w->y, w->dtype, at);
    int ok;
    if (bound != bound) return;
    if (exact != exact || got != got) ok = exact != exact && got != got && ck_is_canonical(w->y, w->dtype, at);
    else if (isinf(exact)) ok = got == (w->dtype == OCT_F8E4M3FN ? copysign(448, exact) : exact);
    else ok = ck_within(w->y, w->dtype, at, exact, bound);
    if (!ok) ck_fail(c, "y[%lld,%lld] is %g, want %.9g within %g", (long long)i, (long long)j, got, exact, bound);
}

static inline double ck_row_rule(const ck_rows *w, double amax)
{
    if (w->ub < amax) amax = w->ub;
    return w->rule == OCT_RULE_MIN ? fmax(amax / 448, 1 / (448 * 512.0)) : fmax(amax, (double)1e-12f) / 448;
}

static inline void ck_row_segment(ck_case *c, const ck_rows *w, int64_t i, int64_t j0, int64_t j1, float scale)
{
    const double u = 0x1p-24, s = (double)scale;
    double amax = 0, slack = 0;
    for (int64_t j = j0; j < j1; j++) {
        const double v = w->v[i * w->k + j], b = w->bound[i * w->k + j];
        if (b != b) return;
        if (fabs(v) > amax) amax = fabs(v);
        if (v == v && b > slack) slack = b;
    }
    const double lo = ck_row_rule(w, amax - slack) * (1 - 2.1 * u), hi = ck_row_rule(w, amax + slack) * (1 + 2.1 * u);
    if (!(isinf(lo) ? s == lo : s >= lo && s <= hi))
        ck_fail(c, "scale of row %lld from %lld is %.9g, want %.9g to %.9g", (long long)i, (long long)j0, s, lo, hi);
    for (int64_t j = j0; j < j1; j++) {
        const double v = w->v[i * w->k + j];
        ck_row_value(c, w, i, j, v / s, (w->bound[i * w->k + j] + 3 * u * fabs(v)) / s);
    }
}

static inline void ck_rows_within(ck_case *c, const ck_rows *w)
{
    const int64_t elem = w->dtype == OCT_F32 ? 4 : w->dtype == OCT_BF16 ? 2 : 1, bk = w->block_k ? w->block_k : 128;
    const int64_t step = w->scaling == OCT_SCALE_GROUP ? bk : w->k;
    for (int64_t i = 0; i < w->m; i++) {
        if (w->scaling == OCT_SCALE_NONE)
            for (int64_t j = 0; j < w->k; j++) ck_row_value(c, w, i, j, w->v[i * w->k + j], w->bound[i * w->k + j]);
        else if (w->scaling == OCT_SCALE_ROW) ck_row_segment(c, w, i, 0, w->k, w->scale[i]);
        else
            for (int64_t j = 0, g = 0; j < w->k; g++) {
                const int64_t end = w->k - j < step ? w->k : j + step;
                ck_row_segment(c, w, i, j, end,
                               w->scale[w->layout == OCT_MN_MAJOR ? g * w->ld_scale + i : i * w->ld_scale + g]);
                j = end;
            }
    }
    ck_padding(c, "y", w->y, w->m, w->k, w->ldy, elem);
    ck_compared(c, w->m * w->k);
    if (!w->m || !w->k) ck_compared(c, 1); /* that it ran and touched nothing */
}
#endif
