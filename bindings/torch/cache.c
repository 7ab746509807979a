/* cache.c - the tensors of a KV cache become a descriptor; see cache.h. */
#include "cache.h"

static int32_t format_of(call *c, const cache *in)
{
    const tensor *k = &in->k;
    if (k->dtype == OCT_BF16) return OCT_KV_BF16;
    NEED(c, *k, k->dtype == OCT_U8, "must be bfloat16 or uint8; FP8 caches with a scale a head are not supported yet");
    if (in->logical == 1) return OCT_KV_F8_TOKEN;
    return OCT_KV_I4;
}

static int64_t row_bytes(const oct_kv *kv)
{
    return kv->format == OCT_KV_BF16 ? 2 * kv->d : kv->format == OCT_KV_F8_TOKEN ? kv->d + 4 : kv->d / 2 + 4 * kv->groups;
}

int64_t cache_lanes(const cache *in) { return in->table.h ? in->table.size[0] : in->k.size[0]; }

oct_kv describe(call *c, const cache *in, int64_t d)
{
    oct_kv kv = { .size = sizeof kv, .groups = (int32_t)in->groups };
    const tensor *k = &in->k, *v = &in->v, *table = &in->table;
    NEED(c, *k, k->ndim == 4 && (k->size[3] == 1 || k->stride[3] == 1), "must be [B, MAX_T, H, ROW] with contiguous rows");
    if (!ok(c)) return kv;
    kv.format = format_of(c, in);
    if (kv.format == OCT_KV_I4 && (kv.groups < 1 || kv.groups > 8)) fail(c, "num_groups is %d; it must be 1, 2, 4 or 8", kv.groups);
    const int64_t row = k->size[3], element = k->dtype == OCT_BF16 ? 2 : 1;
    kv.d = d ? d : kv.format == OCT_KV_BF16 ? row : kv.format == OCT_KV_F8_TOKEN ? row - 4 : 2 * (row - 4 * kv.groups);
    NEED(c, *k, kv.d > 0 && row * element == row_bytes(&kv), "must have rows of %lld %s for a head size of %lld%s",
         (long long)(row_bytes(&kv) / element), element == 2 ? "elements" : "bytes", (long long)kv.d,
         kv.format == OCT_KV_F8_TOKEN ? "; parameters outside the row are not supported yet" : "");
    bool alike = v->dtype == k->dtype && same_shape(v, k);
    for (int i = 0; alike && i < 4; i++) alike = k->size[i] == 1 || v->stride[i] == k->stride[i];
    NEED(c, *v, alike, "must have the dtype, shape and strides of %s", k->name);
    if (!ok(c)) return kv;
    kv.k = k->data;
    kv.v = v->data;
    kv.heads = k->size[2];
    kv.head_bytes = k->size[2] == 1 ? 0 : k->stride[2] * element;
    kv.token_bytes = k->size[1] <= 1 ? 0 : k->stride[1] * element;
    if (!table->h) {
        kv.pages = k->size[0];
        kv.page_size = k->size[1];
        kv.page_bytes = k->size[0] <= 1 ? 0 : k->stride[0] * element;
        return kv;
    }
    if (in->page_size < 1) fail(c, "page_size is %lld; it must be at least 1", (long long)in->page_size);
    else NEED(c, *k, k->size[0] == 1 && k->size[1] % in->page_size == 0, "must be [1, PAGES page_size = %lld, H, ROW]", (long long)in->page_size);
    NEED(c, *table, table->dtype == OCT_I32 && table->ndim == 2 && (table->size[1] <= 1 || table->stride[1] == 1),
         "must be int32 [B, pages of a lane]");
    if (!ok(c)) return kv;
    kv.page_size = in->page_size;
    kv.pages = k->size[1] / in->page_size;
    kv.page_bytes = kv.token_bytes * in->page_size;
    kv.lanes = table->size[0];
    kv.page_table = table->data;
    kv.ld_page_table = table->size[0] <= 1 ? table->size[1] : table->stride[0];
    return kv;
}

void need_none(call *c, const tensor *t)
{
    NEED(c, *t, !t->h, "must be None: FP8 caches with parameters outside the row or a scale a head are not supported yet");
}

const int32_t *indices(call *c, const tensor *t, int64_t n)
{
    if (!t->h || !ok(c)) return 0;
    NEED(c, *t, t->dtype == OCT_I32 && t->count == n, "must be int32 [%lld]", (long long)n);
    return ok(c) ? as_packed(c, t).data : 0;
}

static heads view(const tensor *t)
{
    return (heads){ t->data, t->size[0], t->size[1], t->size[2], t->size[0] <= 1 ? 0 : t->stride[0], t->size[1] <= 1 ? 0 : t->stride[1] };
}

/* Whether octavo takes the strides: heads contiguous and apart, tokens apart. */
static bool strided_heads(const tensor *t)
{
    const int64_t d = t->size[2], h = t->size[1] <= 1 ? d : t->stride[1], span = (t->size[1] - 1) * h + d;
    return !t->count || ((d <= 1 || t->stride[2] == 1) && h >= d && (t->size[0] <= 1 || t->stride[0] >= span));
}

heads as_heads(call *c, const tensor *t)
{
    NEED(c, *t, t->dtype == OCT_BF16 && t->ndim == 3, "must be bfloat16 [tokens, heads, D]");
    if (!ok(c) || !t->h) return (heads){ 0 };
    if (strided_heads(t)) return view(t);
    const tensor p = as_contiguous(c, t);
    return ok(c) ? view(&p) : (heads){ 0 };
}

heads as_heads_output(call *c, const tensor *t)
{
    if (ok(c)) NEED(c, *t, strided_heads(t), "is written to and must have contiguous heads");
    return ok(c) ? view(t) : (heads){ 0 };
}
