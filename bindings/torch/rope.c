/* rope.c - rotary embedding of q and k and appending to the cache: fbgemm's rope_* and nope_*, and octavo's own. */
#include "cache.h"

/* The arguments of all four, by name; what a schema lacks stays None or its default. */
typedef struct rope_in {
    tensor q, k, v, lane, pos, slot, valid;
    cache at;
    oct_rope rope;
    bool rotate, half, norm, update, write_back;
} rope_in;

/* The rotated q, as a result. */
static void rotate(call *c, const rope_in *in)
{
    NEED(c, in->q, in->q.dtype == OCT_BF16 && in->q.ndim == 3, "must be bfloat16 [tokens, heads, D]");
    if (in->update) {
        NEED(c, in->k, in->k.h, "must be a tensor, as update_kv is True");
        NEED(c, in->v, in->v.h, "must be a tensor, as update_kv is True");
    } else {
        NEED(c, in->k, !in->k.h, "must be None, as update_kv is False");
        NEED(c, in->v, !in->v.h, "must be None, as update_kv is False");
        if (in->write_back) fail(c, "write_k_back=True needs update_kv=True");
    }
    if (!ok(c)) return;
    const int64_t t = in->q.size[0];
    const heads q = as_heads(c, &in->q);
    const tensor y = new_result(c, 3, in->q.size, OCT_BF16);
    oct_rope_kv_args a = { .pairs = !in->rotate ? OCT_ROPE_NONE : in->half ? OCT_ROPE_HALF : OCT_ROPE_INTERLEAVED,
                           .flags = in->norm ? OCT_ROPE_KV_NORM : 0, .t = t, .heads = q.heads, .d = q.d, .q = q.data, .ldq = q.token,
                           .head_q = q.head, .q_out = y.data, .dtype = OCT_BF16, .rope = in->rope };
    oct_kv kv;
    a.pos = indices(c, &in->pos, t);
    a.lane = indices(c, &in->lane, t);
    a.slot = indices(c, &in->slot, t);
    NEED(c, in->valid, !in->valid.h || (in->valid.dtype == DT_I64 && in->valid.count == 1), "must be one int64");
    a.valid_t = in->valid.data;
    if (in->update && ok(c)) {
        kv = describe(c, &in->at, q.d);
        const heads k = in->write_back ? as_heads_output(c, &in->k) : as_heads(c, &in->k), v = as_heads(c, &in->v);
        const long long n = t, h = kv.heads, d = q.d;
        NEED(c, in->k, k.t == n && k.heads == h && k.d == d, "must be [%lld, %lld, %lld]", n, h, d);
        NEED(c, in->v, v.t == n && v.heads == h && v.d == d, "must be [%lld, %lld, %lld]", n, h, d);
        a.k = k.data;
        a.ldk = a.ldk_out = k.token;
        a.head_k = a.head_k_out = k.head;
        if (in->write_back) a.k_out = k.data;
        a.v = v.data;
        a.ldv = v.token;
        a.head_v = v.head;
        a.kv = &kv;
    }
    /* Tokens that are skipped leave zeros, where fbgemm leaves what was there. */
    bool skips = in->valid.h;
    for (int64_t i = 0; ok(c) && i < t && !skips; i++) skips = a.pos[i] < 0;
    if (skips) zero(c, &y);
    RUN(c, rope_kv, &a);
}

/* ---- fbgemm:: ---- */

static void take_heads(call *c, rope_in *in)
{
    in->q = take_tensor(c, "XQ");
    in->k = take_maybe(c, "XK");
    in->v = take_maybe(c, "XV");
    in->at.k = take_tensor(c, "cache_K");
    in->at.v = take_tensor(c, "cache_V");
}

static void take_pages(call *c, rope_in *in)
{
    in->at.table = take_maybe(c, "block_tables");
    in->at.page_size = take_int(c);
    in->valid = take_maybe_scalar(c, "actual_batch_size");
}

static void take_frequencies(call *c, rope_in *in)
{
    in->rope.scaling = take_bool(c);
    in->rope.old_context = (float)take_int(c);
    in->rope.factor = (float)take_float(c);
    in->rope.low_freq = (float)take_float(c);
    in->rope.high_freq = (float)take_float(c);
}

