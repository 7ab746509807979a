/* kv.c - the descriptor of a KV cache: defaults, sizes, checks. */
#include "core/core.h"
#include <string.h>

static const char *const formats[] = { "0", "BF16", "F8_TOKEN", "I4", "F8_TOKEN_OUT", "F8_HEAD" };
enum { FORMATS = sizeof formats / sizeof *formats, NOT_YET = 1u << 0 | 1u << OCT_KV_F8_TOKEN_OUT | 1u << OCT_KV_F8_HEAD };

/* Of a full descriptor; -1 on overflow. */
static int64_t row_bytes(const oct_kv *kv)
{
    switch (kv->format) {
    case OCT_KV_BF16:     return oct_mul(kv->d, 2);
    case OCT_KV_F8_TOKEN: return kv->d > INT64_MAX - 4 ? -1 : kv->d + 4;
    case OCT_KV_I4:       return 4 * (int64_t)kv->groups + kv->d / 2;
    }
    return -1;
}

oct_kv oct_kv_full(const oct_kv *in)
{
    oct_kv kv;
    memset(&kv, 0, sizeof kv);
    memcpy(&kv, in, (size_t)oct_min(in->size, (int64_t)sizeof kv));
    kv.size = (int64_t)sizeof kv;
    if (!kv.groups || kv.format != OCT_KV_I4) kv.groups = 1; /* the others have one pair, or none: the field says nothing */
    if (!kv.lanes) kv.lanes = kv.pages;
    if (!kv.head_bytes) kv.head_bytes = row_bytes(&kv);
    if (!kv.token_bytes) kv.token_bytes = oct_mul(kv.heads, kv.head_bytes);
    if (!kv.page_bytes) {
        const int64_t tokens = oct_mul(kv.page_size, kv.token_bytes), heads = oct_mul(kv.heads, kv.head_bytes);
        kv.page_bytes = tokens < 0 || heads < 0 ? -1 : oct_max(tokens, heads);
    }
    return kv;
}

oct_status oct_kv_check_d(const char *op, const char *name, int64_t d)
{
    OCT_TRY(oct_check_extent(op, name, d, 2));
    if (d % 2) return oct_fail(OCT_E_SHAPE, "%s: %s is %lld; it must be even", op, name, (long long)d);
    if (d > OCT_MAX_D) return oct_fail(OCT_E_UNSUPPORTED, "%s: %s is %lld; at most %d is supported", op, name, (long long)d, OCT_MAX_D);
    return OCT_OK;
}

/* A page's number as the table has it. */
static oct_status check_page(const char *op, const oct_kv *kv, int64_t i, int64_t lane, int64_t t)
{
    if (oct_kv_page(kv, lane, t) >= 0) return OCT_OK;
    const int64_t entry = t / kv->page_size;
    return oct_fail(OCT_E_VALUE, "%s: page_table[%lld][%lld], for token %lld of the call, is %d; the cache has %lld pages", op,
                    (long long)lane, (long long)entry, (long long)i, kv->page_table[lane * kv->ld_page_table + entry],
                    (long long)kv->pages);
}

static int64_t capacity(const oct_kv *kv) { return kv->page_table ? kv->ld_page_table * kv->page_size : kv->page_size; }

static oct_status check_lane(const char *op, const oct_kv *kv, int64_t i, int64_t lane)
{
    if (lane >= 0 && lane < kv->lanes) return OCT_OK;
    return oct_fail(OCT_E_VALUE, "%s: lane of token %lld is %lld; the cache has %lld lanes", op, (long long)i, (long long)lane,
                    (long long)kv->lanes);
}

oct_status oct_kv_check_token(const char *op, const oct_kv *kv, int64_t i, int64_t lane, int64_t t)
{
    OCT_TRY(check_lane(op, kv, i, lane));
    if (t < 0 || t >= capacity(kv))
        return oct_fail(OCT_E_VALUE, "%s: slot of token %lld is %lld; a lane of the cache holds %lld tokens", op, (long long)i,
                        (long long)t, (long long)capacity(kv));
    return check_page(op, kv, i, lane, t);
}

oct_status oct_kv_check_tokens(const char *op, const oct_kv *kv, int64_t i, int64_t lane, int64_t n)
{
    OCT_TRY(check_lane(op, kv, i, lane));
    if (n < 0 || n > capacity(kv))
        return oct_fail(OCT_E_VALUE, "%s: len[%lld] is %lld; a lane of the cache holds %lld tokens", op, (long long)i, (long long)n,
                        (long long)capacity(kv));
    for (int64_t t = 0; t < n; t += kv->page_size) OCT_TRY(check_page(op, kv, i, lane, t));
    return OCT_OK;
}

/* Whether the rows of a page lie apart and inside it: [token][head], or [head][token]. */
static int strides_hold(const oct_kv *kv, int64_t row)
{
    const int64_t token = oct_mul(kv->heads, kv->head_bytes), head = oct_mul(kv->page_size, kv->token_bytes);
    if (row < 0 || kv->head_bytes < row || kv->token_bytes < row || token < 0 || head < 0) return 0;
    if (kv->token_bytes >= token && kv->page_bytes >= head) return 1;
    return kv->head_bytes >= head && kv->page_bytes >= token;
}

