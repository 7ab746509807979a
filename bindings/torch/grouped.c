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

/* ---- Groups whose sizes lie in a tensor: on the CPU, where they can be read ---- */

typedef struct grouped_in {
    tensor x, w, x_scale, w_scale, sizes;
} grouped_in;

/* XQ, WQ and, in FP8, their scales; then the sizes. x is [rows, K], or [G, rows, K] where `padded`. */
static grouped_in take_groups(call *c, bool f8, bool padded, const char *sizes)
{
    grouped_in in = { .x = take_tensor(c, f8 ? "XQ" : "X") };
    const int32_t dtype = f8 ? OCT_F8E4M3FN : OCT_BF16;
    const char *name = f8 ? "float8_e4m3fn" : "bfloat16";
    in.w = take_tensor(c, f8 ? "WQ" : "W");
    if (f8) in.x_scale = take_tensor(c, "x_scale");
    if (f8) in.w_scale = take_tensor(c, "w_scale");
    in.sizes = take_tensor(c, sizes);
    NEED(c, in.w, in.w.dtype == dtype && in.w.ndim == 3, "must be %s [G, N, K]", name);
    if (!ok(c)) return in;
    const int64_t g = in.w.size[0], k = in.w.size[2];
    if (padded) NEED(c, in.x, in.x.dtype == dtype && in.x.ndim == 3 && in.x.size[0] == g && in.x.size[2] == k, "must be %s [G = %lld, M, K = %lld]", name, (long long)g, (long long)k);
    else NEED(c, in.x, in.x.dtype == dtype && in.x.ndim == 2 && in.x.size[1] == k, "must be %s [sum of M, K = %lld]", name, (long long)k);
    NEED(c, in.sizes, in.sizes.dtype == DT_I64 && in.sizes.count == g, "must be int64 [G = %lld]", (long long)g);
    in.x = as_packed(c, &in.x);
    in.w = as_packed(c, &in.w);
    in.x_scale = as_packed(c, &in.x_scale);
    in.w_scale = as_packed(c, &in.w_scale);
    in.sizes = as_packed(c, &in.sizes);
    return in;
}

static void need_scales(call *c, const tensor *t, int64_t n)
{
    NEED(c, *t, t->dtype == OCT_F32 && t->count == n, "must be float32 with %lld scales", (long long)n);
}

/* Rows that belong to group g, by its size cut to what is there. */
static int64_t rows_of_group(const grouped_in *in, int64_t g, int64_t left)
{
    const int64_t n = ((const int64_t *)in->sizes.data)[g];
    return n < 0 ? 0 : n < left ? n : left;
}

/* The rows of x in stacks, one call for all groups. Rows behind the last group are zeros. */
static void stacked(call *c, const grouped_in *in, const tensor *out)
{
    const bool f8 = in->x_scale.h;
    if (!ok(c)) return;
    const int64_t m = in->x.size[0], g = in->w.size[0], n = in->w.size[1];
    int64_t left = m;
    if (f8) need_scales(c, &in->x_scale, m);
    if (f8) need_scales(c, &in->w_scale, g * n);
    if (out->h) NEED(c, *out, out->dtype == OCT_BF16 && out->ndim == 2 && out->size[0] == m && out->size[1] == n, "must be bfloat16 [%lld, %lld]", (long long)m, (long long)n);
    const tensor y = out->h ? *out : new_result(c, 2, (int64_t[]){ m, n }, OCT_BF16);
    const matrix ym = as_output(c, &y);
    for (int64_t i = 0; ok(c) && i < g; i++) left -= rows_of_group(in, i, left);
    if (left) zero(c, &y);
    oct_gemm_args a = { .scaling = f8 ? OCT_SCALE_ROW : OCT_SCALE_NONE, .m = m, .n = n, .k = in->w.size[2], .x = in->x.data, .x_dtype = in->x.dtype,
                        .w = in->w.data, .w_dtype = in->w.dtype, .x_scale = in->x_scale.data, .w_scale = in->w_scale.data, .y = ym.data, .ldy = ym.ld,
                        .y_dtype = OCT_BF16, .m_sizes = in->sizes.data, .groups = g };
    if (g) RUN(c, gemm, &a);
    if (out->h) return_argument(c, out);
}

OPERATOR(f8f8bf16_rowwise_grouped_stacked)
{
    call c = { .op = "f8f8bf16_rowwise_grouped_stacked", .stack = stack };
    const grouped_in in = take_groups(&c, true, false, "M_sizes");
    stacked(&c, &in, &(tensor){ .h = 0 });
    finish(&c, results);
}

