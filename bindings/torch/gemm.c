/* gemm.c - y = x w^T: fbgemm's FP8 GEMMs and GEMVs, and the Triton functions matmul_fp8_*. */
#include "ops.h"

typedef struct operands {
    tensor x, w, x_scale, w_scale, bias;
} operands;

static bool is_real(const tensor *t) { return t->dtype == OCT_F32 || t->dtype == OCT_BF16; }

static void need_f8(call *c, const tensor *x, const tensor *w)
{
    NEED(c, *x, x->dtype == OCT_F8E4M3FN, "must be float8_e4m3fn");
    NEED(c, *w, w->dtype == OCT_F8E4M3FN, "must be float8_e4m3fn");
}

static void need_bf16(call *c, const tensor *t) { NEED(c, *t, t->dtype == OCT_BF16, "must be bfloat16"); }

static const float *scales(call *c, const tensor *t, int64_t count)
{
    NEED(c, *t, t->dtype == OCT_F32 && t->count == count, "must be float32 with %lld scales", (long long)count);
    return ok(c) ? as_packed(c, t).data : 0;
}

static int64_t blocks(int64_t n) { return (n + 127) / 128; }

/* What op takes of x [.., M, K] and w [N, K], or, batched, of x [B, M, K] and w [B, N, K]; scaling and flags are set. */
static void fill(call *c, oct_gemm_args *a, const operands *o, bool batched)
{
    const int64_t last = o->x.ndim - 1;
    if (batched) {
        NEED(c, o->x, o->x.ndim == 3, "must be [B, M, K]");
        NEED(c, o->w, o->w.ndim == 3 && o->w.size[0] == o->x.size[0] && o->w.size[2] == o->x.size[2], "must be [B = %lld, N, K = %lld]",
             (long long)o->x.size[0], (long long)o->x.size[2]);
    } else {
        NEED(c, o->x, o->x.ndim >= 1 && o->x.ndim <= MAX_DIMS, "must be [.., M, K]");
        NEED(c, o->w, o->w.ndim == 2 && o->w.size[1] == o->x.size[last], "must be [N, K = %lld]", (long long)o->x.size[last]);
    }
    if (!ok(c)) return;
    const tensor x = batched ? as_packed(c, &o->x) : o->x, w = batched ? as_packed(c, &o->w) : o->w;
    const matrix xm = as_matrix(c, &x), wm = as_matrix(c, &w);
    a->batch = batched ? x.size[0] : 1;
    a->m = batched ? x.size[1] : xm.m;
    a->n = batched ? w.size[1] : wm.m;
    a->k = xm.k;
    a->x = xm.data;
    a->ldx = xm.ld;
    a->x_dtype = x.dtype;
    a->w = wm.data;
    a->ldw = wm.ld;
    a->w_dtype = w.dtype;
    const int64_t kb = blocks(a->k);
    switch (a->scaling) {
    case OCT_SCALE_TENSOR:
        if (o->x_scale.h) a->x_scale = as_scalar(c, &o->x_scale);
        a->w_scale = o->w_scale.h ? as_scalar(c, &o->w_scale) : one(c);
        break;
    case OCT_SCALE_ROW:
        a->x_scale = o->x_scale.h ? scales(c, &o->x_scale, a->batch * a->m) : new_filled(c, a->batch * a->m, 1);
        a->w_scale = scales(c, &o->w_scale, a->batch * a->n);
        break;
    case OCT_SCALE_GROUP:
    case OCT_SCALE_BLOCK:
        a->x_scale = scales(c, &o->x_scale, (a->scaling == OCT_SCALE_GROUP ? a->m : blocks(a->m)) * kb);
        a->w_scale = scales(c, &o->w_scale, blocks(a->n) * kb);
        break;
    }
    if (!o->bias.h) return;
    NEED(c, o->bias, is_real(&o->bias) && o->bias.count == a->batch * a->n, "must be float32 or bfloat16 [N = %lld]", (long long)a->n);
    a->bias = as_packed(c, &o->bias).data;
    a->bias_dtype = o->bias.dtype;
}

/* The result: x's leading dimensions and n; or `out`, checked. */
static void result(call *c, oct_gemm_args *a, const operands *o, const tensor *out, int32_t dtype)
{
    int64_t size[MAX_DIMS];
    if (!ok(c)) return;
    for (int64_t i = 0; i + 1 < o->x.ndim; i++) size[i] = o->x.size[i];
    size[o->x.ndim - 1] = a->n;
    a->y_dtype = dtype;
    if (!out || !out->h) {
        a->y = new_result(c, o->x.ndim, size, dtype).data;
        return;
    }
    NEED(c, *out, out->dtype == dtype && out->ndim >= 1 && out->count == a->batch * a->m * a->n && out->size[out->ndim - 1] == a->n,
         "must be bfloat16 [%s%lld, %lld]", a->batch > 1 ? "B, " : "", (long long)a->m, (long long)a->n);
    const matrix y = as_output(c, out); /* a batch's rows go on at the same stride */
    a->y = y.data;
    a->ldy = y.ld;
}

