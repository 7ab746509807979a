/* grouped.c - many GEMMs in one call. The problems of a list are independent; each is one call of octavo's gemm, which
 * spreads over all threads (or fills the GPU's queue). */
#include "ops.h"

enum { X, W, X_SCALE, W_SCALE };

/* Lists x, w [, x_scale, w_scale]; the results are a list of [M, N], or with cat one [sum of M, N]. */
static void grouped(call *c, bool f8, bool cat)
{
    static const char *const names[2][4] = { { "X", "W", 0, 0 }, { "XQ", "WQ", "x_scale", "w_scale" } };
    const int32_t dtype = f8 ? OCT_F8E4M3FN : OCT_BF16;
    const int lists = f8 ? 4 : 2;
    handle list[4];
    size_t n[4] = { 0 };
    int64_t rows = 0, columns = 0, at = 0;
    tensor y = { 0 };
    for (int l = 0; l < lists; l++) list[l] = take_list(c, &n[l]);
    for (int l = 1; l < lists; l++)
        if (n[l] != n[X]) fail(c, "%s has %zu tensors; %s has %zu", names[f8][l], n[l], names[f8][X], n[X]);
    for (size_t i = 0; i < n[X] && ok(c); i++) {
        const tensor x = list_item(c, list[X], i, names[f8][X]), w = list_item(c, list[W], i, names[f8][W]);
        NEED(c, x, x.dtype == dtype && x.ndim == 2, "must be %s [M, K]", f8 ? "float8_e4m3fn" : "bfloat16");
        NEED(c, w, w.dtype == dtype && w.ndim == 2 && w.size[1] == x.size[1], "must be %s [N, K = %lld]", f8 ? "float8_e4m3fn" : "bfloat16",
             (long long)x.size[1]);
        if (!ok(c)) return;
        if (cat && i) NEED(c, w, w.size[0] == columns, "must have N = %lld like the first", (long long)columns);
        columns = w.size[0];
        rows += x.size[0];
    }
    if (cat) y = new_result(c, 2, (int64_t[]){ rows, columns }, OCT_BF16);
    for (size_t i = 0; i < n[X] && ok(c); i++) {
        const int held = c->held_count; /* temporaries go with each problem: there may be any number of them */
        const tensor xt = list_item(c, list[X], i, names[f8][X]), wt = list_item(c, list[W], i, names[f8][W]);
        const matrix x = as_matrix(c, &xt), w = as_matrix(c, &wt);
        oct_gemm_args a = { .scaling = f8 ? OCT_SCALE_ROW : OCT_SCALE_NONE, .flags = OCT_GEMM_FAST_ACCUM, .m = x.m, .n = w.m, .k = x.k,
                            .x = x.data, .ldx = x.ld, .x_dtype = dtype, .w = w.data, .ldw = w.ld, .w_dtype = dtype, .y_dtype = OCT_BF16 };
        if (f8) {
            const tensor xs = list_item(c, list[X_SCALE], i, names[f8][X_SCALE]), ws = list_item(c, list[W_SCALE], i, names[f8][W_SCALE]);
            NEED(c, xs, xs.dtype == OCT_F32 && xs.count == x.m, "must be float32 [M = %lld]", (long long)x.m);
            NEED(c, ws, ws.dtype == OCT_F32 && ws.count == w.m, "must be float32 [N = %lld]", (long long)w.m);
            a.x_scale = as_packed(c, &xs).data;
            a.w_scale = as_packed(c, &ws).data;
        }
        if (cat) a.y = ok(c) && y.data ? (char *)y.data + at * columns * 2 : 0;
        else a.y = new_item(c, 2, (int64_t[]){ x.m, w.m }, OCT_BF16).data;
        at += x.m;
        RUN(c, gemm, &a);
        drop_held(c, held);
    }
}

OPERATOR(f8f8bf16_rowwise_grouped)
{
    call c = { .op = "f8f8bf16_rowwise_grouped", .stack = stack };
    grouped(&c, true, false);
    (void)results;
    finish_list(&c);
}

OPERATOR(f8f8bf16_rowwise_grouped_cat)
{
    call c = { .op = "f8f8bf16_rowwise_grouped_cat", .stack = stack };
    grouped(&c, true, true);
    finish(&c, results);
}

OPERATOR(bf16bf16bf16_grouped)
{
    call c = { .op = "bf16bf16bf16_grouped", .stack = stack };
    grouped(&c, false, false);
    (void)results;
    finish_list(&c);
}

OPERATOR(bf16bf16bf16_grouped_cat)
{
    call c = { .op = "bf16bf16bf16_grouped_cat", .stack = stack };
    grouped(&c, false, true);
    finish(&c, results);
}
