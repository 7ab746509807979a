/* rows.h - rows of computed values on AVX2, as norm_quant and silu_mul_quant write them: rounded, or turned to codes
 * with a scale a row or group. */
#ifndef OCTAVO_ISA_AVX2_ROWS_H
#define OCTAVO_ISA_AVX2_ROWS_H
#include "isa/avx2/quant.h"

/* Where a row of values goes. With scaling NONE they are rounded to dtype, else to codes with a scale a row or group.
 */
typedef struct row_out {
    int32_t scaling, rule, layout, dtype;
    int64_t k, block_k;
    void *y;
    int64_t ldy;
    float *scale;
    int64_t ld_scale;
    float ub;
} row_out;
#define ROW_OUT(a)                                                                                                     \
    { (a)->scaling,                                                                                                    \
      (a)->rule,                                                                                                       \
      (a)->scale_layout,                                                                                               \
      (a)->y_dtype,                                                                                                    \
      (a)->k,                                                                                                          \
      (a)->block_k,                                                                                                    \
      (a)->y,                                                                                                          \
      (a)->ldy,                                                                                                        \
      (a)->scale,                                                                                                      \
      (a)->ld_scale,                                                                                                   \
      (a)->scale_ub ? *(a)->scale_ub : INFINITY }

enum { ROW_BUF = 8192 }; /* floats of a task's buffer, on its stack */

/* Puts values [j, j + n) of row i into v. A row of k <= ROW_BUF is asked for once, each part at its place in the
 * buffer; a longer one in parts at the buffer's beginning, and twice where an amax has to be known first. */
typedef void row_fill(const void *ctx, int64_t i, int64_t j, int64_t n, float *v);
INLINE float *fill_part(const row_out *o, int64_t i, int64_t j, int64_t n, float *buf, row_fill *fill, const void *ctx)
{
    float *v = o->k <= ROW_BUF ? buf + j : buf;
    fill(ctx, i, j, n, v);
    return v;
}
INLINE int64_t part_of(int64_t j, int64_t end) { return end - j < ROW_BUF ? end - j : ROW_BUF; }

/* [j0, j1) share a scale. */
INLINE void write_codes(const row_out *o, int64_t i, int64_t j0, int64_t j1, float *scale, float *buf, row_fill *fill,
                        const void *ctx)
{
    const float *v = buf;
    amax m = { 0, 0 };
    coder c;
    for (int64_t j = j0; j < j1; j += ROW_BUF) {
        v = fill_part(o, i, j, part_of(j, j1), buf, fill, ctx);
        m = amax_of_both(m, amax_of(v, OCT_F32, part_of(j, j1)));
    }
    *scale = coder_of(o->rule, m, o->ub, &c);
    for (int64_t j = j0; j < j1; j += ROW_BUF) {
        if (j1 - j0 > ROW_BUF) v = fill_part(o, i, j, part_of(j, j1), buf, fill, ctx);
        encode(v, OCT_F32, part_of(j, j1), (uint8_t *)o->y + i * o->ldy + j, &c, (stream){ 0, 0 });
    }
}

INLINE void write_row(const row_out *o, int64_t i, float *buf, row_fill *fill, const void *ctx)
{
    if (o->scaling == OCT_SCALE_ROW) write_codes(o, i, 0, o->k, &o->scale[i], buf, fill, ctx);
    else if (o->scaling == OCT_SCALE_GROUP)
        for (int64_t j = 0, g = 0; j < o->k; j += o->block_k, g++)
            write_codes(o, i, j, o->k - j < o->block_k ? o->k : j + o->block_k,
                        &o->scale[o->layout == OCT_MN_MAJOR ? g * o->ld_scale + i : i * o->ld_scale + g], buf, fill,
                        ctx);
    else
        for (int64_t j = 0; j < o->k; j += ROW_BUF) {
            const float *v = fill_part(o, i, j, part_of(j, o->k), buf, fill, ctx);
            const int64_t n = part_of(j, o->k), at = i * o->ldy + j;
            int64_t e = 0;
            for (; e + 8 <= n; e += 8) store_first(o->y, o->dtype, at + e, _mm256_loadu_ps(v + e), 8);
            if (e < n) store_first(o->y, o->dtype, at + e, load_first(v, OCT_F32, e, n - e), n - e);
        }
}
#endif
