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

/* ---- Groups whose sizes lie in a tensor, where nobody waits for it ---- */

static void need_scales(call *c, const tensor *t, int64_t n)
{
    NEED(c, *t, t->dtype == OCT_F32 && t->count == n, "must be float32 with %lld scales", (long long)n);
}

/* X, W and, with scaling, their scales; then the sizes. Rows are stacked [rows, K], or [G, rows, K] where padded. */
static void take_groups(call *c, oct_gemm_args *a, bool padded, const char *sizes_name)
{
    const bool f8 = a->scaling != OCT_SCALE_NONE;
    const int32_t dtype = f8 ? OCT_F8E4M3FN : OCT_BF16;
    const char *type = f8 ? "float8_e4m3fn" : "bfloat16";
    tensor x = take_tensor(c, f8 ? "XQ" : "X"), w = take_tensor(c, f8 ? "WQ" : "W"), xs = { 0 }, ws = { 0 };
    if (f8) xs = take_tensor(c, "x_scale");
    if (f8) ws = take_tensor(c, "w_scale");
    tensor sizes = take_tensor(c, sizes_name);
    NEED(c, w, w.dtype == dtype && w.ndim == 3, "must be %s [G, N, K]", type);
    if (!ok(c)) return;
    const int64_t g = w.size[0], n = w.size[1], k = w.size[2], kb = (k + 127) / 128, nb = (n + 127) / 128;
    if (padded)
        NEED(c, x, x.dtype == dtype && x.ndim == 3 && x.size[0] == g && x.size[2] == k, "must be %s [G = %lld, M, K = %lld]", type,
             (long long)g, (long long)k);
    else NEED(c, x, x.dtype == dtype && x.ndim == 2 && x.size[1] == k, "must be %s [sum of M, K = %lld]", type, (long long)k);
    NEED(c, sizes, sizes.dtype == DT_I64 && sizes.count == g, "must be int64 [G = %lld]", (long long)g);
    if (!ok(c)) return;
    a->m = x.size[x.ndim - 2];
    if (a->scaling == OCT_SCALE_ROW) {
        need_scales(c, &xs, padded ? g * a->m : a->m);
        need_scales(c, &ws, g * n);
    } else if (f8) {
        need_scales(c, &xs, a->m * kb);
        need_scales(c, &ws, g * kb * nb);
    }
    a->n = n;
    a->k = k;
    a->groups = g;
    if (padded) a->batch = g;
    a->x = as_packed(c, &x).data;
    a->w = as_packed(c, &w).data;
    a->x_dtype = a->w_dtype = dtype;
    if (f8) a->x_scale = as_packed(c, &xs).data;
    if (f8) a->w_scale = as_packed(c, &ws).data;
    a->m_sizes = as_packed(c, &sizes).data;
    a->y_dtype = OCT_BF16;
}

static void run_groups(call *c, oct_gemm_args *a, bool padded)
{
    const int64_t size[3] = { a->groups, a->m, a->n };
    const tensor y = new_result(c, padded ? 3 : 2, size + !padded, OCT_BF16);
    a->y = y.data;
    if (a->groups) RUN(c, gemm, a);
    else zero(c, &y);
}

OPERATOR(f8f8bf16_rowwise_grouped_stacked)
{
    call c = { .op = "f8f8bf16_rowwise_grouped_stacked", .stack = stack };
    oct_gemm_args a = { .scaling = OCT_SCALE_ROW, .flags = OCT_GEMM_FAST_ACCUM | OCT_GEMM_ZERO_REST };
    take_groups(&c, &a, false, "M_sizes");
    run_groups(&c, &a, false);
    finish(&c, results);
}

/* x_scale: of each group [K / 128, its rows], one after another; w_scale [G, K / 128, N / 128]. */
OPERATOR(f8f8bf16_groupwise_grouped)
{
    call c = { .op = "f8f8bf16_groupwise_grouped", .stack = stack };
    oct_gemm_args a = { .scaling = OCT_SCALE_GROUP, .scale_layout = OCT_MN_MAJOR, .flags = OCT_GEMM_FAST_ACCUM | OCT_GEMM_ZERO_REST };
    take_groups(&c, &a, false, "M_sizes");
    run_groups(&c, &a, false);
    finish(&c, results);
}

OPERATOR(bf16bf16bf16_grouped_stacked)
{
    call c = { .op = "bf16bf16bf16_grouped_stacked", .stack = stack };
    oct_gemm_args a = { .scaling = OCT_SCALE_NONE, .flags = OCT_GEMM_ZERO_REST };
    take_groups(&c, &a, false, "M_sizes");
    const tensor out = take_maybe(&c, "out");
    take_maybe_int(&c, 0); /* num_sms: of a GPU's grid */
    if (out.h) {
        NEED(&c, out, out.dtype == OCT_BF16 && out.ndim == 2 && out.size[0] == a.m && out.size[1] == a.n, "must be bfloat16 [%lld, %lld]",
             (long long)a.m, (long long)a.n);
        const matrix y = as_output(&c, &out);
        a.y = y.data;
        a.ldy = y.ld;
    }
    if (!out.h) run_groups(&c, &a, false);
    else if (a.groups) RUN(&c, gemm, &a);
    if (out.h) return_argument(&c, &out);
    finish(&c, results);
}

/* Of each group's M rows the first count; the others of y are zeros, or not written. */
OPERATOR(f8f8bf16_rowwise_grouped_dynamic)
{
    call c = { .op = "f8f8bf16_rowwise_grouped_dynamic", .stack = stack };
    oct_gemm_args a = { .scaling = OCT_SCALE_ROW, .flags = OCT_GEMM_FAST_ACCUM };
    take_groups(&c, &a, true, "zero_start_index_M");
    if (take_bool(&c)) a.flags |= OCT_GEMM_ZERO_REST;
    run_groups(&c, &a, true);
    finish(&c, results);
}

OPERATOR(bf16bf16bf16_grouped_dynamic)
{
    call c = { .op = "bf16bf16bf16_grouped_dynamic", .stack = stack };
    oct_gemm_args a = { .scaling = OCT_SCALE_NONE, .flags = OCT_GEMM_ZERO_REST };
    take_groups(&c, &a, true, "zero_start_index_M");
    run_groups(&c, &a, true);
    finish(&c, results);
}
