/* dequant_avx2.c - a row at a time, cut where the scale changes. */
#include "core/core.h"
#include "core/kernel.h"
#include "isa/avx2/num.h"

int oct_dequant_avx2_fits(const oct_dequant_args *a, oct_fit *fit)
{
    (void)a;
    (void)fit;
    return 1;
}

/* n <= 8 codes, any scale. */
INLINE void few(const uint8_t *x, void *y, int32_t dtype, int64_t at, int64_t n, __m256 scale)
{
    const __m128i codes = n == 8 ? _mm_loadl_epi64((const __m128i *)x) : load_bytes(x, n);
    store_first(y, dtype, at, _mm256_mul_ps(scale, f8e4m3fn_to_f32x8(codes)), n);
}

/* 32 codes, none NaN. scale_120 is the scale times 2^120: what a code's bits at f32's place lack is in it, so that one
 * product does both. */
INLINE void many(const uint8_t *x, void *y, int32_t dtype, int64_t at, __m256 scale_120)
{
    for (int i = 0; i < 32; i += 16) {
        __m256 v[2];
        for (int h = 0; h < 2; h++) {
            const __m256i c =
                _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(x + i + 8 * h))); /* sign copied upward */
            const __m256i bits = _mm256_and_si256(_mm256_slli_epi32(c, 20), _mm256_set1_epi32((int)0x87f00000));
            v[h] = _mm256_mul_ps(_mm256_castsi256_ps(bits), scale_120);
        }
        if (dtype == OCT_BF16)
            _mm256_storeu_si256((__m256i *)((uint16_t *)y + at + i), f32x16_to_bf16_numbers(v[0], v[1]));
        else
            for (int h = 0; h < 2; h++) {
                if (dtype == OCT_F32) _mm256_storeu_ps((float *)y + at + i + 8 * h, v[h]);
                else store_first(y, dtype, at + i + 8 * h, v[h], 8);
            }
    }
}

/* n codes that share a scale. */
INLINE void run_of(const uint8_t *x, void *y, int32_t dtype, int64_t at, int64_t n, float scale)
{
    const __m256 s = _mm256_set1_ps(scale), s_120 = _mm256_set1_ps(scale * 0x1p120f);
    const __m256i low7 = _mm256_set1_epi8(0x7f);
    const int simple = scale < 128 && scale > -128; /* s_120 is finite, and so no product is NaN */
    int64_t j = 0;
    for (; j + 32 <= n; j += 32) {
        _mm_prefetch((const char *)x + j + 4096, _MM_HINT_T0); /* the next page, where the hardware stops */
        const __m256i nan =
            _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_loadu_si256((const __m256i *)(x + j)), low7), low7);
        if (simple && _mm256_testz_si256(nan, nan)) many(x + j, y, dtype, at + j, s_120);
        else
            for (int i = 0; i < 32; i += 8) few(x + j + i, y, dtype, at + j + i, 8, s);
    }
    for (; j < n; j += 8) few(x + j, y, dtype, at + j, oct_min(8, n - j), s);
}

/* n codes, each with a scale of its own. */
INLINE void run_of_columns(const uint8_t *x, void *y, int32_t dtype, int64_t at, int64_t n, const float *scale)
{
    for (int64_t j = 0; j < n; j += 8) few(x + j, y, dtype, at + j, oct_min(8, n - j), load_first(scale, OCT_F32, j, n - j));
}

enum { TASK = 1 << 16 }; /* elements: with fewer, another thread costs more than it gives */

static int64_t rows_of_task(const oct_dequant_args *a) { return oct_max(1, TASK / oct_max(a->k, 1)); }

static void rows(void *p, int64_t task)
{
    const oct_dequant_args *a = p;
    const int64_t count = rows_of_task(a), end = oct_min(a->m, (task + 1) * count);
    const int blocks = a->scaling == OCT_SCALE_GROUP || a->scaling == OCT_SCALE_BLOCK;
    const int64_t step = blocks ? a->block_k : a->k;
    for (int64_t i = task * count; i < end; i++)
        for (int64_t j = 0; j < a->k; j += step) {
            const int64_t r = a->scaling == OCT_SCALE_BLOCK ? i / a->block_m : i, b = j / a->block_k;
            const float s = a->scaling == OCT_SCALE_NONE      ? 1.0f
                            : a->scaling == OCT_SCALE_TENSOR  ? a->scale[0]
                            : a->scaling == OCT_SCALE_ROW     ? a->scale[i]
                            : a->scale_layout == OCT_MN_MAJOR ? a->scale[b * a->ld_scale + r]
                                                              : a->scale[r * a->ld_scale + b];
            const uint8_t *x = (const uint8_t *)a->x + i * a->ldx + j;
            const int64_t n = oct_min(step, a->k - j), at = i * a->ldy + j;
            switch (a->y_dtype) {
            case OCT_F32: run_of(x, a->y, OCT_F32, at, n, s); break;
            case OCT_BF16: run_of(x, a->y, OCT_BF16, at, n, s); break;
            default: run_of(x, a->y, OCT_F16, at, n, s);
            }
        }
}

static void columns(void *p, int64_t task)
{
    const oct_dequant_args *a = p;
    const int64_t count = rows_of_task(a), end = oct_min(a->m, (task + 1) * count);
    for (int64_t i = task * count; i < end; i++) {
        const uint8_t *x = (const uint8_t *)a->x + i * a->ldx;
        switch (a->y_dtype) {
        case OCT_F32: run_of_columns(x, a->y, OCT_F32, i * a->ldy, a->k, a->scale); break;
        case OCT_BF16: run_of_columns(x, a->y, OCT_BF16, i * a->ldy, a->k, a->scale); break;
        default: run_of_columns(x, a->y, OCT_F16, i * a->ldy, a->k, a->scale);
        }
    }
}

oct_status oct_dequant_avx2(const oct_dequant_args *a)
{
    if (a->k) oct_parallel(&a->on, oct_cdiv(a->m, rows_of_task(a)), a->scaling == OCT_SCALE_COL ? columns : rows, (void *)a);
    return OCT_OK;
}