OPERATOR(bf16bf16bf16_grouped_stacked)
{
    call c = { .op = "bf16bf16bf16_grouped_stacked", .stack = stack };
    const grouped_in in = take_groups(&c, false, false, "M_sizes");
    const tensor out = take_maybe(&c, "out");
    take_maybe_int(&c, 0); /* num_sms: of a GPU's grid */
    stacked(&c, &in, &out);
    finish(&c, results);
}

/* x [G, M, K], of which each group's first rows count; the others of y are zeros, or not written. */
static void dynamic(call *c, const grouped_in *in, bool zeros)
{
    const bool f8 = in->x_scale.h;
    if (!ok(c)) return;
    const int64_t g = in->w.size[0], m = in->x.size[1], n = in->w.size[1], k = in->w.size[2], element = f8 ? 1 : 2;
    if (f8) need_scales(c, &in->x_scale, g * m);
    if (f8) need_scales(c, &in->w_scale, g * n);
    const tensor y = new_result(c, 3, (int64_t[]){ g, m, n }, OCT_BF16);
    if (zeros) zero(c, &y);
    for (int64_t i = 0; i < g && ok(c); i++) {
        const int held = c->held_count;
        oct_gemm_args a = { .scaling = f8 ? OCT_SCALE_ROW : OCT_SCALE_NONE, .m = rows_of_group(in, i, m), .n = n, .k = k,
                            .x = (const char *)in->x.data + i * m * k * element, .x_dtype = in->x.dtype,
                            .w = (const char *)in->w.data + i * n * k * element, .w_dtype = in->w.dtype,
                            .y = (char *)y.data + i * m * n * 2, .y_dtype = OCT_BF16 };
        if (f8) {
            a.x_scale = (const float *)in->x_scale.data + i * m;
            a.w_scale = (const float *)in->w_scale.data + i * n;
        }
        RUN(c, gemm, &a);
        drop_held(c, held);
    }
}

OPERATOR(f8f8bf16_rowwise_grouped_dynamic)
{
    call c = { .op = "f8f8bf16_rowwise_grouped_dynamic", .stack = stack };
    const grouped_in in = take_groups(&c, true, true, "zero_start_index_M");
    dynamic(&c, &in, take_bool(&c));
    finish(&c, results);
}

OPERATOR(bf16bf16bf16_grouped_dynamic)
{
    call c = { .op = "bf16bf16bf16_grouped_dynamic", .stack = stack };
    const grouped_in in = take_groups(&c, false, true, "zero_start_index_M");
    dynamic(&c, &in, true);
    finish(&c, results);
}

/* x_scale: of each group [K / 128, its rows], one after another; w_scale [G, K / 128, N / 128]. */
OPERATOR(f8f8bf16_groupwise_grouped)
{
    call c = { .op = "f8f8bf16_groupwise_grouped", .stack = stack };
    const grouped_in in = take_groups(&c, true, false, "M_sizes");
    const int64_t m = ok(&c) ? in.x.size[0] : 0, g = ok(&c) ? in.w.size[0] : 0, n = ok(&c) ? in.w.size[1] : 0, k = ok(&c) ? in.w.size[2] : 0;
    const int64_t kb = (k + 127) / 128, nb = (n + 127) / 128;
    int64_t at = 0;
    need_scales(&c, &in.x_scale, m * kb);
    need_scales(&c, &in.w_scale, g * kb * nb);
    const tensor y = new_result(&c, 2, (int64_t[]){ m, n }, OCT_BF16);
    for (int64_t i = 0; i < g && ok(&c); i++) {
        const int held = c.held_count;
        oct_gemm_args a = { .scaling = OCT_SCALE_GROUP, .scale_layout = OCT_MN_MAJOR, .m = rows_of_group(&in, i, m - at), .n = n, .k = k,
                            .x = (const char *)in.x.data + at * k, .x_dtype = OCT_F8E4M3FN, .w = (const char *)in.w.data + i * n * k,
                            .w_dtype = OCT_F8E4M3FN, .x_scale = (const float *)in.x_scale.data + at * kb,
                            .w_scale = (const float *)in.w_scale.data + i * kb * nb, .y = (char *)y.data + at * n * 2, .y_dtype = OCT_BF16 };
        at += a.m;
        RUN(&c, gemm, &a);
        drop_held(&c, held);
    }
    if (ok(&c) && n && at < m) { /* rows of no group: those behind are zeros */
        char *p = y.data;
        for (int64_t i = at * n * 2; i < m * n * 2; i++) p[i] = 0;
    }
    finish(&c, results);
}
