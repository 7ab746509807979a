/* api_ops.c - every op as test_api calls it: a good call, and what makes it a bad one. */
#include "api.h"
#include <math.h>
#include <string.h>

/* The four entry points behind pointers of one type. */
#define CALLS(op)                                                                                                     \
    static oct_status op##_run(const void *a) { return oct_##op(a); }                                                 \
    static oct_status op##_check(const void *a, char *why, int64_t n) { return oct_##op##_check(a, why, n); }         \
    static oct_status op##_choice(const void *a, char *text, int64_t n) { return oct_##op##_choice(a, text, n); }     \
    static int64_t op##_scratch(const void *a) { return oct_##op##_scratch(a); }
#define OP(op, more)                                                                                                  \
    { #op, (int64_t)sizeof(oct_##op##_args), (int64_t)offsetof(oct_##op##_args, on),                                  \
      (int64_t)offsetof(oct_##op##_args, reserved), op##_run, op##_check, op##_choice, op##_scratch, op##_good, more, \
      op##_fields, (int)(sizeof op##_fields / sizeof *op##_fields) }
#define F(op, kind, field, a, b) { API_##kind, #field, offsetof(oct_##op##_args, field), a, b }
/* A field that the text calls by another name. */
#define N(op, kind, field, name, a, b) { API_##kind, name, offsetof(oct_##op##_args, field), a, b }
#define BIT(x) ((int64_t)1 << (x))

/* For `more`: a good call with a change is refused with this status and these words; or it works. */
#define BAD(op, status, part, part2, ...) WRONG(op, 0, status, part, part2, __VA_ARGS__)
#define BAD_DATA(op, status, part, part2, ...) WRONG(op, 1, status, part, part2, __VA_ARGS__) /* only a run can know */
#define WRONG(op, pointers, status, part, part2, ...)                                                                 \
    do {                                                                                                              \
        oct_##op##_args a = { .size = 0 };                                                                            \
        const char *const parts[] = { part, part2, 0 };                                                               \
        m.used = 0;                                                                                                   \
        op##_good(&a, &m);                                                                                            \
        a.size = sizeof a;                                                                                            \
        __VA_ARGS__;                                                                                                  \
        api_refuse(api_find(#op), &a, &m, status, pointers, parts);                                                   \
    } while (0)
#define GOOD(op, ...)                                                                                                 \
    do {                                                                                                              \
        oct_##op##_args a = { .size = 0 };                                                                            \
        m.used = 0;                                                                                                   \
        op##_good(&a, &m);                                                                                            \
        a.size = sizeof a;                                                                                            \
        __VA_ARGS__;                                                                                                  \
        api_accept(api_find(#op), &a, #__VA_ARGS__);                                                                  \
    } while (0)

/* ---- quant ---- */

CALLS(quant)
static void quant_good(void *args, api_arena *m)
{
    oct_quant_args *a = args;
    *a = (oct_quant_args){ .scaling = OCT_SCALE_BLOCK, .m = 130, .k = 1000, .block_m = 8, .block_k = 100, .x_dtype = OCT_BF16,
                           .y_dtype = OCT_F8E4M3FN, .ldx = 1001, .ldy = 1003, .ld_scale = 12, .group_m = 50 };
    a->x = api_mem(m, 130 * 1001 * 2);
    a->y = api_mem(m, 130 * 1003);
    a->scale = api_mem(m, 17 * 12 * 4);
    a->scale_ub = api_mem(m, 4);
    a->valid_m = api_mem(m, 3 * 8);
}
static const api_field quant_fields[] = {
    F(quant, DTYPE, x_dtype, BIT(OCT_F32) | BIT(OCT_BF16) | BIT(OCT_F16), 0),
    F(quant, DTYPE, y_dtype, BIT(OCT_F8E4M3FN), 0),
    F(quant, CHOICE, scaling, 6, BIT(OCT_SCALE_NONE)),
    F(quant, CHOICE, rule, 2, 0),
    F(quant, CHOICE, scale_layout, 2, 0),
    F(quant, FLAGS, flags, OCT_QUANT_SCALE_GIVEN, 0),
    F(quant, EXTENT, m, 0, 1),
    F(quant, EXTENT, k, 0, 1),
    F(quant, EXTENT, block_m, 1, 0),
    F(quant, EXTENT, block_k, 1, 0),
    N(quant, STRIDE, ldx, "x", 1000, 0),
    N(quant, STRIDE, ldy, "y", 1000, 0),
    N(quant, STRIDE, ld_scale, "scale", 10, 0),
    F(quant, PTR, x, 2, 1),
    F(quant, PTR, y, 1, 1),
    F(quant, PTR, scale, 4, 1),
    F(quant, PTR, scale_ub, 4, 0),
    F(quant, EXTENT, group_m, 1, 0),
    F(quant, PTR, valid_m, 8, 0),
    F(quant, PTR_NOT_YET, seed, 0, 0),
};
static void quant_more(void)
{
    static api_arena m;
    BAD(quant, OCT_E_SHAPE, "x [1]", "overflows 64 bits", a.m = INT64_MAX / 1100); /* only in bytes */
    BAD(quant, OCT_E_VALUE, "scale_ub", "SCALE_GIVEN", a.flags = OCT_QUANT_SCALE_GIVEN);
    BAD(quant, OCT_E_VALUE, "valid_m", "SCALE_GIVEN", a.flags = OCT_QUANT_SCALE_GIVEN, a.scale_ub = 0);
    GOOD(quant, a.flags = OCT_QUANT_SCALE_GIVEN, a.scale_ub = 0, a.valid_m = 0);
    GOOD(quant, a.group_m = INT64_MAX);
    GOOD(quant, a.block_m = a.block_k = INT64_MAX);
    GOOD(quant, a.m = 0, a.x = 0, a.y = 0, a.scale = 0);
    BAD_DATA(quant, OCT_E_NULL, "scale", 0, a.scaling = OCT_SCALE_COL, a.ld_scale = 0, a.m = 0, a.scale = 0); /* columns have scales all the same */
    GOOD(quant, a.scaling = OCT_SCALE_TENSOR, a.m = 0, a.x = 0, a.y = 0);
}

/* ---- dequant ---- */

CALLS(dequant)
static void dequant_good(void *args, api_arena *m)
{
    oct_dequant_args *a = args;
    *a = (oct_dequant_args){ .scaling = OCT_SCALE_BLOCK, .m = 130, .k = 1000, .block_m = 8, .block_k = 100, .x_dtype = OCT_F8E4M3FN,
                             .y_dtype = OCT_F32, .ldx = 1001, .ldy = 1004, .ld_scale = 12 };
    a->x = api_mem(m, 130 * 1001);
    a->y = api_mem(m, 130 * 1004 * 4);
    a->scale = api_mem(m, 17 * 12 * 4);
}
static const api_field dequant_fields[] = {
    F(dequant, DTYPE, x_dtype, BIT(OCT_F8E4M3FN), 0),
    F(dequant, DTYPE, y_dtype, BIT(OCT_F32) | BIT(OCT_BF16) | BIT(OCT_F16), 0),
    F(dequant, CHOICE, scaling, 6, 0),
    F(dequant, CHOICE, scale_layout, 2, 0),
    F(dequant, EXTENT, m, 0, 1),
    F(dequant, EXTENT, k, 0, 1),
    F(dequant, EXTENT, block_m, 1, 0),
    F(dequant, EXTENT, block_k, 1, 0),
    N(dequant, STRIDE, ldx, "x", 1000, 0),
    N(dequant, STRIDE, ldy, "y", 1000, 0),
    N(dequant, STRIDE, ld_scale, "scale", 10, 0),
    F(dequant, PTR, x, 1, 1),
    F(dequant, PTR, y, 4, 1),
    F(dequant, PTR, scale, 4, 1),
};

static void dequant_more(void)
{
    static api_arena m;
    GOOD(dequant, a.block_m = a.block_k = INT64_MAX);
    GOOD(dequant, a.k = 0, a.x = 0, a.y = 0, a.scale = 0);
    GOOD(dequant, a.scaling = OCT_SCALE_NONE, a.scale = 0);
    GOOD(dequant, a.scaling = OCT_SCALE_ROW, a.ld_scale = 0, a.y_dtype = OCT_BF16);
}

/* ---- gemm ---- */

CALLS(gemm)
static void gemm_good(void *args, api_arena *m)
{
    oct_gemm_args *a = args;
    *a = (oct_gemm_args){ .scaling = OCT_SCALE_GROUP, .m = 70, .n = 40, .k = 130, .batch = 2, .x_dtype = OCT_F8E4M3FN,
                          .w_dtype = OCT_F8E4M3FN, .bias_dtype = OCT_F32, .y_dtype = OCT_F32, .ldx = 131, .ldw = 130, .ldy = 41 };
    a->x = api_mem(m, 2 * 70 * 131);
    a->w = api_mem(m, 2 * 40 * 130);
    a->y = api_mem(m, 2 * 70 * 41 * 4);
    a->x_scale = api_mem(m, 2 * 70 * 2 * 4);
    a->w_scale = api_mem(m, 2 * 1 * 2 * 4);
    a->bias = api_mem(m, 2 * 40 * 4);
}
static const api_field gemm_fields[] = {
    F(gemm, DTYPE, x_dtype, BIT(OCT_F8E4M3FN) | BIT(OCT_BF16), 0),
    F(gemm, DTYPE, w_dtype, BIT(OCT_F8E4M3FN) | BIT(OCT_BF16), 0),
    F(gemm, DTYPE, bias_dtype, BIT(OCT_F32) | BIT(OCT_BF16), 0),
    F(gemm, DTYPE, y_dtype, BIT(OCT_F32) | BIT(OCT_BF16), 0),
    F(gemm, CHOICE, scaling, 5, 0),
    F(gemm, CHOICE, scale_layout, 2, 0),
    F(gemm, FLAGS, flags, 15, 0),
    F(gemm, I32_NOT_YET, w_layout, 0, 0),
    F(gemm, EXTENT, m, 0, 1),
    F(gemm, EXTENT, n, 0, 1),
    F(gemm, EXTENT, k, 0, 1),
    F(gemm, EXTENT, batch, 0, 1),
    N(gemm, STRIDE, ldx, "x", 130, 0),
    N(gemm, STRIDE, ldw, "w", 130, 0),
    N(gemm, STRIDE, ldy, "y", 40, 0),
    N(gemm, STRIDE, stride_x, "x", 69 * 131 + 130, 1),
    N(gemm, STRIDE, stride_w, "w", 40 * 130, 1),
    N(gemm, STRIDE, stride_y, "y", 69 * 41 + 40, 0),
    N(gemm, STRIDE, stride_bias, "bias", 40, 1),
    F(gemm, PTR, x, 1, 1),
    F(gemm, PTR, w, 1, 1),
    F(gemm, PTR, y, 4, 1),
    F(gemm, PTR, x_scale, 4, 1),
    F(gemm, PTR, w_scale, 4, 1),
    F(gemm, PTR, bias, 4, 0),
};
static void gemm_more(void)
{
    static api_arena m;
    BAD(gemm, OCT_E_VALUE, "block_m", "64", a.block_m = 64);
    BAD(gemm, OCT_E_VALUE, "block_n", "-1", a.block_n = -1);
    BAD(gemm, OCT_E_VALUE, "block_k", "127", a.block_k = 127);
    BAD(gemm, OCT_E_DTYPE, "f8e4m3fn", "bf16", a.w_dtype = OCT_BF16);
    BAD(gemm, OCT_E_VALUE, "scaling is GROUP", "x bf16", a.x_dtype = OCT_BF16);
    BAD(gemm, OCT_E_VALUE, "x_scale", "x is bf16", a.x_dtype = OCT_BF16, a.scaling = OCT_SCALE_ROW);
    BAD(gemm, OCT_E_VALUE, "scaling is ROW", "w bf16", a.x_dtype = a.w_dtype = OCT_BF16, a.scaling = OCT_SCALE_ROW);
    BAD(gemm, OCT_E_VALUE, "x_scale", "NONE", a.scaling = OCT_SCALE_NONE);
    BAD(gemm, OCT_E_VALUE, "w_scale", "NONE", a.scaling = OCT_SCALE_NONE, a.x_scale = 0);
    GOOD(gemm, a.block_m = a.block_n = a.block_k = 128);
    GOOD(gemm, a.stride_w = OCT_BROADCAST);
    GOOD(gemm, a.m = 0, a.x = 0, a.y = 0);
    GOOD(gemm, a.batch = 1);
    static const int64_t sizes[] = { 40, 0, 3 };
    BAD(gemm, OCT_E_VALUE, "m_sizes", "groups is 0", a.m_sizes = sizes);
    BAD(gemm, OCT_E_VALUE, "batch is 2", "groups", a.groups = 3, a.m_sizes = sizes);
    BAD(gemm, OCT_E_SHAPE, "groups", "-1", a.groups = -1, a.m_sizes = sizes, a.batch = 0);
    BAD_DATA(gemm, OCT_E_NULL, "m_sizes", "NULL", a.groups = 2);
    GOOD(gemm, a.groups = 2, a.m_sizes = sizes, a.flags = OCT_GEMM_ZERO_REST);
    GOOD(gemm, a.groups = 2, a.m_sizes = sizes, a.scaling = OCT_SCALE_BLOCK);
    BAD(gemm, OCT_E_VALUE, "BLOCK", "groups", a.groups = 2, a.m_sizes = sizes, a.batch = 1, a.scaling = OCT_SCALE_BLOCK);
    GOOD(gemm, a.groups = 2, a.m_sizes = sizes, a.batch = 1);
}

/* ---- norm_quant ---- */

CALLS(norm_quant)
static void norm_quant_good(void *args, api_arena *m)
{
    oct_norm_quant_args *a = args;
    *a = (oct_norm_quant_args){ .scaling = OCT_SCALE_GROUP, .m = 70, .k = 600, .block_k = 100, .x_dtype = OCT_BF16, .residual_dtype = OCT_F32,
                                .weight_dtype = OCT_BF16, .y_dtype = OCT_F8E4M3FN, .eps = 1e-5f, .ldx = 601, .ld_residual = 602,
                                .ld_residual_out = 603, .ldy = 604, .ld_scale = 7 };
    a->x = api_mem(m, 70 * 601 * 2);
    a->residual = api_mem(m, 70 * 602 * 4);
    a->residual_out = api_mem(m, 70 * 603 * 4);
    a->weight = api_mem(m, 600 * 2);
    a->y = api_mem(m, 70 * 604);
    a->scale = api_mem(m, 70 * 7 * 4);
    a->scale_ub = api_mem(m, 4);
}
static const api_field norm_quant_fields[] = {
    F(norm_quant, DTYPE, x_dtype, BIT(OCT_F32) | BIT(OCT_BF16), 0),
    F(norm_quant, DTYPE, residual_dtype, BIT(OCT_F32) | BIT(OCT_BF16), 0),
    F(norm_quant, DTYPE, weight_dtype, BIT(OCT_F32) | BIT(OCT_BF16), 0),
    F(norm_quant, DTYPE, y_dtype, BIT(OCT_F8E4M3FN), 0),
    F(norm_quant, CHOICE, scaling, 6, BIT(OCT_SCALE_TENSOR) | BIT(OCT_SCALE_BLOCK) | BIT(OCT_SCALE_COL)),
    F(norm_quant, CHOICE, rule, 2, 0),
    F(norm_quant, CHOICE, scale_layout, 2, 0),
    F(norm_quant, FLAGS, flags, 0, 0),
    F(norm_quant, EXTENT, m, 0, 1),
    F(norm_quant, EXTENT, k, 0, 1),
    F(norm_quant, EXTENT, block_k, 1, 0),
    N(norm_quant, STRIDE, ldx, "x", 600, 0),
    N(norm_quant, STRIDE, ld_residual, "residual", 600, 0),
    N(norm_quant, STRIDE, ld_residual_out, "residual_out", 600, 0),
    N(norm_quant, STRIDE, ldy, "y", 600, 0),
    N(norm_quant, STRIDE, ld_scale, "scale", 6, 0),
    F(norm_quant, PTR, x, 2, 1),
    F(norm_quant, PTR, residual, 4, 0),
    F(norm_quant, PTR, residual_out, 4, 0),
    F(norm_quant, PTR, weight, 2, 0),
    F(norm_quant, PTR, y, 1, 1),
    F(norm_quant, PTR, scale, 4, 1),
    F(norm_quant, PTR, scale_ub, 4, 0),
};
static void norm_quant_more(void)
{
    static api_arena m;
    BAD(norm_quant, OCT_E_VALUE, "eps", "-1", a.eps = -1);
    BAD(norm_quant, OCT_E_VALUE, "eps", "nan", a.eps = __builtin_nanf(""));
    BAD(norm_quant, OCT_E_VALUE, "eps", "inf", a.eps = __builtin_inff());
    BAD(norm_quant, OCT_E_SHAPE, "residual_out is residual", "603", a.residual = a.residual_out);
    BAD(norm_quant, OCT_E_DTYPE, "y_dtype", "f32, bf16", a.scaling = OCT_SCALE_NONE);
    GOOD(norm_quant, a.residual = a.residual_out, a.ld_residual = a.ld_residual_out);
    GOOD(norm_quant, a.scaling = OCT_SCALE_NONE, a.y_dtype = OCT_BF16, a.ldy = 0, a.scale = 0, a.ld_scale = 0);
    GOOD(norm_quant, a.residual = 0, a.residual_out = 0, a.residual_dtype = 0, a.weight = 0, a.weight_dtype = 0, a.scale_ub = 0);
    GOOD(norm_quant, a.block_k = INT64_MAX);
    GOOD(norm_quant, a.eps = 0);
    GOOD(norm_quant, a.k = 0, a.x = 0, a.y = 0, a.scale = 0);
}

/* ---- silu_mul_quant ---- */

CALLS(silu_mul_quant)
static void silu_mul_quant_good(void *args, api_arena *m)
{
    oct_silu_mul_quant_args *a = args;
    *a = (oct_silu_mul_quant_args){ .scaling = OCT_SCALE_GROUP, .m = 70, .k = 600, .block_k = 100, .x_dtype = OCT_BF16,
                                    .y_dtype = OCT_F8E4M3FN, .ld_gate = 1200, .ld_up = 1300, .ldy = 604, .ld_scale = 7 };
    a->gate = api_mem(m, 70 * 1200 * 2);
    a->up = api_mem(m, 70 * 1300 * 2);
    a->y = api_mem(m, 70 * 604);
    a->scale = api_mem(m, 70 * 7 * 4);
    a->scale_ub = api_mem(m, 4);
}
static const api_field silu_mul_quant_fields[] = {
    F(silu_mul_quant, DTYPE, x_dtype, BIT(OCT_F32) | BIT(OCT_BF16), 0),
    F(silu_mul_quant, DTYPE, y_dtype, BIT(OCT_F8E4M3FN), 0),
    F(silu_mul_quant, CHOICE, scaling, 6, BIT(OCT_SCALE_TENSOR) | BIT(OCT_SCALE_BLOCK) | BIT(OCT_SCALE_COL)),
    F(silu_mul_quant, CHOICE, rule, 2, 0),
    F(silu_mul_quant, CHOICE, scale_layout, 2, 0),
    F(silu_mul_quant, FLAGS, flags, 0, 0),
    F(silu_mul_quant, EXTENT, m, 0, 1),
    F(silu_mul_quant, EXTENT, k, 0, 1),
    F(silu_mul_quant, EXTENT, block_k, 1, 0),
    N(silu_mul_quant, STRIDE, ld_gate, "gate", 600, 0),
    N(silu_mul_quant, STRIDE, ld_up, "up", 600, 0),
    N(silu_mul_quant, STRIDE, ldy, "y", 600, 0),
    N(silu_mul_quant, STRIDE, ld_scale, "scale", 6, 0),
    F(silu_mul_quant, PTR, gate, 2, 1),
    F(silu_mul_quant, PTR, up, 2, 1),
    F(silu_mul_quant, PTR, y, 1, 1),
    F(silu_mul_quant, PTR, scale, 4, 1),
    F(silu_mul_quant, PTR, scale_ub, 4, 0),
};
static void silu_mul_quant_more(void)
{
    static api_arena m;
    BAD(silu_mul_quant, OCT_E_DTYPE, "y_dtype", "f32, bf16", a.scaling = OCT_SCALE_NONE);
    GOOD(silu_mul_quant, a.scaling = OCT_SCALE_NONE, a.y_dtype = OCT_BF16, a.ldy = 0, a.scale = 0, a.ld_scale = 0);
    GOOD(silu_mul_quant, a.block_k = INT64_MAX, a.scale_ub = 0);
    GOOD(silu_mul_quant, a.m = 0, a.gate = 0, a.up = 0, a.y = 0, a.scale = 0);
}

/* ---- The ops on a cache: 3 lanes of 2 pages of 4 tokens, 2 heads of 16 ---- */

/* Its bytes make numbers, and the table a way through the pages that is not the straight one. */
static oct_kv *cache(api_arena *m)
{
    static const int32_t pages[] = { 4, 1, 3, 0, 2, 5 };
    oct_kv *kv = &m->kv;
    int32_t *table = api_mem(m, sizeof pages);
    memcpy(table, pages, sizeof pages);
    *kv = (oct_kv){ .size = sizeof *kv, .format = OCT_KV_I4, .groups = 2, .heads = 2, .d = 16, .pages = 6, .page_size = 4,
                    .lanes = 3, .page_table = table, .ld_page_table = 2 };
    kv->k = api_mem(m, 2048);
    kv->v = api_mem(m, 2048);
    return kv;
}
static int32_t *ints(api_arena *m, int n, const int32_t *v)
{
    int32_t *p = api_mem(m, 4 * n);
    memcpy(p, v, (size_t)n * 4);
    return p;
}
/* The cache of a good call is behind a const pointer. */
#define KV (*(oct_kv *)(uintptr_t)a.kv)
#define KV_BAD(op)                                                                                                    \
    BAD(op, OCT_E_NULL, "kv is NULL", "", a.kv = 0);                                                                  \
    KV_WRONG(op)
#define KV_WRONG(op)                                                                                                  \
    BAD(op, OCT_E_VALUE, "kv.size", "0", KV.size = 0);                                                                \
    BAD(op, OCT_E_UNSUPPORTED, "kv.format", "F8_HEAD", KV.format = OCT_KV_F8_HEAD);                                   \
    BAD(op, OCT_E_VALUE, "kv.format", "77", KV.format = 77);                                                          \
    BAD(op, OCT_E_VALUE, "kv.groups", "3", KV.groups = 3);                                                            \
    BAD(op, OCT_E_UNSUPPORTED, "kv.high_first", "1", KV.high_first = 1);                                              \
    BAD(op, OCT_E_SHAPE, "kv.heads", "-1", KV.heads = -1);                                                            \
    BAD(op, OCT_E_SHAPE, "kv.pages", "-1", KV.pages = -1);                                                            \
    BAD(op, OCT_E_SHAPE, "kv.page_size", "0", KV.page_size = 0);                                                      \
    BAD(op, OCT_E_SHAPE, "kv strides", "head 15", KV.head_bytes = 15);                                                \
    BAD(op, OCT_E_SHAPE, "kv.ld_page_table", "0", KV.ld_page_table = 0);                                              \
    BAD(op, OCT_E_UNSUPPORTED, "k_param", "NULL", KV.k_param = KV.k);                                                 \
    BAD(op, OCT_E_UNSUPPORTED, "reserved", "kv", KV.reserved[2] = 5);                                                 \
    BAD_DATA(op, OCT_E_NULL, "kv.k", "NULL", KV.k = 0);                                                               \
    BAD_DATA(op, OCT_E_NULL, "kv.v", "NULL", KV.v = 0);                                                               \
    BAD_DATA(op, OCT_E_ALIGN, "kv.k", "2 bytes", KV.k = (char *)KV.k + 1, KV.format = OCT_KV_BF16, KV.pages = 3, KV.page_table = 0);  \
    BAD_DATA(op, OCT_E_ALIGN, "kv.page_table", "4 bytes", KV.page_table = (const int32_t *)((uintptr_t)KV.page_table + 2))

CALLS(rope_kv)
static void rope_kv_good(void *args, api_arena *m)
{
    static const int32_t pos[] = { 5, 0, -1, 100 }, slot[] = { 5, 7, 99, 0 }, lane[] = { 2, 0, 99, 1 };
    enum { T = 600 };
    oct_rope_kv_args *a = args;
    *a = (oct_rope_kv_args){ .pairs = OCT_ROPE_HALF, .t = T, .heads = 4, .d = 16, .ldq = 70, .head_q = 17, .ldq_out = 80, .head_q_out = 18,
                             .ldk = 40, .head_k = 19, .ldv = 41, .head_v = 20, .ldk_out = 42, .head_k_out = 21, .dtype = OCT_BF16, .rope = { .theta = 1e4f },
                             .table_len = 8 };
    a->q = api_mem(m, T * 70 * 2);
    a->q_out = api_mem(m, T * 80 * 2);
    a->k = api_mem(m, T * 40 * 2);
    a->v = api_mem(m, T * 41 * 2);
    a->k_out = api_mem(m, T * 42 * 2);
    a->table = api_mem(m, 8 * 16 * 4);
    a->kv = cache(m);
    int32_t *p = api_mem(m, T * 4);
    for (int i = 0; i < T; i++) p[i] = i < 4 ? pos[i] : -1;
    a->pos = p;
    int64_t *valid = api_mem(m, 8);
    *valid = T;
    a->valid_t = valid;
    int32_t *s = api_mem(m, T * 4), *l = api_mem(m, T * 4);
    memcpy(s, slot, sizeof slot);
    memcpy(l, lane, sizeof lane);
    a->slot = s;
    a->lane = l;
}
static const api_field rope_kv_fields[] = {
    F(rope_kv, CHOICE, pairs, 3, 0),
    F(rope_kv, FLAGS, flags, OCT_ROPE_KV_NORM, 0),
    F(rope_kv, DTYPE, dtype, BIT(OCT_BF16), 0),
    F(rope_kv, EXTENT, t, 0, 1),
    F(rope_kv, EXTENT, heads, 0, 1),
    F(rope_kv, EXTENT, d, 2, 0),
    F(rope_kv, EXTENT, table_len, 0, 1),
    N(rope_kv, STRIDE, ldq, "", 3 * 17 + 16, 0),
    N(rope_kv, STRIDE, head_q, "q", 16, 0),
    N(rope_kv, STRIDE, ldq_out, "", 3 * 18 + 16, 0),
    N(rope_kv, STRIDE, head_q_out, "q_out", 16, 0),
    N(rope_kv, STRIDE, ldk, "", 19 + 16, 0),
    N(rope_kv, STRIDE, head_k, "k", 16, 0),
    N(rope_kv, STRIDE, ldv, "", 20 + 16, 0),
    N(rope_kv, STRIDE, head_v, "v", 16, 0),
    N(rope_kv, STRIDE, ldk_out, "", 21 + 16, 0),
    N(rope_kv, STRIDE, head_k_out, "k_out", 16, 0),
    F(rope_kv, PTR, q, 2, 0),
    F(rope_kv, PTR, q_out, 2, 1),
    F(rope_kv, PTR, k, 2, 1),
    F(rope_kv, PTR, v, 2, 1),
    F(rope_kv, PTR, pos, 4, 1),
    F(rope_kv, PTR, slot, 4, 0),
    F(rope_kv, PTR, lane, 4, 0),
    F(rope_kv, PTR, table, 4, 0),
    F(rope_kv, PTR, k_out, 2, 0),
    F(rope_kv, PTR, valid_t, 8, 0),
};
static void set_int(const int32_t *p, int i, int32_t v) { ((int32_t *)(uintptr_t)p)[i] = v; }
static void rope_kv_more(void)
{
    static api_arena m;
    KV_WRONG(rope_kv);
    BAD(rope_kv, OCT_E_SHAPE, "kv.d", "8", KV.d = 8);
    BAD(rope_kv, OCT_E_SHAPE, "d is 15", "even", a.d = 15);
    BAD(rope_kv, OCT_E_UNSUPPORTED, "d is 2050", "2048", a.d = 2050);
    BAD_DATA(rope_kv, OCT_E_VALUE, "pos[1]", "-2", set_int(a.pos, 1, -2));
    BAD_DATA(rope_kv, OCT_E_VALUE, "slot of token 3", "8", set_int(a.slot, 3, 8));
    BAD_DATA(rope_kv, OCT_E_VALUE, "slot of token 3", "-1", set_int(a.slot, 3, -1));
    BAD_DATA(rope_kv, OCT_E_VALUE, "lane of token 3", "3", set_int(a.lane, 3, 3));
    BAD_DATA(rope_kv, OCT_E_VALUE, "lane of token 0", "-1", set_int(a.lane, 0, -1));
    BAD_DATA(rope_kv, OCT_E_VALUE, "page_table[0][1]", "6", set_int(KV.page_table, 1, 6));
    BAD_DATA(rope_kv, OCT_E_VALUE, "page_table[1][0]", "-1", set_int(KV.page_table, 2, -1));
    BAD(rope_kv, OCT_E_VALUE, "theta", "", a.table = 0, a.rope.theta = -1);
    BAD_DATA(rope_kv, OCT_E_VALUE, "pos[3] is 100", "table", a.rope.theta = 0);
    GOOD(rope_kv, a.q = a.q_out = 0);
    BAD(rope_kv, OCT_E_VALUE, "norm_eps", "at least 0", a.norm_eps = -1);
    BAD(rope_kv, OCT_E_VALUE, "norm_eps", "finite", a.norm_eps = HUGE_VALF);
    BAD(rope_kv, OCT_E_VALUE, "k_out", "kv", a.kv = 0);
    GOOD(rope_kv, a.kv = 0, a.k = a.v = a.k_out = 0);
    GOOD(rope_kv, a.k_out = 0, a.flags = OCT_ROPE_KV_NORM, a.norm_eps = 1);
    GOOD(rope_kv, a.t = 0, a.pos = 0);
    GOOD(rope_kv, a.pairs = OCT_ROPE_NONE, a.table = 0, a.rope.theta = 0);
}
static void rope_table_calls(void)
{
    static const oct_rope ok = { .theta = 1e4f }, wrong = { .theta = 0 }, llama = { 5e5f, 1, 8, 1, 4, 8192, { 0 } }, odd = { 5e5f, 2, 8, 1, 4, 8192, { 0 } };
    float t[32], kept[32];
    memset(t, 0x55, sizeof t);
    memcpy(kept, t, sizeof t);
    api_expect(oct_rope_table(0, 8, 0, 2, t) == OCT_E_NULL && oct_rope_table(&ok, 8, 0, 2, 0) == OCT_E_NULL, "rope_table: NULL");
    api_expect(oct_rope_table(&wrong, 8, 0, 2, t) == OCT_E_VALUE && strstr(oct_error_text(), "theta"), "rope_table: theta 0: %s", oct_error_text());
    api_expect(oct_rope_table(&odd, 8, 0, 2, t) == OCT_E_VALUE && strstr(oct_error_text(), "scaling"), "rope_table: scaling 2: %s", oct_error_text());
    api_expect(oct_rope_table(&ok, 7, 0, 2, t) == OCT_E_SHAPE && oct_rope_table(&ok, 0, 0, 2, t) == OCT_E_SHAPE, "rope_table: d");
    api_expect(oct_rope_table(&ok, 8, -1, 2, t) == OCT_E_SHAPE && oct_rope_table(&ok, 8, 0, -2, t) == OCT_E_SHAPE, "rope_table: first, n");
    api_expect(!memcmp(t, kept, sizeof t), "rope_table writes after an error");
    api_expect(oct_rope_table(&ok, 8, 0, 0, 0) == OCT_OK, "rope_table of no positions");
    api_expect(oct_rope_table(&llama, 8, 0, 2, t) == OCT_OK && t[0] == 1 && t[4] == 0 && !memcmp(t + 16, kept + 16, 64), "rope_table: %s", oct_error_text());
}
static void rope_more(void) { rope_kv_more(); rope_table_calls(); }

CALLS(kv_dequant)
static void kv_dequant_good(void *args, api_arena *m)
{
    static const int32_t len[] = { 8, 0, 5 };
    oct_kv_dequant_args *a = args;
    *a = (oct_kv_dequant_args){ .max_t = 9, .y_dtype = OCT_F32, .head_out = 17, .token_out = 40, .lane_out = 400 };
    a->kv = cache(m);
    a->len = ints(m, 3, len);
    a->k_out = api_mem(m, 3 * 400 * 4);
    a->v_out = api_mem(m, 3 * 400 * 4);
}
static const api_field kv_dequant_fields[] = {
    F(kv_dequant, DTYPE, y_dtype, BIT(OCT_F32) | BIT(OCT_BF16), 0),
    F(kv_dequant, EXTENT, max_t, 0, 1),
    N(kv_dequant, STRIDE, head_out, "head", 16, 0),
    N(kv_dequant, STRIDE, token_out, "token", 17 + 16, 0),
    N(kv_dequant, STRIDE, lane_out, "lane", 8 * 40 + 17 + 16, 0),
    F(kv_dequant, PTR, len, 4, 1),
    F(kv_dequant, PTR, k_out, 4, 0),
    F(kv_dequant, PTR, v_out, 4, 0),
};
static void kv_dequant_more(void)
{
    static api_arena m;
    KV_BAD(kv_dequant);
    BAD_DATA(kv_dequant, OCT_E_VALUE, "len[2]", "10", set_int(a.len, 2, 10));
    BAD_DATA(kv_dequant, OCT_E_VALUE, "len[1]", "-1", set_int(a.len, 1, -1));
    BAD_DATA(kv_dequant, OCT_E_VALUE, "len[0] is 9", "8 tokens", set_int(a.len, 0, 9));
    BAD_DATA(kv_dequant, OCT_E_VALUE, "page_table[2][1]", "6", set_int(KV.page_table, 5, 6));
    GOOD(kv_dequant, a.k_out = a.v_out = 0);
    GOOD(kv_dequant, a.max_t = 8, a.lane_out = 0, a.token_out = 0, a.head_out = 0);
}

CALLS(attn)
static void attn_good(void *args, api_arena *m)
{
    static const int32_t len[] = { 8, 0, 5, 6, 1, 3 }, lane[] = { 0, 1, 2, 2, 1, 0 };
    oct_attn_args *a = args;
    *a = (oct_attn_args){ .t = 6, .heads = 4, .d = 16, .ldq = 70, .head_q = 17, .q_dtype = OCT_BF16, .y_dtype = OCT_F32, .ldy = 80, .head_y = 18, .splits = 3, .ld_split = 14 };
    a->y_max = api_mem(m, 6 * 14 * 4);
    a->y_sum = api_mem(m, 6 * 14 * 4);
    a->y_split = api_mem(m, 6 * 12 * 16 * 4);
    a->q = api_mem(m, 6 * 70 * 2);
    a->y = api_mem(m, 6 * 80 * 4);
    a->len = ints(m, 6, len);
    a->lane = ints(m, 6, lane);
    a->kv = cache(m);
}
static const api_field attn_fields[] = {
    F(attn, DTYPE, q_dtype, BIT(OCT_BF16), 0),
    F(attn, DTYPE, y_dtype, BIT(OCT_F32) | BIT(OCT_BF16), 0),
    F(attn, EXTENT, t, 0, 1),
    F(attn, EXTENT, heads, 1, 1),
    F(attn, FLAGS, flags, 0, 0),
    N(attn, STRIDE, ldq, "", 3 * 17 + 16, 0),
    N(attn, STRIDE, head_q, "q", 16, 0),
    N(attn, STRIDE, ldy, "", 3 * 18 + 16, 0),
    N(attn, STRIDE, head_y, "y", 16, 0),
    F(attn, PTR, q, 2, 1),
    F(attn, PTR, y, 4, 1),
    F(attn, PTR, len, 4, 1),
    F(attn, PTR, lane, 4, 0),
    F(attn, I32_NOT_YET, window, 0, 0),
    N(attn, STRIDE, ld_split, "y_max", 3 * 4, 0),
    F(attn, PTR, y_max, 4, 0),
    F(attn, PTR, y_sum, 4, 0),
    F(attn, PTR, y_split, 4, 0),
};
/* Groups are INT4's: in another format the field says nothing. */
static void attn_groups(void)
{
    static api_arena m[2];
    for (int i = 0; i < 2; i++) {
        oct_attn_args a = { .size = 0 };
        attn_good(&a, &m[i]);
        a.size = sizeof a;
        KV.format = OCT_KV_F8_TOKEN;
        KV.groups = i ? 8 : 0;
        KV.head_bytes = 20; /* so that both hold the same rows */
        KV.pages = 4;
        KV.page_table = 0;
        KV.page_size = 8;
        api_accept(api_find("attn"), &a, "groups without INT4");
    }
    api_expect(!memcmp(m[0].at, m[1].at, sizeof m[0].at), "attn: kv.groups changes a cache of F8_TOKEN");
}
static void attn_more(void)
{
    static api_arena m;
    attn_groups();
    KV_BAD(attn);
    BAD(attn, OCT_E_SHAPE, "heads is 5", "kv.heads = 2", a.heads = 5);
    BAD(attn, OCT_E_SHAPE, "d is 8", "16", a.d = 8);
    BAD(attn, OCT_E_VALUE, "scale", "inf", a.scale = HUGE_VALF);
    BAD(attn, OCT_E_VALUE, "splits is -1", "", a.splits = -1);
    BAD(attn, OCT_E_VALUE, "y_max without splits", "", a.splits = 0);
    BAD(attn, OCT_E_VALUE, "y_sum without splits", "", a.splits = 0, a.y_max = 0);
    BAD(attn, OCT_E_VALUE, "y_split without splits", "", a.splits = 0, a.y_max = a.y_sum = 0);
    GOOD(attn, a.splits = 0, a.y_max = a.y_sum = a.y_split = 0);
    GOOD(attn, a.y_max = 0, a.y_split = 0);
    GOOD(attn, a.splits = 1);
    BAD_DATA(attn, OCT_E_VALUE, "len[4]", "-1", set_int(a.len, 4, -1));
    BAD_DATA(attn, OCT_E_VALUE, "len[0] is 9", "8 tokens", set_int(a.len, 0, 9));
    BAD_DATA(attn, OCT_E_VALUE, "lane of token", "3", set_int(a.lane, 5, 3));
    BAD_DATA(attn, OCT_E_VALUE, "page_table[0][1]", "-5", set_int(KV.page_table, 1, -5));
    GOOD(attn, a.t = 0, a.q = a.y = 0);
    GOOD(attn, a.y_dtype = OCT_BF16, a.ldy = a.head_y = a.ldq = a.head_q = 0);
}

const api_op api_ops[] = {
    OP(quant, quant_more),
    OP(dequant, dequant_more),
    OP(gemm, gemm_more),
    OP(rope_kv, rope_more),
    OP(kv_dequant, kv_dequant_more),
    OP(attn, attn_more),
    OP(norm_quant, norm_quant_more),
    OP(silu_mul_quant, silu_mul_quant_more),
};
const int api_op_count = (int)(sizeof api_ops / sizeof *api_ops);
