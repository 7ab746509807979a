/* fused.c - RMSNorm and SwiGLU's product with quantization in one pass, which fbgemm does not have on its own. */
#include "ops.h"

static bool is_real(const tensor *t) { return t->dtype == OCT_F32 || t->dtype == OCT_BF16; }

/* The output in FP8 with a scale a row (group 0) or a group of the row; both are results. */
static matrix quantized(call *c, const tensor *x, int64_t group, float **scale)
{
    const tensor y = like_result(c, x, OCT_F8E4M3FN);
    const matrix v = as_output(c, &y);
    int64_t size[MAX_DIMS] = { 0 };
    if (!ok(c)) return v;
    for (int64_t i = 0; i < x->ndim; i++) size[i] = x->size[i];
    if (group) size[x->ndim - 1] = (v.k + group - 1) / group;
    *scale = new_result(c, x->ndim - !group, size, OCT_F32).data;
    return v;
}

static void check_group(call *c, int64_t group, int64_t rule)
{
    if (group < 0) fail(c, "group_size is %lld; 0 is a scale a row, n > 0 one for n elements", (long long)group);
    if (rule != OCT_RULE_MIN && rule != OCT_RULE_EPS) fail(c, "rule is %lld; 0 is fbgemm's CUDA rule, 1 the Triton rule", (long long)rule);
}

/* x, weight, eps, residual: what both operators take first. h = x + residual goes back to the residual. */
typedef struct norm_in {
    tensor x, weight, residual;
} norm_in;

static norm_in take_norm(call *c, oct_norm_quant_args *a)
{
    norm_in in = { .x = take_tensor(c, "x") };
    in.weight = take_maybe(c, "weight");
    a->eps = (float)take_float(c);
    in.residual = take_maybe(c, "residual");
    const tensor *x = &in.x, *w = &in.weight, *r = &in.residual;
    NEED(c, *x, is_real(x) && x->ndim >= 1 && x->ndim <= MAX_DIMS, "must be float32 or bfloat16 with 1 to %d dimensions", MAX_DIMS);
    if (ok(c) && w->h) {
        const int64_t k = x->size[x->ndim - 1];
        NEED(c, *w, is_real(w) && w->count == k, "must be float32 or bfloat16 [K = %lld]", (long long)k);
    }
    if (r->h) NEED(c, *r, is_real(r) && same_shape(r, x), "must be float32 or bfloat16 of x's shape");
    return in;
}

static void run_norm(call *c, oct_norm_quant_args *a, const norm_in *in)
{
    const matrix x = as_matrix(c, &in->x);
    a->m = x.m;
    a->k = x.k;
    a->x = x.data;
    a->ldx = x.ld;
    a->x_dtype = in->x.dtype;
    if (in->weight.h && ok(c)) {
        a->weight = as_packed(c, &in->weight).data;
        a->weight_dtype = in->weight.dtype;
    }
    if (in->residual.h) {
        const matrix r = as_output(c, &in->residual);
        a->residual = a->residual_out = r.data;
        a->ld_residual = a->ld_residual_out = r.ld;
        a->residual_dtype = in->residual.dtype;
    }
    RUN(c, norm_quant, a);
}

OPERATOR(norm)
{
    call c = { .op = "norm", .stack = stack };
    oct_norm_quant_args a = { .scaling = OCT_SCALE_NONE };
    const norm_in in = take_norm(&c, &a);
    a.y_dtype = take_maybe_dtype(&c, OCT_BF16);
    if (a.y_dtype != OCT_BF16 && a.y_dtype != OCT_F32) fail(&c, "dtype must be bfloat16 or float32");
    if (ok(&c)) a.y = like_result(&c, &in.x, a.y_dtype).data;
    run_norm(&c, &a, &in);
    finish(&c, results);
}

OPERATOR(norm_quant)
{
    call c = { .op = "norm_quant", .stack = stack };
    oct_norm_quant_args a = { .y_dtype = OCT_F8E4M3FN };
    const norm_in in = take_norm(&c, &a);
    const int64_t group = take_int(&c);
    const tensor ub = take_maybe_scalar(&c, "scale_ub");
    const int64_t rule = take_int(&c);
    check_group(&c, group, rule);
    a.scaling = group ? OCT_SCALE_GROUP : OCT_SCALE_ROW;
    a.block_k = group;
    a.rule = (int32_t)rule;
    if (ok(&c)) a.y = quantized(&c, &in.x, group, &a.scale).data;
    a.scale_ub = as_scalar(&c, &ub);
    run_norm(&c, &a, &in);
    finish(&c, results);
}

/* Operands of SiLU's product: two tensors of one shape and dtype. */
static tensor take_gates(call *c, oct_silu_mul_quant_args *a)
{
    const tensor gate = take_tensor(c, "gate"), up = take_tensor(c, "up");
    NEED(c, gate, is_real(&gate) && gate.ndim >= 1 && gate.ndim <= MAX_DIMS, "must be float32 or bfloat16 with 1 to %d dimensions", MAX_DIMS);
    NEED(c, up, up.dtype == gate.dtype && same_shape(&up, &gate), "must have the shape and dtype of gate");
    const matrix g = as_matrix(c, &gate), u = as_matrix(c, &up);
    a->m = g.m;
    a->k = g.k;
    a->gate = g.data;
    a->ld_gate = g.ld;
    a->up = u.data;
    a->ld_up = u.ld;
    a->x_dtype = gate.dtype;
    return gate;
}

OPERATOR(silu_mul)
{
    call c = { .op = "silu_mul", .stack = stack };
    oct_silu_mul_quant_args a = { .scaling = OCT_SCALE_NONE };
    const tensor gate = take_gates(&c, &a);
    if (ok(&c)) a.y = like_result(&c, &gate, a.y_dtype = gate.dtype).data;
    RUN(&c, silu_mul_quant, &a);
    finish(&c, results);
}

OPERATOR(silu_mul_quant)
{
    call c = { .op = "silu_mul_quant", .stack = stack };
    oct_silu_mul_quant_args a = { .y_dtype = OCT_F8E4M3FN };
    const tensor gate = take_gates(&c, &a);
    const int64_t group = take_int(&c);
    const tensor ub = take_maybe_scalar(&c, "scale_ub");
    const int64_t rule = take_int(&c);
    check_group(&c, group, rule);
    a.scaling = group ? OCT_SCALE_GROUP : OCT_SCALE_ROW;
    a.block_k = group;
    a.rule = (int32_t)rule;
    if (ok(&c)) a.y = quantized(&c, &gate, group, &a.scale).data;
    a.scale_ub = as_scalar(&c, &ub);
    RUN(&c, silu_mul_quant, &a);
    finish(&c, results);
}
