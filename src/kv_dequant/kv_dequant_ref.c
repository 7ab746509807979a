/* kv_dequant_ref.c - round(scale code + shift), the formula of octavo.h. */
#include "core/core.h"
#include "core/kernel.h"
#include "core/num/kv.h"

int oct_kv_dequant_ref_fits(const oct_kv_dequant_args *a, oct_fit *fit) { (void)a; (void)fit; return 1; }

static void put(const oct_kv_dequant_args *a, void *y, int64_t at, float v)
{
    if (a->y_dtype == OCT_BF16) ((uint16_t *)y)[at] = oct_bf16_from_f32(v);
    else ((float *)y)[at] = v != v ? NAN : v;
}

oct_status oct_kv_dequant_ref(const oct_kv_dequant_args *a)
{
    const oct_kv kv = oct_kv_full(a->kv);
    void *const out[2] = { a->k_out, a->v_out }, *const data[2] = { kv.k, kv.v };
    for (int w = 0; w < 2; w++)
        for (int64_t b = 0; out[w] && b < kv.lanes; b++)
            for (int64_t t = 0; t < a->max_t; t++)
                for (int64_t h = 0; h < kv.heads; h++) {
                    const int64_t at = b * a->lane_out + t * a->token_out + h * a->head_out;
                    const uint8_t *row = 0;
                    if (t < a->len[b]) row = (const uint8_t *)data[w] + oct_kv_offset(&kv, oct_kv_page(&kv, b, t), t, h);
                    for (int64_t e = 0; e < kv.d; e++) {
                        const oct_kv_parts p = row ? oct_kv_load(&kv, row, e) : (oct_kv_parts){ 0, 0, 0 };
                        put(a, out[w], at + e, fmaf(p.scale, p.code, p.shift));
                    }
                }
    return OCT_OK;
}
