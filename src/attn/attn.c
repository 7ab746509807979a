/* attn.c - entry of oct_attn: checks and defaults. */
#include "core/core.h"
#include "core/kernel.h"
#include <math.h>

static oct_status prepare(oct_attn_args *a, int dry)
{
    static const int32_t in[] = { OCT_BF16, 0 }, out[] = { OCT_F32, OCT_BF16, 0 };
    OCT_TRY(oct_check_extent("attn", "t", a->t, 0));
    OCT_TRY(oct_check_extent("attn", "heads", a->heads, 1));
    OCT_TRY(oct_check_dtype("attn", "q_dtype", a->q_dtype, in));
    OCT_TRY(oct_check_dtype("attn", "y_dtype", a->y_dtype, out));
    if (a->window) return oct_fail(OCT_E_UNSUPPORTED, "attn: window is not supported yet; it must be 0");
    if (a->splits < 0) return oct_fail(OCT_E_VALUE, "attn: splits is %d; a number of splits, or 0", a->splits);
    if (!a->splits && (a->y_max || a->y_sum || a->y_split))
        return oct_fail(OCT_E_VALUE, "attn: %s without splits; set their number", a->y_max ? "y_max" : a->y_sum ? "y_sum" : "y_split");
    if (a->flags) return oct_fail(OCT_E_VALUE, "attn: flags is %d; there are none yet: 0", a->flags);
    OCT_TRY(oct_kv_check("attn", a->kv, dry));
    const oct_kv kv = oct_kv_full(a->kv);
    if (kv.d != a->d) return oct_fail(OCT_E_SHAPE, "attn: d is %lld but kv.d is %lld", (long long)a->d, (long long)kv.d);
    if (a->heads % kv.heads)
        return oct_fail(OCT_E_SHAPE, "attn: heads is %lld; it must be a multiple of kv.heads = %lld", (long long)a->heads,
                        (long long)kv.heads);
    if (isnan(a->scale) || isinf(a->scale)) return oct_fail(OCT_E_VALUE, "attn: scale is %g; it must be finite", (double)a->scale);
    if (a->scale == 0) a->scale = (float)(1.0 / sqrt((double)a->d));
    const int64_t parts = oct_mul(a->splits, a->heads);
    if (oct_mul(oct_mul(oct_max(1, a->t), parts), (a->d + 24) * 4) < 0) /* y_split, and the scratch for it */
        return oct_fail(OCT_E_SHAPE, "attn: %lld tokens of %d splits of %lld heads overflow 64 bits", (long long)a->t, a->splits, (long long)a->heads);
    int64_t ld_sum = a->ld_split;
    const oct_operand operands[] = {
        { "attn", "q", a->q, a->q_dtype, 0, a->heads, a->d, &a->head_q, a->t, &a->ldq },
        { "attn", "y", a->y, a->y_dtype, 0, a->heads, a->d, &a->head_y, a->t, &a->ldy },
        { "attn", "y_max", a->y_max, OCT_F32, 1, a->t, parts, &a->ld_split, 0, 0 },
        { "attn", "y_sum", a->y_sum, OCT_F32, 1, a->t, parts, &ld_sum, 0, 0 },
        { "attn", "y_split", a->y_split, OCT_F32, 1, a->t, parts * a->d, 0, 0, 0 },
        { "attn", "len", a->len, OCT_I32, 0, 1, a->t, 0, 0, 0 },
        { "attn", "lane", a->lane, OCT_I32, 1, 1, a->t, 0, 0, 0 },
    };
    for (int i = 0; i < (int)(sizeof operands / sizeof *operands); i++) {
        if (i < 2) OCT_TRY(oct_check_extent("attn", "a token stride", *operands[i].stride, 0));
        if (a->t) OCT_TRY(oct_check_operand(&operands[i], dry));
    }
    a->ld_split = oct_max(a->ld_split, ld_sum); /* one of them may be missing */
    if (dry) return OCT_OK;
    /* Neighbours of one lane are looked at together: what the longest reads. */
    for (int64_t i = 0, end; i < a->t; i = end) {
        const int64_t lane = a->lane ? a->lane[i] : i;
        int64_t longest = i;
        for (end = i; end < a->t && (a->lane ? a->lane[end] : end) == lane; end++) {
            if (a->len[end] < 0) return oct_fail(OCT_E_VALUE, "attn: len[%lld] is %d; it must be 0 or more", (long long)end, a->len[end]);
            if (a->len[end] > a->len[longest]) longest = end;
        }
        OCT_TRY(oct_kv_check_tokens("attn", &kv, longest, lane, a->len[longest]));
    }
    return OCT_OK;
}

OCT_ENTRY(attn)
