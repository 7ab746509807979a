/* attn.c - attention over KV caches, and what caches hold: fbgemm's decode operators, and octavo's own of any shape. */
#include "cache.h"

static const float almost_zero = 1e-45f; /* octavo takes a scale of 0 for its default */

/* q [tokens, heads, D] and a length each; y [tokens, heads, D]. */
static void attend(call *c, oct_attn_args *a, const heads *q, const oct_kv *kv, const int32_t *len, float scale, int32_t dtype)
{
    a->t = q->t;
    a->heads = q->heads;
    a->d = q->d;
    a->q = q->data;
    a->ldq = q->token;
    a->head_q = q->head;
    a->q_dtype = OCT_BF16;
    a->y_dtype = dtype;
    a->len = len;
    a->kv = kv;
    a->scale = scale;
    RUN(c, attn, a);
}

/* XQ [B, 1, H, D] without its dimension of one. */
static heads decode_heads(call *c, const tensor *q)
{
    NEED(c, *q, q->dtype == OCT_BF16 && q->ndim == 4 && q->size[1] == 1, "must be bfloat16 [B, 1, H, D]");
    if (!ok(c)) return (heads){ 0 };
    const tensor p = as_packed(c, q);
    return (heads){ p.data, p.size[0], p.size[2], p.size[3], 0, 0 };
}

/* Lengths from the positions of the last tokens; -1: none. */
static const int32_t *lengths(call *c, const tensor *last, int64_t n)
{
    const int32_t *pos = indices(c, last, n);
    const tensor len = new_temporary(c, 1, &n, OCT_I32);
    for (int64_t i = 0; ok(c) && i < n; i++) ((int32_t *)len.data)[i] = pos[i] + (pos[i] < INT32_MAX);
    return len.data;
}

OPERATOR(gqa_attn_splitk)
{
    call c = { .op = "gqa_attn_splitk", .stack = stack };
    cache at = { .page_size = 1 };
    const tensor xq = take_tensor(&c, "XQ");
    at.k = take_tensor(&c, "cache_K");
    at.v = take_tensor(&c, "cache_V");
    const tensor last = take_tensor(&c, "seq_positions");
    const float scale = (float)take_float(&c);
    const int64_t splits = take_int(&c);
    at.groups = take_int(&c);
    if (!take_bool(&c)) fail(&c, "use_tensor_cores=False returns other things and is not supported; True is");
    at.logical = take_int(&c);
    if (splits < 1 || splits > INT32_MAX) fail(&c, "num_split_ks is %lld; it must be at least 1", (long long)splits);
    const heads q = decode_heads(&c, &xq);
    const oct_kv kv = describe(&c, &at, q.d);
    NEED(&c, xq, q.t == kv.pages, "must be [B = %lld, 1, H, D] as the cache has it", (long long)kv.pages);
    const int32_t *len = lengths(&c, &last, q.t);
    if (ok(&c)) {
        const int64_t many = splits * q.heads;
        oct_attn_args a = { .splits = (int32_t)splits, .ld_split = 2 * many };
        a.y = like_result(&c, &xq, OCT_BF16).data;
        a.y_split = new_result(&c, 4, (int64_t[]){ q.t, splits, q.heads, q.d }, OCT_F32).data;
        a.y_max = new_result(&c, 4, (int64_t[]){ q.t, 2, splits, q.heads }, OCT_F32).data;
        if (ok(&c)) a.y_sum = a.y_max + many;
        if (q.t) attend(&c, &a, &q, &kv, len, scale == 0 ? almost_zero : scale, OCT_BF16);
    }
    finish(&c, results);
}

OPERATOR(mqa_attn)
{
    call c = { .op = "mqa_attn", .stack = stack };
    cache at = { .page_size = 1 };
    const tensor xq = take_tensor(&c, "XQ");
    at.k = take_tensor(&c, "cache_K");
    at.v = take_tensor(&c, "cache_V");
    const tensor last = take_tensor(&c, "seq_positions");
    const float scale = (float)take_float(&c);
    at.groups = take_maybe_int(&c, 1);
    at.logical = take_int(&c);
    const tensor k = take_maybe(&c, "qparam_k"), v = take_maybe(&c, "qparam_v");
    need_none(&c, &k);
    need_none(&c, &v);
    const heads q = decode_heads(&c, &xq);
    const oct_kv kv = describe(&c, &at, q.d);
    NEED(&c, xq, q.t == kv.pages, "must be [B = %lld, 1, H, D] as the cache has it", (long long)kv.pages);
    const int32_t *len = lengths(&c, &last, q.t);
    oct_attn_args a = { .y = ok(&c) ? like_result(&c, &xq, OCT_BF16).data : 0 };
    if (q.t) attend(&c, &a, &q, &kv, len, scale == 0 ? almost_zero : scale, OCT_BF16);
    finish(&c, results);
}

