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

const api_op api_ops[] = {
    OP(dequant, 0),
};
const int api_op_count = (int)(sizeof api_ops / sizeof *api_ops);