static int32_t accumulation(bool fast) { return fast ? OCT_GEMM_FAST_ACCUM : 0; }

/* Runs what is set up, into a new result or into `out`. */
static void multiply(call *c, oct_gemm_args *a, const operands *o, const tensor *out, bool batched)
{
    fill(c, a, o, batched);
    result(c, a, o, out, OCT_BF16);
    if (a->batch) RUN(c, gemm, a); /* octavo takes 0 for 1 */
    if (out && out->h) return_argument(c, out);
}

/* ---- A scale a tensor ---- */

OPERATOR(f8f8bf16)
{
    call c = { .op = "f8f8bf16", .stack = stack };
    operands o = { .x = take_tensor(&c, "XQ") };
    o.w = take_tensor(&c, "WQ");
    o.x_scale = take_scalar(&c, "scale");
    oct_gemm_args a = { .scaling = OCT_SCALE_TENSOR, .flags = accumulation(take_bool(&c)) };
    need_f8(&c, &o.x, &o.w);
    multiply(&c, &a, &o, 0, false);
    finish(&c, results);
}

OPERATOR(f8f8bf16_lite)
{
    call c = { .op = "f8f8bf16_lite", .stack = stack };
    operands o = { .x = take_tensor(&c, "XQ") };
    o.w = take_tensor(&c, "WQ");
    o.x_scale = take_scalar(&c, "scale");
    oct_gemm_args a = { .scaling = OCT_SCALE_TENSOR };
    need_f8(&c, &o.x, &o.w);
    multiply(&c, &a, &o, 0, false);
    finish(&c, results);
}

OPERATOR(f8f8bf16_tensorwise)
{
    call c = { .op = "f8f8bf16_tensorwise", .stack = stack };
    operands o = { .x = take_tensor(&c, "XQ") };
    o.w = take_tensor(&c, "WQ");
    const float scale = (float)take_float(&c);
    oct_gemm_args a = { .scaling = OCT_SCALE_TENSOR, .flags = accumulation(take_bool(&c)) };
    need_f8(&c, &o.x, &o.w);
    a.x_scale = on_cuda(&c) ? new_filled(&c, 1, scale) : &scale;
    multiply(&c, &a, &o, 0, false);
    finish(&c, results);
}

OPERATOR(f8f8bf16_cublas)
{
    call c = { .op = "f8f8bf16_cublas", .stack = stack };
    operands o = { .x = take_tensor(&c, "A") };
    o.w = take_tensor(&c, "B");
    o.x_scale = take_maybe_scalar(&c, "Ainvs");
    o.w_scale = take_maybe_scalar(&c, "Binvs");
    oct_gemm_args a = { .scaling = OCT_SCALE_TENSOR, .flags = accumulation(take_bool(&c)) };
    const tensor out = take_maybe(&c, "output");
    need_f8(&c, &o.x, &o.w);
    if (!o.x_scale.h) a.x_scale = one(&c);
    multiply(&c, &a, &o, &out, false);
    finish(&c, results);
}

/* ---- A scale a row ---- */

static void take_scaled(call *c, operands *o)
{
    o->x = take_tensor(c, "XQ");
    o->w = take_tensor(c, "WQ");
    o->x_scale = take_tensor(c, "x_scale");
    o->w_scale = take_tensor(c, "w_scale");
    need_f8(c, &o->x, &o->w);
}

OPERATOR(f8f8bf16_rowwise)
{
    call c = { .op = "f8f8bf16_rowwise", .stack = stack };
    operands o;
    take_scaled(&c, &o);
    o.bias = take_maybe(&c, "bias");
    oct_gemm_args a = { .scaling = OCT_SCALE_ROW, .flags = accumulation(take_bool(&c)) };
    multiply(&c, &a, &o, 0, false);
    finish(&c, results);
}

OPERATOR(f8f8bf16_rowwise_out)
{
    call c = { .op = "f8f8bf16_rowwise_out", .stack = stack };
    operands o;
    take_scaled(&c, &o);
    const tensor out = take_tensor(&c, "output");
    o.bias = take_maybe(&c, "bias");
    oct_gemm_args a = { .scaling = OCT_SCALE_ROW, .flags = accumulation(take_bool(&c)) };
    fill(&c, &a, &o, false);
    result(&c, &a, &o, &out, OCT_BF16);
    RUN(&c, gemm, &a);
    finish(&c, results);
}