static void take_params(call *c)
{
    const tensor k = take_maybe_scalar(c, "qparam_k"), v = take_maybe_scalar(c, "qparam_v");
    need_none(c, &k);
    need_none(c, &v);
}

static void take_none(call *c, const char *name)
{
    const tensor t = take_maybe_scalar(c, name);
    need_none(c, &t);
}

OPERATOR(rope_qkv_varseq_prefill)
{
    call c = { .op = "rope_qkv_varseq_prefill", .stack = stack };
    rope_in in = { .rotate = true };
    take_heads(&c, &in);
    in.lane = take_tensor(&c, "varseq_batch");
    in.pos = take_tensor(&c, "varseq_seqpos");
    in.rope.theta = (float)take_float(&c);
    in.at.groups = take_maybe_int(&c, 1);
    take_pages(&c, &in);
    in.slot = take_maybe(&c, "varseq_cache_seqpos");
    in.at.logical = take_int(&c);
    take_frequencies(&c, &in);
    take_params(&c);
    in.write_back = take_bool(&c);
    in.norm = take_bool(&c);
    in.update = take_bool(&c);
    take_none(&c, "amax_qkv");
    take_none(&c, "kv_quant_scale_precomputed");
    rotate(&c, &in);
    finish(&c, results);
}

OPERATOR(rope_qkv_decoding)
{
    call c = { .op = "rope_qkv_decoding", .stack = stack };
    rope_in in = { .rotate = true };
    take_heads(&c, &in);
    in.pos = take_tensor(&c, "seqpos");
    in.rope.theta = (float)take_float(&c);
    in.at.groups = take_maybe_int(&c, 1);
    take_pages(&c, &in);
    in.lane = take_maybe(&c, "batch");
    in.slot = take_maybe(&c, "cache_seqpos");
    in.at.logical = take_int(&c);
    take_frequencies(&c, &in);
    take_params(&c);
    in.norm = take_bool(&c);
    in.update = take_bool(&c);
    take_none(&c, "amax_qkv");
    rotate(&c, &in);
    finish(&c, results);
}

OPERATOR(nope_qkv_varseq_prefill)
{
    call c = { .op = "nope_qkv_varseq_prefill", .stack = stack };
    rope_in in = { .rotate = false };
    take_heads(&c, &in);
    in.lane = take_tensor(&c, "varseq_batch");
    in.pos = take_tensor(&c, "varseq_seqpos");
    take_pages(&c, &in);
    in.slot = take_maybe(&c, "varseq_cache_seqpos");
    in.at.logical = take_int(&c);
    in.at.groups = take_maybe_int(&c, 1);
    take_params(&c);
    in.norm = take_bool(&c);
    in.update = take_bool(&c);
    take_none(&c, "amax_qkv");
    take_none(&c, "kv_quant_scale_precomputed");
    rotate(&c, &in);
    finish(&c, results);
}

OPERATOR(nope_qkv_decoding)
{
    call c = { .op = "nope_qkv_decoding", .stack = stack };
    rope_in in = { .rotate = false };
    take_heads(&c, &in);
    in.pos = take_tensor(&c, "seqpos");
    take_pages(&c, &in);
    in.lane = take_maybe(&c, "batch");
    in.slot = take_maybe(&c, "cache_seqpos");
    in.at.logical = take_int(&c);
    in.at.groups = take_maybe_int(&c, 1);
    take_params(&c);
    in.norm = take_bool(&c);
    in.update = take_bool(&c);
    take_none(&c, "amax_qkv");
    rotate(&c, &in);
    finish(&c, results);
}

/* ---- octavo:: pairs half a head apart, as Hugging Face's checkpoints have them, or neighbours ---- */

OPERATOR(rope_kv)
{
    call c = { .op = "rope_kv", .stack = stack };
    rope_in in = { .rotate = true, .update = true };
    take_heads(&c, &in);
    in.pos = take_tensor(&c, "pos");
    in.lane = take_maybe(&c, "lane");
    in.slot = take_maybe(&c, "slot");
    in.rope.theta = (float)take_float(&c);
    in.half = take_bool(&c);
    in.at.logical = take_int(&c);
    in.at.groups = take_int(&c);
    in.at.table = take_maybe(&c, "block_tables");
    in.at.page_size = take_int(&c);
    take_frequencies(&c, &in);
    rotate(&c, &in);
    finish(&c, results);
}
