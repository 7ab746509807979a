/* api_ops.c - every op as test_api calls it: a good call, and what makes it a bad one. */
#include "api.h"
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
#define BAD(op, status, part, part2, ...)                                                                             \
    do {                                                                                                              \
        oct_##op##_args a = { .size = 0 };                                                                            \
        const char *const parts[] = { part, part2, 0 };                                                               \
        m.used = 0;                                                                                                   \
        op##_good(&a, &m);                                                                                            \
        a.size = sizeof a;                                                                                            \
        __VA_ARGS__;                                                                                                  \
        api_refuse(api_find(#op), &a, &m, status, 0, parts);                                                          \
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
                           .y_dtype = OCT_F8E4M3FN, .ldx = 1001, .ldy = 1003, .ld_scale = 12 };
    a->x = api_mem(m, 130 * 1001 * 2);
    a->y = api_mem(m, 130 * 1003);
    a->scale = api_mem(m, 17 * 12 * 4);
    a->scale_ub = api_mem(m, 4);
}
static const api_field quant_fields[] = {
    F(quant, DTYPE, x_dtype, BIT(OCT_F32) | BIT(OCT_BF16), 0),
    F(quant, DTYPE, y_dtype, BIT(OCT_F8E4M3FN), 0),
    F(quant, CHOICE, scaling, 6, BIT(OCT_SCALE_NONE) | BIT(OCT_SCALE_COL)),
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
    F(quant, PTR_NOT_YET, valid_m, 0, 0),
    F(quant, PTR_NOT_YET, seed, 0, 0),
};
static void quant_more(void)
{
    static api_arena m;
    BAD(quant, OCT_E_VALUE, "scale_ub", "SCALE_GIVEN", a.flags = OCT_QUANT_SCALE_GIVEN);
    GOOD(quant, a.flags = OCT_QUANT_SCALE_GIVEN, a.scale_ub = 0);
    GOOD(quant, a.block_m = a.block_k = INT64_MAX);
    GOOD(quant, a.m = 0, a.x = 0, a.y = 0, a.scale = 0);
    GOOD(quant, a.scaling = OCT_SCALE_TENSOR, a.m = 0, a.x = 0, a.y = 0);
}

/* ---- dequant ---- */

CALLS(dequant)
static void dequant_good(void *args, api_arena *m)
{
    oct_dequant_args *a = args;
    *a = (oct_dequant_args){ .scaling = OCT_SCALE_BLOCK, .m = 33, .k = 20, .block_m = 8, .block_k = 8, .x_dtype = OCT_F8E4M3FN,
                             .y_dtype = OCT_F32, .ldx = 21, .ldy = 24, .ld_scale = 4 };
    a->x = api_mem(m, 33 * 21);
    a->y = api_mem(m, 33 * 24 * 4);
    a->scale = api_mem(m, 5 * 4 * 4);
}
static const api_field dequant_fields[] = {
    F(dequant, DTYPE, x_dtype, BIT(OCT_F8E4M3FN), 0),
    F(dequant, DTYPE, y_dtype, BIT(OCT_F32) | BIT(OCT_BF16), 0),
    F(dequant, CHOICE, scaling, 6, BIT(OCT_SCALE_COL)),
    F(dequant, CHOICE, scale_layout, 2, 0),
    F(dequant, EXTENT, m, 0, 1),
    F(dequant, EXTENT, k, 0, 1),
    F(dequant, EXTENT, block_m, 1, 0),
    F(dequant, EXTENT, block_k, 1, 0),
    N(dequant, STRIDE, ldx, "x", 20, 0),
    N(dequant, STRIDE, ldy, "y", 20, 0),
    N(dequant, STRIDE, ld_scale, "scale", 3, 0),
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
    F(gemm, FLAGS, flags, 7, 0),
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
    F(gemm, PTR_NOT_YET, m_sizes, 0, 0),
    F(gemm, I64_NOT_YET, groups, 0, 0),
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

const api_op api_ops[] = {
    OP(quant, quant_more),
    OP(dequant, dequant_more),
    OP(gemm, gemm_more),
    OP(norm_quant, norm_quant_more),
    OP(silu_mul_quant, silu_mul_quant_more),
};
const int api_op_count = (int)(sizeof api_ops / sizeof *api_ops);
