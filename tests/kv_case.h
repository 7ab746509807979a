/* kv_case.h - caches for the checks of the ops that use one. */
#ifndef OCTAVO_TESTS_KV_CASE_H
#define OCTAVO_TESTS_KV_CASE_H
#include "check.h"
#include "core/core.h"
#include "core/num/kv.h"

#define CK_KV_FORMATS(name) CK_NAMES(name, "bf16", "f8 token", "i4 1", "i4 2", "i4 4", "i4 8", "f8 token")
#define CK_KV_LAYOUTS(name) CK_NAMES(name, "contiguous", "pages of 1", "pages of 3", "pages of 16", "pages of 64")
#define CK_KV_STRIDES(name) CK_NAMES(name, "packed", "heads apart", "tokens apart", "pages apart", "all apart", "heads first", \
                                    "heads first, apart")
/* What rows hold: stored values of CK_KINDS, bytes that no op wrote, such bytes without NaN and infinity, or values that grow
 * along a row, so that its groups differ. */
#define CK_KV_KINDS(name) \
    CK_NAMES(name, "uniform", "near max", "subnormal", "all codes", "nan inf", "outlier row", "zero", "constant", "any bytes", "any numbers", \
             "growing")
enum { CK_KV_BYTES = CK_KIND_COUNT, CK_KV_NUMBERS, CK_KV_GROWING };

/* A descriptor without data: lanes of `room` tokens. d is rounded up to what the groups divide. */
static inline oct_kv ck_kv(ck_case *c, int format, int layout, int strides, int64_t lanes, int64_t room, int64_t heads, int64_t d)
{
    static const int32_t formats[] = { OCT_KV_BF16, OCT_KV_F8_TOKEN, OCT_KV_I4, OCT_KV_I4, OCT_KV_I4, OCT_KV_I4, OCT_KV_F8_TOKEN };
    static const int32_t groups[] = { 1, 1, 1, 2, 4, 8, 1 };
    static const int64_t page_sizes[] = { 0, 1, 3, 16, 64 };
    oct_kv kv = { .size = sizeof kv, .format = formats[format], .heads = heads };
    if (kv.format == OCT_KV_I4) kv.groups = groups[format];
    kv.d = (d + 2 * groups[format] - 1) / (2 * groups[format]) * (2 * groups[format]);
    kv.lanes = lanes;
    kv.page_size = layout ? page_sizes[layout] : room;
    kv.pages = lanes;
    if (layout) {
        const int64_t each = oct_cdiv(room, kv.page_size), all = lanes * each + 2;
        kv.ld_page_table = each + strides % 5;
        int32_t *table = ck_input(c, lanes, each, kv.ld_page_table, 4), *order = ck_output(c, 1, all, all, 4);
        for (int64_t i = 0; i < all; i++) order[i] = (int32_t)i;
        for (int64_t i = all - 1; i > 0; i--) {
            const int64_t j = (int64_t)(ck_rnd(c) >> 1) % (i + 1);
            const int32_t t = order[i];
            order[i] = order[j];
            order[j] = t;
        }
        for (int64_t i = 0; i < all; i++) /* the first page to fill up is the last in memory */
            if (order[i] == all - 1) {
                order[i] = order[0];
                order[0] = (int32_t)(all - 1);
            }
        for (int64_t i = 0; i < lanes; i++)
            for (int64_t j = 0; j < each; j++) table[i * kv.ld_page_table + j] = order[i * each + j];
        kv.page_table = table;
        kv.pages = all;
    }
    const int64_t row = oct_kv_row_bytes(&kv), apart = strides == 6;
    if (strides >= 5) {
        kv.token_bytes = row + 2 * apart;
        kv.head_bytes = kv.page_size * kv.token_bytes + 6 * apart;
        if (apart) kv.page_bytes = heads * kv.head_bytes + 10;
        return kv;
    }
    if (strides == 1 || strides == 4) kv.head_bytes = row + 2;
    if (strides == 2 || strides == 4) kv.token_bytes = heads * (kv.head_bytes ? kv.head_bytes : row) + 6;
    if (strides >= 3) kv.page_bytes = kv.page_size * (kv.token_bytes ? kv.token_bytes : heads * (kv.head_bytes ? kv.head_bytes : row)) + 10;
    return kv;
}

/* Makes any bytes a row of numbers. */
static inline void ck_kv_numbers(const oct_kv *kv, uint8_t *row)
{
    const int64_t params = kv->format == OCT_KV_BF16 ? kv->d : kv->format == OCT_KV_I4 ? 2 * kv->groups : 2;
    const uint8_t low = kv->format == OCT_KV_BF16 ? 0xbf : 0xfb; /* one bit less in the exponent */
    for (int64_t i = 0; i < params; i++) row[2 * i + 1] &= low;
    for (int64_t i = 0; kv->format == OCT_KV_F8_TOKEN && i < kv->d; i++)
        if ((row[4 + i] & 0x7f) == 0x7f) row[4 + i] = 0x7e;
}

/* Fills the rows (lane, t < len[lane]) of k or v (data); all other bytes stay as they are. */
static inline void ck_kv_fill(ck_case *c, const oct_kv *in, void *data, const int32_t *len, int kind)
{
    const oct_kv kv = oct_kv_full(in);
    float *x = ck_output(c, 1, kv.d, kv.d, 4);
    for (int64_t b = 0; b < kv.lanes; b++)
        for (int64_t t = 0; t < len[b]; t++)
            for (int64_t h = 0; h < kv.heads; h++) {
                uint8_t *row = (uint8_t *)data + oct_kv_offset(&kv, oct_kv_page(&kv, b, t), t, h);
                if (kind == CK_KV_BYTES || kind == CK_KV_NUMBERS) {
                    for (int64_t i = 0; i < oct_kv_row_bytes(in); i++) row[i] = (uint8_t)(ck_rnd(c) >> 32);
                    if (kind == CK_KV_NUMBERS) ck_kv_numbers(&kv, row);
                } else {
                    const int usual = kind == CK_KV_GROWING || kind == CK_SPECIAL || (kind == CK_OUTLIER && t % 7);
                    ck_fill(c, x, OCT_F32, 1, kv.d, kv.d, usual ? CK_UNIFORM : kind);
                    for (int64_t e = 0; kind == CK_KV_GROWING && e < kv.d; e++) x[e] *= 0.1f + 2 * (float)e / (float)kv.d;
                    if (kind == CK_SPECIAL) { /* few, so that some rows and some outputs stay numbers */
                        const uint64_t r = ck_rnd(c);
                        if (r % 8 < 3) x[(r >> 8) % (uint64_t)kv.d] = r % 8 == 0 ? INFINITY : NAN;
                    }
                    oct_kv_store(&kv, row, x);
                }
            }
}
#endif
