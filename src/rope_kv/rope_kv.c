/* rope_kv.c - entry of oct_rope_kv: checks and defaults. */
#include "core/core.h"
#include "core/kernel.h"
#include <math.h>

/* Every number that the call will follow: positions, lanes, slots, pages. */
static oct_status check_tokens(const oct_rope_kv_args *a, const oct_kv *kv)
{
    const int64_t table_len = a->table ? a->table_len : 0;
    for (int64_t i = 0; i < a->t; i++) {
        const int32_t pos = a->pos[i];
        if (pos == -1) continue;
        if (pos < -1)
            return oct_fail(OCT_E_VALUE, "rope_kv: pos[%lld] is %d; a position, or -1 to skip the token", (long long)i, pos);
        if (pos >= table_len && a->table && a->pairs != OCT_ROPE_NONE) {
            const oct_status s = oct_rope_check("rope_kv", &a->rope);
            if (s) return oct_fail(s, "rope_kv: pos[%lld] is %d, beyond the table's %lld, and rope is not filled in", (long long)i,
                                   pos, (long long)table_len);
        }
        if (!kv) continue;
        const int64_t lane = a->lane ? a->lane[i] : i, slot = a->slot ? a->slot[i] : pos;
        OCT_TRY(oct_kv_check_token("rope_kv", kv, i, lane, slot));
    }
    return OCT_OK;
}

static oct_status prepare(oct_rope_kv_args *a, int dry)
{
    static const int32_t types[] = { OCT_BF16, 0 };
    static const char *const pairs[] = { "INTERLEAVED", "HALF", "NONE" };
    oct_kv kv;
    OCT_TRY(oct_check_choice("rope_kv", "pairs", a->pairs, pairs, 3, 0));
    if (a->flags & ~OCT_ROPE_KV_NORM)
        return oct_fail(OCT_E_VALUE, "rope_kv: flags is %d; OCT_ROPE_KV_NORM (%d) is the one flag", a->flags, OCT_ROPE_KV_NORM);
    if (!(a->norm_eps >= 0 && a->norm_eps < INFINITY))
        return oct_fail(OCT_E_VALUE, "rope_kv: norm_eps is %g; it must be at least 0 and finite", (double)a->norm_eps);
    if (a->k_out && !a->kv) return oct_fail(OCT_E_VALUE, "rope_kv: k_out without kv; k is read for the cache");
    OCT_TRY(oct_check_extent("rope_kv", "t", a->t, 0));
    OCT_TRY(oct_check_extent("rope_kv", "heads", a->heads, 0));
    OCT_TRY(oct_check_dtype("rope_kv", "dtype", a->dtype, types));
    OCT_TRY(oct_kv_check_d("rope_kv", "d", a->d));
    if (a->kv) {
        OCT_TRY(oct_kv_check("rope_kv", a->kv, dry));
        kv = oct_kv_full(a->kv);
        if (kv.d != a->d)
            return oct_fail(OCT_E_SHAPE, "rope_kv: d is %lld but kv.d is %lld", (long long)a->d, (long long)kv.d);
    }
    const int64_t kv_heads = a->kv ? kv.heads : 0;
    const oct_operand operands[] = {
        { "rope_kv", "q", a->q, a->dtype, 1, a->heads, a->d, &a->head_q, a->t, &a->ldq },
        { "rope_kv", "q_out", a->q_out, a->dtype, !a->q, a->heads, a->d, &a->head_q_out, a->t, &a->ldq_out },
        { "rope_kv", "k", a->k, a->dtype, !a->kv, kv_heads, a->d, &a->head_k, a->t, &a->ldk },
        { "rope_kv", "v", a->v, a->dtype, !a->kv, kv_heads, a->d, &a->head_v, a->t, &a->ldv },
        { "rope_kv", "k_out", a->k_out, a->dtype, 1, kv_heads, a->d, &a->head_k_out, a->t, &a->ldk_out },
        { "rope_kv", "pos", a->pos, OCT_I32, 0, 1, a->t, 0, 0, 0 },
        { "rope_kv", "slot", a->slot, OCT_I32, 1, 1, a->t, 0, 0, 0 },
        { "rope_kv", "lane", a->lane, OCT_I32, 1, 1, a->t, 0, 0, 0 },
        { "rope_kv", "table", a->table, OCT_F32, 1, a->table_len, a->d, 0, 0, 0 },
    };
    enum { HEADS = 5, ALL = sizeof operands / sizeof *operands };
    OCT_TRY(oct_check_extent("rope_kv", "table_len", a->table_len, 0));
    for (int i = 0; i < ALL; i++) {
        if (i < HEADS) OCT_TRY(oct_check_extent("rope_kv", "a token stride", *operands[i].stride, 0));
        if (a->t || i == ALL - 1) OCT_TRY(oct_check_operand(&operands[i], dry));
    }
    if (a->pairs != OCT_ROPE_NONE && !a->table) OCT_TRY(oct_rope_check("rope_kv", &a->rope));
    if (dry) return OCT_OK;
    if (a->valid_t) {
        OCT_TRY(oct_check_pointer("rope_kv", "valid_t", a->valid_t, 8));
        a->t = oct_max(0, oct_min(a->t, *a->valid_t)); /* rows know nothing of the tokens behind */
    }
    return check_tokens(a, a->kv ? &kv : 0);
}

OCT_ENTRY(rope_kv)