OPERATOR(f8f8bf16_rowwise_batched)
{
    call c = { .op = "f8f8bf16_rowwise_batched", .stack = stack };
    operands o;
    take_scaled(&c, &o);
    o.bias = take_maybe(&c, "bias");
    oct_gemm_args a = { .scaling = OCT_SCALE_ROW, .flags = accumulation(take_bool(&c)) };
    const tensor out = take_maybe(&c, "output");
    multiply(&c, &a, &o, &out, true);
    finish(&c, results);
}

OPERATOR(matmul_fp8_row)
{
    call c = { .op = "matmul_fp8_row", .stack = stack };
    operands o = { .x = take_tensor(&c, "a") };
    o.w = take_tensor(&c, "b");
    o.x_scale = take_maybe(&c, "a_scale");
    o.w_scale = take_tensor(&c, "b_scale");
    o.bias = take_maybe(&c, "bias");
    const int32_t dtype = take_maybe_dtype(&c, OCT_BF16);
    oct_gemm_args a = { .scaling = OCT_SCALE_ROW, .flags = accumulation(take_bool(&c)) };
    need_f8(&c, &o.x, &o.w);
    if (dtype != OCT_BF16 && dtype != OCT_F32) fail(&c, "dtype must be bfloat16 or float32");
    fill(&c, &a, &o, false);
    result(&c, &a, &o, 0, dtype);
    RUN(&c, gemm, &a);
    finish(&c, results);
}

/* ---- A scale a block of 128 ---- */

OPERATOR(f8f8bf16_blockwise)
{
    call c = { .op = "f8f8bf16_blockwise", .stack = stack };
    operands o = { .bias = { 0 } };
    take_scaled(&c, &o);
    const int64_t m = take_int(&c), n = take_int(&c), k = take_int(&c);
    oct_gemm_args a = { .scaling = OCT_SCALE_BLOCK, .flags = OCT_GEMM_FAST_ACCUM };
    if (m != 128 || n != 128 || k != 128)
        fail(&c, "blocks of %lld, %lld, %lld are not supported; block_m, block_n and block_k must be 128", (long long)m, (long long)n, (long long)k);
    multiply(&c, &a, &o, 0, false);
    finish(&c, results);
}

OPERATOR(f8f8bf16_groupwise)
{
    call c = { .op = "f8f8bf16_groupwise", .stack = stack };
    operands o = { .bias = { 0 } };
    take_scaled(&c, &o);
    oct_gemm_args a = { .scaling = OCT_SCALE_GROUP, .scale_layout = OCT_MN_MAJOR, .flags = OCT_GEMM_FAST_ACCUM };
    multiply(&c, &a, &o, 0, false);
    finish(&c, results);
}

OPERATOR(matmul_fp8_block)
{
    call c = { .op = "matmul_fp8_block", .stack = stack };
    operands o = { .bias = { 0 } };
    take_scaled(&c, &o);
    const int32_t dtype = take_maybe_dtype(&c, OCT_BF16);
    oct_gemm_args a = { .scaling = OCT_SCALE_BLOCK, .flags = accumulation(take_bool(&c)) };
    if (dtype != OCT_BF16 && dtype != OCT_F32) fail(&c, "dtype must be bfloat16 or float32");
    fill(&c, &a, &o, false);
    result(&c, &a, &o, 0, dtype);
    RUN(&c, gemm, &a);
    finish(&c, results);
}

/* ---- Few rows ---- */

OPERATOR(bf16_fast_gemv)
{
    call c = { .op = "bf16_fast_gemv", .stack = stack };
    operands o = { .x = take_tensor(&c, "X") };
    o.w = take_tensor(&c, "W");
    oct_gemm_args a = { .scaling = OCT_SCALE_NONE };
    need_bf16(&c, &o.x);
    need_bf16(&c, &o.w);
    multiply(&c, &a, &o, 0, false);
    finish(&c, results);
}

OPERATOR(bf16fp8bf16_fast_gemv)
{
    call c = { .op = "bf16fp8bf16_fast_gemv", .stack = stack };
    operands o = { .x = take_tensor(&c, "X") };
    o.w = take_tensor(&c, "W");
    o.w_scale = take_scalar(&c, "w_scale");
    oct_gemm_args a = { .scaling = OCT_SCALE_TENSOR };
    need_bf16(&c, &o.x);
    NEED(&c, o.w, o.w.dtype == OCT_F8E4M3FN, "must be float8_e4m3fn");
    multiply(&c, &a, &o, 0, false);
    finish(&c, results);
}

OPERATOR(fp8fp8bf16_fast_gemv)
{
    call c = { .op = "fp8fp8bf16_fast_gemv", .stack = stack };
    operands o = { .bias = { 0 } };
    take_scaled(&c, &o);
    oct_gemm_args a = { .scaling = OCT_SCALE_ROW };
    multiply(&c, &a, &o, 0, take_bool(&c));
    finish(&c, results);
}
