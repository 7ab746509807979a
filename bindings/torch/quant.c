/* quant.c - FP8 quantization and its inverse: fbgemm's CUDA operators (rule MIN) and its Triton functions (rule EPS). */
#include "ops.h"

/* q = codes of x; *a says scaling, rule and the rest, and gets x and y. align: rows of q are that much longer, padded with 0. */
static tensor quantize(call *c, const tensor *x, oct_quant_args *a, int64_t align)
{
    int64_t size[MAX_DIMS] = { 0 };
    NEED(c, *x, x->dtype == OCT_F32 || x->dtype == OCT_BF16 || x->dtype == OCT_F16, "must be float32, bfloat16 or float16");
    NEED(c, *x, x->ndim >= 1 && x->ndim <= MAX_DIMS, "must have 1 to %d dimensions", MAX_DIMS);
    if (!ok(c)) return (tensor){ 0 };
    for (int64_t i = 0; i < x->ndim; i++) size[i] = x->size[i];
    size[x->ndim - 1] = (size[x->ndim - 1] + align - 1) / align * align;
    const matrix v = as_matrix(c, x);
    const tensor q = new_result(c, x->ndim, size, OCT_F8E4M3FN);
    if (ok(c) && size[x->ndim - 1] != v.k) zero(c, &q);
    a->m = v.m;
    a->k = v.k;
    a->x = v.data;
    a->ldx = v.ld;
    a->x_dtype = x->dtype;
    a->y = q.data;
    a->ldy = ok(c) ? size[x->ndim - 1] : 0;
    a->y_dtype = OCT_F8E4M3FN;
    return q;
}

static int64_t rows_of(const tensor *x) { int64_t n = 1; for (int64_t i = 0; i + 1 < x->ndim; i++) n *= x->size[i]; return n; }

static void no_stochastic(call *c, bool stochastic)
{
    if (stochastic) fail(c, "stochastic_rounding=True is not supported yet; False rounds to nearest even");
}

/* bs: the number of rows that count for the maximum. */
static void rows_that_count(call *c, oct_quant_args *a, const tensor *bs)
{
    if (!bs->h) return;
    NEED(c, *bs, bs->dtype == DT_I64 && bs->count == 1, "must be one int64");
    a->valid_m = bs->data;
}

/* ---- fbgemm::, mslk:: ---- */

OPERATOR(quantize_fp8_per_row)
{
    call c = { .op = "quantize_fp8_per_row", .stack = stack };
    oct_quant_args a = { .scaling = OCT_SCALE_ROW };
    const tensor x = take_tensor(&c, "input"), bs = take_maybe_scalar(&c, "bs"), ub = take_maybe_scalar(&c, "scale_ub");
    const int32_t dtype = take_maybe_dtype(&c, OCT_F8E4M3FN);
    (void)bs; /* bounds the rows that mean something; all are quantized, as fbgemm does */
    no_stochastic(&c, take_bool(&c));
    if (dtype != OCT_F8E4M3FN) fail(&c, "output_dtype must be float8_e4m3fn; no other code is supported yet");
    quantize(&c, &x, &a, 1);
    const int64_t rows = rows_of(&x);
    a.scale = new_result(&c, 1, &rows, OCT_F32).data;
    a.scale_ub = as_scalar(&c, &ub);
    RUN(&c, quant, &a);
    (void)results;
    finish_list(&c);
}

OPERATOR(quantize_fp8_per_tensor)
{
    call c = { .op = "quantize_fp8_per_tensor", .stack = stack };
    oct_quant_args a = { .scaling = OCT_SCALE_TENSOR };
    const tensor x = take_tensor(&c, "input"), bs = take_maybe_scalar(&c, "bs"), ub = take_maybe_scalar(&c, "scale_ub");
    no_stochastic(&c, take_bool(&c));
    rows_that_count(&c, &a, &bs);
    quantize(&c, &x, &a, 1);
    a.scale = new_result(&c, 0, 0, OCT_F32).data;
    a.scale_ub = as_scalar(&c, &ub);
    RUN(&c, quant, &a);
    (void)results;
    finish_list(&c);
}

OPERATOR(quantize_fp8_per_col)
{
    call c = { .op = "quantize_fp8_per_col", .stack = stack };
    oct_quant_args a = { .scaling = OCT_SCALE_COL };
    const tensor x = take_tensor(&c, "input"), bs = take_maybe_scalar(&c, "bs"), ub = take_maybe_scalar(&c, "scale_ub");
    (void)bs; /* as in the row quantizer */
    quantize(&c, &x, &a, 1);
    a.scale = new_result(&c, 1, &a.k, OCT_F32).data;
    a.scale_ub = as_scalar(&c, &ub);
    RUN(&c, quant, &a);
    (void)results;
    finish_list(&c);
}

OPERATOR(get_fp8_per_tensor_scale)
{
    call c = { .op = "get_fp8_per_tensor_scale", .stack = stack };
    oct_quant_args a = { .scaling = OCT_SCALE_TENSOR };
    const int64_t one = 1;
    const tensor x = take_tensor(&c, "input"), bs = take_maybe_scalar(&c, "bs"), ub = take_maybe_scalar(&c, "scale_ub");
    rows_that_count(&c, &a, &bs);
    quantize(&c, &x, &a, 1); /* the codes are of no interest, but come with the scale */
    if (ok(&c)) c.held[c.held_count++] = c.results[--c.result_count];
    if (ok(&c) && bs.h && x.ndim > 2 && x.size[0]) { /* bs counts along the first dimension, not rows */
        const tensor p = as_packed(&c, &x);
        a.x = p.data;
        a.m = x.size[0];
        a.k = a.ldx = a.ldy = x.count / a.m;
    }
    a.scale = new_result(&c, 1, &one, OCT_F32).data;
    a.scale_ub = as_scalar(&c, &ub);
    RUN(&c, quant, &a);
    finish(&c, results);
}

