/* kv_dequant.c - entry of oct_kv_dequant: checks and defaults. */
#include "core/core.h"
#include "core/kernel.h"

static oct_status prepare(oct_kv_dequant_args *a, int dry)
{
    static const int32_t out[] = { OCT_F32, OCT_BF16, 0 };
    OCT_TRY(oct_kv_check("kv_dequant", a->kv, dry));
    OCT_TRY(oct_check_extent("kv_dequant", "max_t", a->max_t, 0));
    OCT_TRY(oct_check_dtype("kv_dequant", "y_dtype", a->y_dtype, out));
    const oct_kv kv = oct_kv_full(a->kv);
    /* [lanes][max_t][heads, d]: the rows of a token, then the tokens of a lane */
    if (!a->head_out) a->head_out = kv.d;
    if (!a->token_out) a->token_out = oct_mul(kv.heads, a->head_out);
    if (!a->lane_out) a->lane_out = oct_mul(a->max_t, a->token_out);
    const int64_t token = oct_mul(kv.heads - 1, a->head_out), lane = a->max_t ? oct_mul(a->max_t - 1, a->token_out) : 0;
    if (a->head_out < kv.d || a->token_out < 0 || a->lane_out < 0 || token < 0 || a->token_out - kv.d < token || lane < 0 ||
        (kv.lanes > 1 && a->max_t && a->lane_out - kv.d - token < lane) || oct_mul(oct_mul(kv.lanes, a->lane_out), 4) < 0)
        return oct_fail(OCT_E_SHAPE, "kv_dequant: output strides lane %lld, token %lld, head %lld do not hold [%lld, %lld, %lld, %lld]",
                        (long long)a->lane_out, (long long)a->token_out, (long long)a->head_out, (long long)kv.lanes,
                        (long long)a->max_t, (long long)kv.heads, (long long)kv.d);
    const oct_operand operands[] = {
        { "kv_dequant", "len", a->len, OCT_I32, 0, 1, kv.lanes, 0, 0, 0 },
        { "kv_dequant", "k_out", a->k_out, a->y_dtype, 1, 1, 1, 0, 0, 0 },
        { "kv_dequant", "v_out", a->v_out, a->y_dtype, 1, 1, 1, 0, 0, 0 },
    };
    for (int i = 0; i < 3; i++) OCT_TRY(oct_check_operand(&operands[i], dry));
    if (dry) return OCT_OK;
    for (int64_t b = 0; b < kv.lanes; b++) {
        if (a->len[b] < 0 || a->len[b] > a->max_t)
            return oct_fail(OCT_E_VALUE, "kv_dequant: len[%lld] is %d; it must lie in 0..max_t = %lld", (long long)b, a->len[b],
                            (long long)a->max_t);
        OCT_TRY(oct_kv_check_tokens("kv_dequant", &kv, b, b, a->len[b]));
    }
    return OCT_OK;
}

OCT_ENTRY(kv_dequant)
