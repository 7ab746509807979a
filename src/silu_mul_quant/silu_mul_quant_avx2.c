/* silu_mul_quant_avx2.c - a row at a time: the products into a buffer, then rounding or codes. */
#include "core/core.h"
#include "core/kernel.h"
#include "isa/avx2/math.h"
#include "isa/avx2/rows.h"

int oct_silu_mul_quant_avx2_fits(const oct_silu_mul_quant_args *a, oct_fit *fit)
{
    (void)a;
    (void)fit;
    return 1;
}

/* gate / (1 + exp(-gate)) up. With e = exp(-|gate|), which never overflows, the sigmoid is 1 / (1 + e), or e / (1 + e)
 * for a negative gate. A gate of -infinity becomes the lowest finite number there: times 0 that is -0, not NaN. */
INLINE __m256 silu_mul(__m256 gate, __m256 up)
{
    const __m256 one = _mm256_set1_ps(1), e = exp_nonpositive(_mm256_or_ps(gate, _mm256_set1_ps(-0.0f)));
    const __m256 sigmoid = _mm256_div_ps(_mm256_blendv_ps(one, e, gate), _mm256_add_ps(one, e));
    return _mm256_mul_ps(_mm256_mul_ps(_mm256_max_ps(_mm256_set1_ps(-0x1.fffffep127f), gate), sigmoid), up);
}

INLINE void fill_typed(const oct_silu_mul_quant_args *a, int32_t dtype, int64_t i, int64_t j, int64_t n, float *v)
{
    const stream gate = stream_of(a->gate, dtype, i, a->m, a->ld_gate), up = stream_of(a->up, dtype, i, a->m, a->ld_up);
    int64_t e = 0;
    for (; e + 8 <= n; e += 8)
        _mm256_storeu_ps(v + e, silu_mul(stream_load(&gate, dtype, j + e, 8), stream_load(&up, dtype, j + e, 8)));
    if (e == n) return;
    const __m256 y = silu_mul(stream_load(&gate, dtype, j + e, n - e), stream_load(&up, dtype, j + e, n - e));
    _mm256_maskstore_ps(v + e, first_lanes(n - e), y);
}
static void fill(const void *ctx, int64_t i, int64_t j, int64_t n, float *v)
{
    const oct_silu_mul_quant_args *a = ctx;
    if (a->x_dtype == OCT_BF16) fill_typed(a, OCT_BF16, i, j, n, v);
    else fill_typed(a, OCT_F32, i, j, n, v);
}

enum { TASK = 1 << 15 }; /* elements: with fewer, another thread costs more than it gives */

static int64_t rows_of_task(const oct_silu_mul_quant_args *a) { return oct_max(1, TASK / oct_max(a->k, 1)); }

static void rows(void *p, int64_t task)
{
    const oct_silu_mul_quant_args *a = p;
    const row_out o = ROW_OUT(a);
    const int64_t n = rows_of_task(a);
    _Alignas(32) float buf[ROW_BUF];
    for (int64_t i = task * n; i < oct_min(a->m, (task + 1) * n); i++) write_row(&o, i, buf, fill, a);
}

oct_status oct_silu_mul_quant_avx2(const oct_silu_mul_quant_args *a)
{
    oct_parallel(&a->on, oct_cdiv(a->m, rows_of_task(a)), rows, (void *)a);
    return OCT_OK;
}