OPERATOR(quantize_fp8_per_tensor_fixed_scale)
{
    call c = { .op = "quantize_fp8_per_tensor_fixed_scale", .stack = stack };
    oct_quant_args a = { .scaling = OCT_SCALE_TENSOR, .flags = OCT_QUANT_SCALE_GIVEN };
    const tensor x = take_tensor(&c, "input"), scale = take_scalar(&c, "scale"), bs = take_maybe_scalar(&c, "bs");
    (void)bs;
    no_stochastic(&c, take_bool(&c));
    quantize(&c, &x, &a, 1);
    a.scale = (float *)(uintptr_t)as_scalar(&c, &scale);
    RUN(&c, quant, &a);
    finish(&c, results);
}

/* ---- octavo:: ---- */

OPERATOR(quantize_fp8_row)
{
    call c = { .op = "quantize_fp8_row", .stack = stack };
    oct_quant_args a = { .scaling = OCT_SCALE_ROW, .rule = OCT_RULE_EPS };
    const tensor x = take_tensor(&c, "a"), ub = take_maybe_scalar(&c, "scale_ub");
    const int64_t align = take_int(&c);
    if (align < 1) fail(&c, "align_rows_to is %lld; it must be at least 1", (long long)align);
    quantize(&c, &x, &a, align);
    a.scale = new_result(&c, x.ndim - 1, x.size, OCT_F32).data;
    a.scale_ub = as_scalar(&c, &ub);
    RUN(&c, quant, &a);
    finish(&c, results);
}

/* Blocks of a matrix, or groups of a row (block_m = 0); scales [m blocks, k blocks] or the transpose. */
static void blocks(call *c, int64_t block_m, int64_t block_k, const tensor *x, const tensor *ub, bool k_major)
{
    oct_quant_args a = { .scaling = block_m ? OCT_SCALE_BLOCK : OCT_SCALE_GROUP, .rule = OCT_RULE_EPS, .block_m = block_m, .block_k = block_k,
                         .scale_layout = k_major ? OCT_K_MAJOR : OCT_MN_MAJOR };
    if (block_m < 0 || block_k < 1) fail(c, "a block of %lld x %lld; both must be at least 1", (long long)block_m, (long long)block_k);
    quantize(c, x, &a, 1);
    const int64_t m = block_m ? (a.m + block_m - 1) / block_m : a.m, k = ok(c) ? (a.k + block_k - 1) / block_k : 0;
    a.scale = new_result(c, 2, (int64_t[]){ k_major ? m : k, k_major ? k : m }, OCT_F32).data;
    a.scale_ub = as_scalar(c, ub);
    RUN(c, quant, &a);
}

OPERATOR(quantize_fp8_block)
{
    call c = { .op = "quantize_fp8_block", .stack = stack };
    const tensor x = take_tensor(&c, "x");
    const int64_t block_m = take_int(&c), block_k = take_int(&c);
    const tensor ub = take_maybe_scalar(&c, "scale_ub");
    const bool k_major = take_bool(&c);
    if (block_m < 1) fail(&c, "block_m is %lld; it must be at least 1", (long long)block_m);
    blocks(&c, block_m, block_k, &x, &ub, k_major);
    finish(&c, results);
}

OPERATOR(quantize_fp8_group)
{
    call c = { .op = "quantize_fp8_group", .stack = stack };
    const tensor x = take_tensor(&c, "x");
    const int64_t group = take_int(&c);
    const tensor ub = take_maybe_scalar(&c, "scale_ub");
    blocks(&c, 0, group, &x, &ub, take_bool(&c));
    finish(&c, results);
}

static void dequantize(call *c, oct_dequant_args *a, const tensor *x, const tensor *scale, int64_t scales)
{
    NEED(c, *x, x->dtype == OCT_F8E4M3FN && x->ndim >= 1, "must be float8_e4m3fn with 1 or more dimensions");
    NEED(c, *scale, scale->dtype == OCT_F32 && scale->count == scales, "must be float32 with %lld scales", (long long)scales);
    const matrix v = as_matrix(c, x);
    const tensor s = as_packed(c, scale);
    a->m = v.m;
    a->k = v.k;
    a->x = v.data;
    a->ldx = v.ld;
    a->x_dtype = OCT_F8E4M3FN;
    a->scale = s.data;
    a->y_dtype = OCT_BF16;
    a->y = like_result(c, x, OCT_BF16).data;
    RUN(c, dequant, a);
}

OPERATOR(dequantize_fp8_row)
{
    call c = { .op = "dequantize_fp8_row", .stack = stack };
    oct_dequant_args a = { .scaling = OCT_SCALE_ROW };
    const tensor x = take_tensor(&c, "xq"), scale = take_tensor(&c, "xs");
    dequantize(&c, &a, &x, &scale, rows_of(&x));
    finish(&c, results);
}

OPERATOR(dequantize_fp8_block)
{
    call c = { .op = "dequantize_fp8_block", .stack = stack };
    const tensor x = take_tensor(&c, "xq"), scale = take_tensor(&c, "xs");
    oct_dequant_args a = { .scaling = OCT_SCALE_BLOCK };
    a.block_m = take_int(&c);
    a.block_k = take_int(&c);
    if (a.block_m < 1 || a.block_k < 1) fail(&c, "block_m and block_k must be at least 1");
    NEED(&c, x, x.ndim == 2, "must be [M, K]");
    if (ok(&c)) dequantize(&c, &a, &x, &scale, ((x.size[0] + a.block_m - 1) / a.block_m) * ((x.size[1] + a.block_k - 1) / a.block_k));
    finish(&c, results);
}