OPERATOR(attn)
{
    call c = { .op = "attn", .stack = stack };
    cache at = { .page_size = 1 };
    const tensor xq = take_tensor(&c, "q");
    at.k = take_tensor(&c, "cache_K");
    at.v = take_tensor(&c, "cache_V");
    const tensor length = take_tensor(&c, "len"), lane = take_maybe(&c, "lane");
    const double scale = take_maybe_float(&c, 0);
    at.logical = take_int(&c);
    at.groups = take_int(&c);
    at.table = take_maybe(&c, "block_tables");
    at.page_size = take_int(&c);
    const int32_t dtype = take_maybe_dtype(&c, OCT_BF16);
    if (dtype != OCT_BF16 && dtype != OCT_F32) fail(&c, "dtype must be bfloat16 or float32");
    const heads q = as_heads(&c, &xq);
    const oct_kv kv = describe(&c, &at, q.d);
    const int32_t *len = indices(&c, &length, q.t);
    oct_attn_args a = { .lane = indices(&c, &lane, q.t), .y = ok(&c) ? like_result(&c, &xq, dtype).data : 0 };
    attend(&c, &a, &q, &kv, len, (float)scale, dtype);
    finish(&c, results);
}

/* ---- A cache's values ---- */

static void values(call *c, oct_kv *kv, const int32_t *len, int64_t max_t, const tensor *k)
{
    const int64_t size[4] = { k->size[0], k->size[1], kv->heads, kv->d };
    oct_kv_dequant_args a = { .kv = kv, .len = len, .max_t = max_t, .y_dtype = OCT_BF16 };
    a.k_out = new_result(c, 4, size, OCT_BF16).data;
    a.v_out = new_result(c, 4, size, OCT_BF16).data;
    RUN(c, kv_dequant, &a);
}

OPERATOR(dequantize_int4_cache)
{
    call c = { .op = "dequantize_int4_cache", .stack = stack };
    cache at = { .logical = 2 };
    at.k = take_tensor(&c, "cache_K");
    at.v = take_tensor(&c, "cache_V");
    const tensor length = take_tensor(&c, "kv_seqlen");
    at.groups = take_maybe_int(&c, 1);
    const tensor k = take_maybe(&c, "qparam_k"), v = take_maybe(&c, "qparam_v");
    need_none(&c, &k);
    need_none(&c, &v);
    NEED(&c, at.k, at.k.dtype == OCT_U8, "must be uint8");
    oct_kv kv = describe(&c, &at, 0);
    const int32_t *len = indices(&c, &length, kv.pages);
    if (ok(&c)) values(&c, &kv, len, kv.page_size, &at.k);
    finish(&c, results);
}

/* Of each page of the cache, how many of its tokens the lanes have: the pages are then read as so many short lanes. */
static const int32_t *page_lengths(call *c, const oct_kv *kv, const int32_t *len)
{
    const tensor t = new_temporary(c, 1, &kv->pages, OCT_I32);
    zero(c, &t);
    for (int64_t b = 0; ok(c) && b < kv->lanes; b++)
        for (int64_t i = 0; ok(c) && i * kv->page_size < len[b]; i++) {
            const int64_t left = len[b] - i * kv->page_size;
            const int64_t page = i < kv->ld_page_table ? kv->page_table[b * kv->ld_page_table + i] : -1;
            if (page < 0 || page >= kv->pages)
                fail(c, "block_tables[%lld][%lld] is %lld or missing; the cache has %lld pages", (long long)b, (long long)i,
                     (long long)page, (long long)kv->pages);
            else if (((int32_t *)t.data)[page] < left) ((int32_t *)t.data)[page] = (int32_t)(left < kv->page_size ? left : kv->page_size);
        }
    return t.data;
}

OPERATOR(dequantize_fp8_cache)
{
    call c = { .op = "dequantize_fp8_cache", .stack = stack };
    cache at = { .logical = 1, .groups = 1 };
    at.k = take_tensor(&c, "cache_K");
    at.v = take_tensor(&c, "cache_V");
    const tensor length = take_tensor(&c, "kv_seqlen"), k = take_maybe(&c, "qparam_k"), v = take_maybe(&c, "qparam_v");
    at.table = take_maybe(&c, "block_tables");
    at.page_size = take_int(&c);
    need_none(&c, &k);
    need_none(&c, &v);
    NEED(&c, at.k, at.k.dtype == OCT_U8, "must be uint8");
    oct_kv kv = describe(&c, &at, 0);
    const int32_t *len = ok(&c) ? indices(&c, &length, cache_lanes(&at)) : 0;
    if (ok(&c) && kv.page_table) {
        len = page_lengths(&c, &kv, len);
        kv.lanes = kv.pages;
        kv.page_table = 0;
        kv.ld_page_table = 0;
    }
    if (ok(&c)) values(&c, &kv, len, kv.page_size, &at.k);
    finish(&c, results);
}
