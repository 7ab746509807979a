/* rope.c - the angles of rotary position embedding, in double. One place, so that a table and the kernels that work
 * without one have the same bits. */
#include "core/core.h"
#include <math.h>

/* Frequency f_j of octavo.h. */
static double frequency(const oct_rope *r, int64_t d, int64_t j)
{
    const double f = pow((double)r->theta, -2.0 * (double)j / (double)d), wl = 2.0 * 3.14159265358979323846 / f;
    const double old = (double)r->old_context, lo = (double)r->low_freq, hi = (double)r->high_freq;
    if (!r->scaling || wl < old / hi) return f;
    if (wl > old / lo) return f / (double)r->factor;
    const double s = (old / wl - lo) / (hi - lo);
    return (1.0 - s) * f / (double)r->factor + s * f;
}

void oct_rope_row(const oct_rope *r, int64_t d, int64_t pos, float *row)
{
    for (int64_t j = 0; j < d / 2; j++) {
        const double angle = (double)pos * frequency(r, d, j);
        row[j] = (float)cos(angle);
        row[d / 2 + j] = (float)sin(angle);
    }
}

oct_status oct_rope_check(const char *op, const oct_rope *r)
{
    if (!(r->theta > 0) || isinf(r->theta)) return oct_fail(OCT_E_VALUE, "%s: rope.theta is %g; it must be positive", op, (double)r->theta);
    if (r->scaling != 0 && r->scaling != 1)
        return oct_fail(OCT_E_VALUE, "%s: rope.scaling is %d; supported: plain (0), Llama 3.1 (1)", op, r->scaling);
    if (r->scaling && !(r->factor > 0 && r->low_freq > 0 && r->high_freq > r->low_freq && r->old_context > 0))
        return oct_fail(OCT_E_VALUE, "%s: rope.factor %g, low_freq %g < high_freq %g and old_context %g must be positive", op,
                        (double)r->factor, (double)r->low_freq, (double)r->high_freq, (double)r->old_context);
    return OCT_OK;
}

oct_status oct_rope_table(const oct_rope *rope, int64_t d, int64_t first, int64_t n, float *table)
{
    if (!rope) return oct_fail(OCT_E_NULL, "rope_table: rope is NULL");
    OCT_TRY(oct_rope_check("rope_table", rope));
    OCT_TRY(oct_check_extent("rope_table", "d", d, 2));
    OCT_TRY(oct_check_extent("rope_table", "first", first, 0));
    OCT_TRY(oct_check_extent("rope_table", "n", n, 0));
    if (d % 2) return oct_fail(OCT_E_SHAPE, "rope_table: d is %lld; it must be even", (long long)d);
    if (oct_mul(oct_mul(n, d), 4) < 0 || first > INT64_MAX - n)
        return oct_fail(OCT_E_SHAPE, "rope_table: %lld positions of %lld overflow 64 bits", (long long)n, (long long)d);
    if (n && !table) return oct_fail(OCT_E_NULL, "rope_table: table is NULL");
    const uint32_t saved = oct_fp_enter();
    for (int64_t j = 0; j < d / 2; j++) {
        const double f = frequency(rope, d, j);
        for (int64_t p = 0; p < n; p++) {
            table[p * d + j] = (float)cos((double)(first + p) * f);
            table[p * d + d / 2 + j] = (float)sin((double)(first + p) * f);
        }
    }
    oct_fp_leave(saved);
    return OCT_OK;
}