oct_status oct_kv_check(const char *op, const oct_kv *in, int dry)
{
    if (!in) return oct_fail(OCT_E_NULL, "%s: kv is NULL", op);
    if (in->size < (int64_t)sizeof in->size || in->size > OCT_SIZE_MAX || in->size % 8)
        return oct_fail(OCT_E_VALUE, "%s: kv.size is %lld; set it to sizeof(oct_kv)", op, (long long)in->size);
    for (int64_t i = (int64_t)sizeof *in; i < in->size; i++)
        if (((const char *)in)[i]) return oct_fail(OCT_E_UNSUPPORTED, "%s: kv is a newer struct and uses a new field", op);
    const oct_kv kv = oct_kv_full(in);
    int64_t reserved = kv.reserved0;
    for (int i = 0; i < 6; i++) reserved |= kv.reserved[i];
    if (reserved) return oct_fail(OCT_E_UNSUPPORTED, "%s: a reserved field of kv is not supported; it must be 0", op);
    OCT_TRY(oct_check_choice(op, "kv.format", kv.format, formats, FORMATS, NOT_YET));
    OCT_TRY(oct_check_extent(op, "kv.heads", kv.heads, 1));
    OCT_TRY(oct_kv_check_d(op, "kv.d", kv.d));
    OCT_TRY(oct_check_extent(op, "kv.page_size", kv.page_size, 1));
    OCT_TRY(oct_check_extent(op, "kv.pages", kv.pages, 0));
    OCT_TRY(oct_check_extent(op, "kv.lanes", kv.lanes, 0));
    if (kv.format == OCT_KV_I4) {
        if (kv.groups != 1 && kv.groups != 2 && kv.groups != 4 && kv.groups != 8)
            return oct_fail(OCT_E_VALUE, "%s: kv.groups is %d; supported: 1, 2, 4, 8", op, kv.groups);
        if (kv.d % (2 * kv.groups))
            return oct_fail(OCT_E_SHAPE, "%s: kv.d is %lld; with %d groups it must be a multiple of %d", op,
                            (long long)kv.d, kv.groups, 2 * kv.groups);
        if (kv.high_first) return oct_fail(OCT_E_UNSUPPORTED, "%s: kv.high_first %d is not supported yet; 0 is", op, kv.high_first);
    }
    if (kv.k_param || kv.v_param)
        return oct_fail(OCT_E_UNSUPPORTED, "%s: parameters outside the row are not supported yet; k_param, v_param must be NULL", op);
    const int64_t row = row_bytes(&kv), align = kv.format == OCT_KV_I4 || kv.format == OCT_KV_F8_TOKEN ? 1 : 2;
    if (!strides_hold(&kv, row) || kv.head_bytes % align || kv.token_bytes % align || kv.page_bytes % align ||
        oct_mul(kv.pages, kv.page_bytes) < 0)
        return oct_fail(OCT_E_SHAPE,
                        "%s: kv strides head %lld, token %lld, page %lld bytes do not hold %lld pages of %lld tokens of "
                        "%lld rows of %lld bytes", op, (long long)kv.head_bytes, (long long)kv.token_bytes,
                        (long long)kv.page_bytes, (long long)kv.pages, (long long)kv.page_size, (long long)kv.heads,
                        (long long)row);
    if (kv.page_table) {
        OCT_TRY(oct_check_extent(op, "kv.ld_page_table", kv.ld_page_table, 1));
        if (oct_mul(oct_mul(kv.lanes, kv.ld_page_table), 4) < 0 || oct_mul(kv.ld_page_table, kv.page_size) < 0)
            return oct_fail(OCT_E_SHAPE, "%s: kv.page_table overflows 64 bits", op);
        if (!dry && (uintptr_t)kv.page_table % 4) return oct_fail(OCT_E_ALIGN, "%s: kv.page_table is not aligned to 4 bytes", op);
    } else if (kv.lanes > kv.pages)
        return oct_fail(OCT_E_SHAPE, "%s: kv.lanes is %lld but there are %lld pages and no page table", op,
                        (long long)kv.lanes, (long long)kv.pages);
    if (dry || !kv.pages) return OCT_OK;
    if (!kv.k || !kv.v) return oct_fail(OCT_E_NULL, "%s: kv.%s is NULL", op, kv.k ? "v" : "k");
    if ((uintptr_t)kv.k % (uintptr_t)align || (uintptr_t)kv.v % (uintptr_t)align)
        return oct_fail(OCT_E_ALIGN, "%s: kv.k or kv.v is not aligned to %lld bytes", op, (long long)align);
    return OCT_OK;
}

int64_t oct_kv_row_bytes(const oct_kv *kv)
{
    OCT_TRY(oct_kv_check("kv", kv, 1));
    const oct_kv full = oct_kv_full(kv);
    return row_bytes(&full);
}

int64_t oct_kv_bytes(const oct_kv *kv)
{
    OCT_TRY(oct_kv_check("kv", kv, 1));
    const oct_kv full = oct_kv_full(kv);
    return full.pages * full.page_bytes;
}
