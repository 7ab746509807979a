/* kv_dequant_avx2.c - a row at a time through f32 on the stack; zeros behind a lane's end. */
#include "core/core.h"
#include "core/kernel.h"
#include "isa/avx2/kv.h"

int oct_kv_dequant_avx2_fits(const oct_kv_dequant_args *a, oct_fit *fit) { (void)a; (void)fit; return 1; }

enum { TOKENS = 16 }; /* of a task */

typedef struct job {
    const oct_kv_dequant_args *a;
    oct_kv kv;
    int64_t blocks; /* of a lane */
} job;

/* n values to y with the canonical NaN. */
INLINE void put(void *y, int32_t dtype, int64_t at, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        if (dtype == OCT_BF16) {
            store_first((uint16_t *)y + at + i, OCT_BF16, 0, v, n - i);
            continue;
        }
        v = _mm256_blendv_ps(v, _mm256_set1_ps(__builtin_nanf("")), _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        if (n - i >= 8) _mm256_storeu_ps((float *)y + at + i, v);
        else _mm256_maskstore_ps((float *)y + at + i, first_lanes(n - i), v);
    }
}

static void task(void *p, int64_t i)
{
    const job *j = p;
    const oct_kv *kv = &j->kv;
    const oct_kv_dequant_args *a = j->a;
    const int64_t b = i / j->blocks, from = i % j->blocks * TOKENS, to = oct_min(a->max_t, from + TOKENS);
    void *const out[2] = { a->k_out, a->v_out }, *const data[2] = { kv->k, kv->v };
    float x[OCT_MAX_D + 8];
    for (int64_t t = from; t < to; t++) {
        const int64_t row = t < a->len[b] ? oct_kv_offset(kv, oct_kv_page(kv, b, t), t, 0) : -1;
        const int64_t at = b * a->lane_out + t * a->token_out;
        if (row < 0) memset(x, 0, (size_t)kv->d * sizeof *x);
        for (int w = 0; w < 2; w++)
            for (int64_t h = 0; out[w] && h < kv->heads; h++) {
                if (row >= 0) kv_load_row(kv, (const uint8_t *)data[w] + row + h * kv->head_bytes, 0, kv->d, x);
                put(out[w], a->y_dtype, at + h * a->head_out, x, kv->d);
            }
    }
}

oct_status oct_kv_dequant_avx2(const oct_kv_dequant_args *a)
{
    job j = { a, oct_kv_full(a->kv), oct_cdiv(a->max_t, TOKENS) };
    oct_parallel(&a->on, j.kv.lanes * j.blocks, task, &j);
    return OCT_OK;
}
