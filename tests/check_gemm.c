/* check_gemm.c - BOUND: every y against the formula of octavo.h, computed here in double. A bound of sums that a tensor core
 * rounds says little of single terms, so every case runs again on values whose sums are exact in any order, and y must be the
 * formula's. A third run shows whether sums leave the tensor core as often as octavo.h says. */
#include "check.h"
#include "core/core.h"
#include "core/num/bf16.h"
#include "core/num/f8.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AS_PICKED, EXACT_SUMS, ONE_LARGE }; /* the values of a run */
enum { TYPES, SCALING, LAYOUT, M, N, K, TASKS, BATCH, GROUPS, SHARE, Y, BIAS, FLAGS, PAD, XKIND, WKIND, SKIND, FORM };
static const ck_axis axes[] = {
    [TYPES] = CK_NAMES("types", "bf16 bf16", "f8 f8", "bf16 f8"),
    [SCALING] = CK_NAMES("scaling", "none", "tensor", "row", "group", "block"),
    [LAYOUT] = CK_NAMES("layout", "k", "mn"),
    [M] = CK_INTS("m", 3, 1, 2, 3, 4, 5, 6, 7, 9, 0, 31, 33, 70, 131, 260, 529),
    [N] = CK_INTS("n", 1, 1, 2, 3, 7, 8, 9, 15, 16, 17, 0, 33, 64, 97, 130, 576),
    [K] = CK_INTS("k", 1, 1, 3, 7, 8, 9, 31, 32, 33, 0, 64, 127, 128, 129, 257, 300, 576, 1100),
    [TASKS] = CK_NAMES("extents", "these", "these", "these", "these", "these", "m 7 to 33, n 520, k 1100: several tasks"),
    [BATCH] = CK_INTS("batch", 0, 0, 1, 2, 3),
    [GROUPS] = CK_INTS("groups", 0, 0, 0, 0, 1, 2, 5), /* with some, batch is 1 and scaling not BLOCK */
    [SHARE] = CK_NAMES("batches", "packed", "apart", "one w"),
    [Y] = CK_NAMES("y", "f32", "bf16"),
    [BIAS] = CK_NAMES("bias", "none", "f32", "bf16"),
    [FLAGS] = CK_NAMES("flags", "-", "w finite", "batch invariant", "both", "fast accum"),
    [PAD] = CK_INTS("pad", 0, 0, 1, 5, 16), /* 16: strides are multiples of 16 */
    [XKIND] = CK_KINDS("x"),
    [WKIND] = CK_KINDS("w"),
    [SKIND] = CK_NAMES("scale", "uniform", "near max", "subnormal", "codes", "nan inf"),
    [FORM] = CK_NAMES("other groups", "stacked", "of a batch", "stacked, rest zero", "of a batch, rest zero"),
};

/* Where an operand's scales lie: [n0][n1] a batch, and the index of (row, K block) in it. */
typedef struct scales { float *p; int64_t n0, n1, rows; int32_t scaling, layout; } scales;

/* A power of two that an operand's rows, or scales, are multiplied with in exact sums. */
static float some_power(ck_case *c, int most) { return ldexpf(1, (int)(ck_rnd(c) % (uint64_t)(2 * most + 1)) - most); }

static scales scale_make(ck_case *c, int32_t scaling, int32_t layout, int64_t batch, int64_t rows, int64_t k, int values, int kind)
{
    scales s = { .scaling = scaling, .layout = layout };
    const int64_t kn = (k + 127) / 128;
    s.rows = scaling == OCT_SCALE_BLOCK ? (rows + 127) / 128 : rows;
    s.n0 = 1;
    s.n1 = scaling == OCT_SCALE_NONE ? 0 : scaling == OCT_SCALE_TENSOR ? 1 : rows;
    if (scaling == OCT_SCALE_BLOCK || scaling == OCT_SCALE_GROUP) {
        s.n0 = layout ? kn : s.rows;
        s.n1 = layout ? s.rows : kn;
    }
    float *p = ck_input(c, batch * s.n0, s.n1, s.n1, 4);
    if (values == AS_PICKED) ck_fill(c, p, OCT_F32, batch * s.n0, s.n1, s.n1, kind);
    else
        for (int64_t i = 0; i < batch * s.n0 * s.n1; i++) p[i] = some_power(c, 1);
    s.p = scaling ? p : 0;
    return s;
}
static float scale_of(const scales *s, int64_t b, int64_t r, int64_t kb)
{
    if (s->scaling == OCT_SCALE_BLOCK) r /= 128;
    switch (s->scaling) {
    case OCT_SCALE_NONE:   return 1.0f;
    case OCT_SCALE_TENSOR: return s->p[b];
    case OCT_SCALE_ROW:    return s->p[b * s->n1 + r];
    default: return s->p[b * s->n0 * s->n1 + (s->layout ? kb * s->n1 + r : r * s->n1 + kb)];
    }
}

/* Rows of an operand in double. */
static double *rows_of(const void *p, int32_t dtype, int64_t at, int64_t rows, int64_t cols, int64_t ld)
{
    double *v = malloc((size_t)(rows * cols) * sizeof *v + 1);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) v[i * cols + j] = ck_value(p, dtype, at + i * ld + j);
    return v;
}

/* ---- Values whose sums are exact ---- */

static void set_value(void *p, int32_t dtype, int64_t i, float v)
{
    if (dtype == OCT_F32) ((float *)p)[i] = v;
    else if (dtype == OCT_BF16) ((uint16_t *)p)[i] = oct_bf16_from_f32(v);
    else ((uint8_t *)p)[i] = oct_f8e4m3fn_from_f32(v);
}
/* Whole numbers times a power of two of the row. Products and sums over k are then below 2^14 of their unit: neither f32 nor a
 * tensor core rounds or cuts anything, in any order, and block scales and biases leave y within 24 bits. */
static void fill_exact(ck_case *c, void *p, int32_t dtype, int64_t rows, int64_t k, int64_t ld)
{
    int most = 7;
    while (most * most * k >= 1 << 14 && most > 1) most--;
    for (int64_t i = 0; i < rows; i++) {
        const float unit = some_power(c, 2);
        for (int64_t j = 0; j < k; j++) set_value(p, dtype, i * ld + j, unit * (float)((int)(ck_rnd(c) % (uint64_t)(2 * most + 1)) - most));
    }
}
/* One term of 2^14 among the first 32, and ones, which are lost beside it. */
static void fill_large(void *p, int32_t dtype, int64_t rows, int64_t k, int64_t ld, int64_t where, float large)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < k; j++) set_value(p, dtype, i * ld + j, j == where ? large : 1);
}

/* ---- The formula ---- */

enum { MOST_GROUPS = 64 }; /* of 32 products: k up to 2048 */
/* What the tensor core may lose of sum_k x w over n neighbouring k: see octavo.h. */
static double tensor_core_error(const double *x, const double *w, int64_t n, int64_t most_groups)
{
    const double d = 35 * 0x1p-13;
    double sum[MOST_GROUPS], error = 0;
    if (n > MOST_GROUPS * 32) abort();
    for (int64_t g = 0; g * 32 < n; g++) {
        double largest = 0;
        sum[g] = 0;
        for (int64_t k = g * 32; k < n && k < g * 32 + 32; k++) {
            largest = fmax(largest, fmax(fabs(x[k]), 0x1p-6) * fmax(fabs(w[k]), 0x1p-6));
            sum[g] += x[k] * w[k];
        }
        double before = 0;
        largest = fmax(largest, fabs(sum[g]));
        for (int64_t i = g - 1; i >= 0 && i > g - most_groups; i--) {
            before += sum[i];
            largest = fmax(largest, fmax(fabs(before), fabs(before + sum[g])));
        }
        error += d * largest;
    }
    return error * pow(1 + d, (double)most_groups);
}

/* The scales of x that b's rows have: in groups they lie with the rows. */
static int64_t x_batch(const oct_gemm_args *a, int64_t b) { return a->groups && a->scaling != OCT_SCALE_TENSOR ? 0 : b; }

/* y[b,i,j] and T = sum |s x w| + |bias|, and the same without scales, of finite terms; lost: in a tensor core. */
typedef struct exact { double y, t, unscaled, lost; int bad_scale; } exact;

static exact element(const oct_gemm_args *a, const double *x, const double *w, const scales *sx, const scales *sw, int64_t b, int64_t i,
                     int64_t j, int64_t most_groups)
{
    exact e = { 0, 0, 0, 0, 0 };
    const int64_t step = a->scaling == OCT_SCALE_BLOCK || a->scaling == OCT_SCALE_GROUP ? 128 : a->k;
    for (int64_t k0 = 0; k0 < a->k; k0 += step) {
        const float s = scale_of(sx, x_batch(a, b), i, k0 / 128) * scale_of(sw, b, j, k0 / 128);
        double sum = 0, t = 0;
        for (int64_t k = k0; k < a->k && k < k0 + step; k++) {
            const double xw = x[i * a->k + k] * w[j * a->k + k];
            sum += xw;
            if (isfinite(xw)) t += fabs(xw);
        }
        e.y += (double)s * sum;
        e.t += fabs((double)s) * t;
        e.unscaled += t;
        if (most_groups)
            e.lost += fabs((double)s) * tensor_core_error(x + i * a->k + k0, w + j * a->k + k0, step < a->k - k0 ? step : a->k - k0, most_groups);
        e.bad_scale |= !isfinite(s);
    }
    if (a->bias) {
        const double v = ck_value(a->bias, a->bias_dtype, b * a->stride_bias + j);
        e.y += v;
        if (isfinite(v)) e.t += fabs(v);
    }
    return e;
}

static int y_bytes(const oct_gemm_args *a) { return a->y_dtype == OCT_BF16 ? 2 : 4; }

/* After how many groups of 32 a sum leaves the tensor core at the latest; 0: f32 sums. */
static int64_t groups_of(const ck_case *c, const oct_gemm_args *a)
{
    if (oct_row_device(ck_row(c)) != OCT_CUDA || a->x_dtype != OCT_F8E4M3FN) return 0;
    return a->flags & OCT_GEMM_FAST_ACCUM ? (a->k + 31) / 32 : 8;
}

/* Largest finite |x[i,:]|. */
static double largest(const double *x, int64_t k)
{
    double most = 0;
    for (int64_t i = 0; i < k; i++)
        if (isfinite(x[i]) && fabs(x[i]) > most) most = fabs(x[i]);
    return most;
}

static void compare_batch(ck_case *c, const oct_gemm_args *a, int values, const double *x, const double *w, const scales *sx,
                          const scales *sw, int64_t b, int64_t first, int64_t end)
{
    const int64_t most_groups = groups_of(c, a);
    for (int64_t i = first; i < end; i++) {
        const double most = largest(x + i * a->k, a->k);
        for (int64_t j = 0; j < a->n; j++) {
            const int64_t at = b * a->stride_y + i * a->ldy + j;
            const exact e = element(a, x, w, sx, sw, b, i, j, most_groups);
            double s = 0, bound;
            for (int64_t kb = 0; kb * 128 < a->k; kb++) s = fmax(s, fabs((double)(scale_of(sx, x_batch(a, b), i, kb) * scale_of(sw, b, j, kb))));
            bound = 2 * (double)(a->k + 8) * 0x1p-24 * (e.t + 0x1p-126 * (1 + s * (1 + most))) + e.lost;
            if (values == EXACT_SUMS) bound = 0;
            const double got = ck_value(a->y, a->y_dtype, at);
            int ok;
            if (values == EXACT_SUMS && a->y_dtype == OCT_F32) ok = got == e.y;
            else if (e.bad_scale) ok = !isfinite(got);
            else if (isnan(e.y)) ok = isnan(got);
            else if (!(e.t < 0x1p127 && e.unscaled < 0x1p127)) continue; /* partial sums may overflow */
            else if (isinf(e.y)) ok = got == e.y;
            else ok = ck_within(a->y, a->y_dtype, at, e.y, bound);
            if (!ok) {
                ck_fail(c, "y[%lld,%lld,%lld] is %.9g, exact %.9g, bound %.3g", (long long)b, (long long)i, (long long)j, got, e.y, bound);
                return;
            }
            ck_compared(c, 1);
        }
    }
}

static void compare(ck_case *c, const oct_gemm_args *a, int values, const scales *sx, const scales *sw)
{
    int64_t first = 0, end = a->m;
    for (int64_t b = 0; b < a->batch && !ck_failed(c); b++) {
        if (a->groups) {
            first = b ? end : 0;
            end = first + oct_max(0, oct_min(a->m - first, a->m_sizes[b]));
        }
        double *x = rows_of(a->x, a->x_dtype, b * a->stride_x, a->m, a->k, a->ldx);
        double *w = rows_of(a->w, a->w_dtype, b * a->stride_w, a->n, a->k, a->ldw);
        compare_batch(c, a, values, x, w, sx, sw, b, first, end);
        free(x);
        free(w);
    }
    const unsigned char *y = (const unsigned char *)a->y;
    for (int64_t i = end; i < a->m; i++) /* of no group */
        for (int64_t j = 0; j < a->n * y_bytes(a); j++)
            if (y[i * a->ldy * y_bytes(a) + j] != 0xa5) {
                ck_fail(c, "row %lld, which no group has, was written", (long long)i);
                return;
            }
}

/* The first batch again with only rows [i0, i0 + m): the same bits? */
static void rows_alone(ck_case *c, const oct_gemm_args *a, const scales *sx, int64_t i0, int64_t m)
{
    const int x_bytes = a->x_dtype == OCT_BF16 ? 2 : 1;
    oct_gemm_args part = *a;
    part.m = m;
    part.batch = 1;
    part.x = (const char *)a->x + i0 * a->ldx * x_bytes;
    part.stride_x = part.stride_w = part.stride_y = 0;
    part.ldy = a->n;
    part.y = ck_output(c, m, a->n, a->n, y_bytes(a));
    if (sx->scaling == OCT_SCALE_ROW) part.x_scale = a->x_scale + i0;
    if (sx->scaling == OCT_SCALE_GROUP || sx->scaling == OCT_SCALE_BLOCK) {
        const int64_t kn = (a->k + 127) / 128, per = sx->scaling == OCT_SCALE_BLOCK ? 128 : 1, rn = (m + per - 1) / per;
        float *s = ck_input(c, rn * kn, 1, 1, 4);
        for (int64_t r = 0; r < rn; r++)
            for (int64_t kb = 0; kb < kn; kb++) s[sx->layout ? kb * rn + r : r * kn + kb] = scale_of(sx, 0, i0 + r * per, kb);
        part.x_scale = s;
    }
    if (!ck_run(c, ck_row(c), &part)) return;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < a->n; j++) { /* a NaN that travelled through a sum may be any NaN */
            const double alone = ck_value(part.y, a->y_dtype, i * a->n + j), whole = ck_value(a->y, a->y_dtype, (i0 + i) * a->ldy + j);
            if (alone != alone && whole != whole) continue;
            if (!memcmp((const char *)part.y + (i * a->n + j) * y_bytes(a),
                        (const char *)a->y + ((i0 + i) * a->ldy + j) * y_bytes(a), (size_t)y_bytes(a)))
                continue;
            ck_fail(c, "row %lld has other bits with m = %lld than with m = %lld", (long long)(i0 + i), (long long)m, (long long)a->m);
            return;
        }
}

static void run_with(ck_case *c, int values)
{
    static const int32_t x_dtypes[] = { OCT_BF16, OCT_F8E4M3FN, OCT_BF16 }, w_dtypes[] = { OCT_BF16, OCT_F8E4M3FN, OCT_F8E4M3FN };
    static const int32_t bias_dtypes[] = { 0, OCT_F32, OCT_BF16 };
    const int types = (int)ck_pick(c, TYPES), flags = (int)ck_pick(c, FLAGS), share = (int)ck_pick(c, SHARE);
    const int tasks = ck_pick(c, TASKS) == 5, large = values == ONE_LARGE; /* no row takes `tasks` for one task */
    const int64_t m = tasks ? oct_max(7, oct_min(ck_pick(c, M), 33)) : ck_pick(c, M), n0 = tasks ? 520 : ck_pick(c, N);
    const int64_t k = tasks || large ? 1100 : ck_pick(c, K), pad = large ? 16 : ck_pick(c, PAD), batch = ck_pick(c, BATCH);
    const int64_t big = ck_row(c) == ck_ref(c) && m * k > 50000; /* slow, and proves nothing more */
    const int64_t n = big ? oct_min(n0, 17) : n0;
    const int64_t groups = ck_pick(c, GROUPS), outer = batch && !groups ? batch : 1, problems = groups ? groups : outer, apart = share == 1 ? 3 : 0; /* rows between the matrices of a batch */
    const int64_t ldx = pad == 16 ? (k + 31) / 16 * 16 : k + pad, ldw = pad == 16 ? ldx + 16 : k + 2 * pad;
    int32_t scaling = (int32_t)ck_pick(c, SCALING);
    int w_kind = (int)ck_pick(c, WKIND);
    if (types == 0) scaling = OCT_SCALE_NONE;
    if (types == 2 && scaling == OCT_SCALE_GROUP) scaling = OCT_SCALE_BLOCK;
    if (groups && scaling == OCT_SCALE_BLOCK) scaling = OCT_SCALE_ROW;
    if (flags & 1 && w_kind == CK_SPECIAL) w_kind = CK_UNIFORM;
    oct_gemm_args a = { .size = sizeof a, .scaling = scaling, .scale_layout = groups ? OCT_K_MAJOR : (int32_t)ck_pick(c, LAYOUT),
                        .flags = (flags & 1 ? OCT_GEMM_W_FINITE : 0) | (flags & 2 ? OCT_GEMM_BATCH_INVARIANT : 0) |
                                 (flags & 4 ? OCT_GEMM_FAST_ACCUM : 0), .m = m, .n = n,
                        .k = k, .batch = groups ? batch > 0 : batch, .groups = groups, .x_dtype = x_dtypes[types], .w_dtype = w_dtypes[types], .ldx = ldx, .ldw = ldw,
                        .ldy = pad == 16 ? (n + 31) / 16 * 16 : n + pad, .y_dtype = ck_pick(c, Y) ? OCT_BF16 : OCT_F32,
                        .bias_dtype = bias_dtypes[ck_pick(c, BIAS)] };
    const int64_t xb = a.x_dtype == OCT_BF16 ? 2 : 1, wb = a.w_dtype == OCT_BF16 ? 2 : 1, w_outer = share == 2 ? 1 : problems;
    void *x = ck_input(c, outer * (m + apart), k, a.ldx, xb), *w = ck_input(c, w_outer * (n + apart), k, a.ldw, wb);
    if (values == AS_PICKED) {
        ck_fill(c, x, a.x_dtype, outer * (m + apart), k, a.ldx, (int)ck_pick(c, XKIND));
        ck_fill(c, w, a.w_dtype, w_outer * (n + apart), k, a.ldw, w_kind);
    } else if (values == EXACT_SUMS) {
        fill_exact(c, x, a.x_dtype, outer * (m + apart), k, a.ldx);
        fill_exact(c, w, a.w_dtype, w_outer * (n + apart), k, a.ldw);
    } else {
        const int64_t where = (int64_t)(ck_rnd(c) % 32);
        fill_large(x, a.x_dtype, outer * (m + apart), k, a.ldx, where, 256);
        fill_large(w, a.w_dtype, w_outer * (n + apart), k, a.ldw, where, 64);
    }
    const scales sx = scale_make(c, types == 1 ? scaling : OCT_SCALE_NONE, a.scale_layout, scaling == OCT_SCALE_TENSOR ? problems : outer, m, k, values, (int)ck_pick(c, SKIND));
    const scales sw = scale_make(c, scaling == OCT_SCALE_GROUP ? OCT_SCALE_BLOCK : scaling, a.scale_layout, problems, n, k, values,
                                 (int)ck_pick(c, SKIND));
    a.x = x; a.w = w; a.x_scale = sx.p; a.w_scale = sw.p;
    if (a.bias_dtype) {
        void *bias = ck_input(c, problems, n, n + apart, a.bias_dtype == OCT_F32 ? 4 : 2);
        if (values == AS_PICKED) ck_fill(c, bias, a.bias_dtype, problems, n, n + apart, (int)ck_pick(c, SKIND));
        else
            for (int64_t i = 0; i < problems * (n + apart) - apart; i++) set_value(bias, a.bias_dtype, i, (float)((int)(ck_rnd(c) % 17) - 8));
        a.bias = bias;
        a.stride_bias = apart ? n + apart : 0;
    }
    if (apart) {
        a.stride_x = (m + apart) * a.ldx;
        a.stride_w = (n + apart) * a.ldw;
        a.stride_y = (m + apart) * a.ldy;
    }
    if (share == 2) a.stride_w = OCT_BROADCAST;
    if (groups) {
        int64_t *sizes = ck_input(c, 1, groups, groups, 8);
        for (int64_t g = 0; g < groups; g++) sizes[g] = ck_rnd(c) % 4 ? (int64_t)(ck_rnd(c) % (uint64_t)(2 * m / groups + 2)) : -(int64_t)(ck_rnd(c) % 2);
        if (ck_rnd(c) % 4 == 0) sizes[groups - 1] = INT64_MAX;
        a.m_sizes = sizes;
    }
    a.y = ck_output(c, outer * (m + apart), n, a.ldy, y_bytes(&a));
    if (!ck_fits(c, &a) || !ck_run(c, ck_row(c), &a)) return;
    /* The gaps between rows and between matrices are as they were. */
    for (int64_t b = 0; b < outer; b++) {
        const char *y = (const char *)a.y + b * (m + apart) * a.ldy * y_bytes(&a);
        ck_padding(c, "y", y, m + (apart || b + 1 < outer), n, a.ldy, y_bytes(&a));
        if (apart) ck_padding(c, "y, between matrices", y + m * a.ldy * y_bytes(&a), apart, 0, a.ldy, y_bytes(&a));
    }
    oct_gemm_args full = a; /* strides spelt out, for the formula */
    full.batch = problems;
    if (!full.stride_x) full.stride_x = m * a.ldx;
    if (!full.stride_w) full.stride_w = n * a.ldw;
    if (!full.stride_y) full.stride_y = m * a.ldy;
    if (!full.stride_bias) full.stride_bias = n;
    if (share == 2) full.stride_w = 0;
    if (groups) full.stride_x = full.stride_y = 0;
    compare(c, &full, values, &sx, &sw);
    ck_compared(c, 1); /* that it ran and touched nothing else */
    if (!(flags & 2) || !m || groups || values != AS_PICKED || ck_failed(c)) return;
    if (m <= 70 && n * k < 6000 && ck_row(c) != ck_ref(c))
        for (int64_t part = 1; part < m; part++) rows_alone(c, &full, &sx, 0, part);
    else
        rows_alone(c, &full, &sx, 0, 1 + (int64_t)(ck_rnd(c) % (uint64_t)m));
    if (sx.scaling != OCT_SCALE_BLOCK) rows_alone(c, &full, &sx, (int64_t)(ck_rnd(c) % (uint64_t)m), 1);
}

/* ---- Groups: every problem against the formula as a call of its own ---- */

/* Sizes of the problems: some empty, one below 0, one beyond the rows that there are. Returns the rows they have, sum or largest. */
static void make_sizes(ck_case *c, int64_t *size, int64_t count, int64_t m, int stacked)
{
    int64_t left = m;
    for (int64_t g = 0; g < count; g++) {
        const uint64_t r = ck_rnd(c) >> 8;
        size[g] = r % 5 == 0 ? 0 : r % 11 == 0 ? -3 : (int64_t)(r % (uint64_t)((stacked && g + 1 < count ? 2 * left / (count - g) : left) + 2));
        if (stacked && size[g] > 0) left = size[g] < left ? left - size[g] : 0;
    }
}

/* Rows [from, m) of y: zeros, or as they were. */
static void check_rest(ck_case *c, const oct_gemm_args *a, const void *y, int64_t from)
{
    const int64_t row = a->n * y_bytes(a), ld = a->ldy * y_bytes(a);
    for (int64_t i = from; i < a->m; i++)
        for (int64_t j = 0; j < row; j++)
            if (((const uint8_t *)y)[i * ld + j] != (a->flags & OCT_GEMM_ZERO_REST ? 0 : 0xa5)) {
                ck_fail(c, "row %lld of y, of no problem, is neither as it was nor 0 as wanted", (long long)i);
                return;
            }
}

/* The first row of every problem of a batch, alone: the same bits? */
static void first_rows_alone(ck_case *c, const oct_gemm_args *a)
{
    oct_gemm_args one = *a;
    int64_t *size = ck_input(c, 1, a->batch, a->batch, 8);
    for (int64_t g = 0; g < a->batch; g++) size[g] = a->m_sizes[g] < 1 ? a->m_sizes[g] : 1;
    one.m_sizes = size;
    one.y = ck_output(c, a->batch * a->m, a->n, a->ldy, y_bytes(a));
    if (!ck_run(c, ck_row(c), &one)) return;
    for (int64_t g = 0; g < a->batch; g++)
        for (int64_t j = 0; size[g] == 1 && j < a->n; j++) {
            const int64_t at = g * a->m * a->ldy + j;
            const double alone = ck_value(one.y, a->y_dtype, at), whole = ck_value(a->y, a->y_dtype, at);
            if (alone != alone && whole != whole) continue;
            if (memcmp((const char *)one.y + at * y_bytes(a), (const char *)a->y + at * y_bytes(a), (size_t)y_bytes(a))) {
                ck_fail(c, "the first row of problem %lld has other bits alone", (long long)g);
                return;
            }
        }
}

static void run_sizes(ck_case *c)
{
    static const int32_t x_dtypes[] = { OCT_BF16, OCT_F8E4M3FN, OCT_BF16 }, w_dtypes[] = { OCT_BF16, OCT_F8E4M3FN, OCT_F8E4M3FN };
    static const int32_t bias_dtypes[] = { 0, OCT_F32, OCT_BF16 };
    const int types = (int)ck_pick(c, TYPES), flags = (int)ck_pick(c, FLAGS), sizes = (int)ck_pick(c, FORM), stacked = sizes % 2 == 0;
    const int64_t count = stacked ? 1 + 2 * ck_pick(c, BATCH) : 2 + ck_pick(c, BATCH), pad = ck_pick(c, PAD), k = ck_pick(c, K), most = 1 << 21;
    const int64_t m = ck_pick(c, M) * (stacked ? 2 : 1), n = m * k * count * ck_pick(c, N) > most && ck_pick(c, N) > 9 ? 9 : ck_pick(c, N);
    int32_t scaling = types == 0 ? OCT_SCALE_NONE : (int32_t)ck_pick(c, SCALING);
    if (types == 2 && scaling == OCT_SCALE_GROUP) scaling = stacked ? OCT_SCALE_ROW : OCT_SCALE_BLOCK;
    if (stacked && scaling == OCT_SCALE_BLOCK) scaling = OCT_SCALE_GROUP;
    if (types == 2 && scaling == OCT_SCALE_GROUP) scaling = OCT_SCALE_ROW;
    const int w_kind = flags & 1 && ck_pick(c, WKIND) == CK_SPECIAL ? CK_UNIFORM : (int)ck_pick(c, WKIND), s_kind = (int)ck_pick(c, SKIND);
    oct_gemm_args a = { .size = sizeof a, .scaling = scaling, .scale_layout = (int32_t)ck_pick(c, LAYOUT),
                        .flags = (flags & 1 ? OCT_GEMM_W_FINITE : 0) | (flags & 2 ? OCT_GEMM_BATCH_INVARIANT : 0) | (sizes > 1 ? OCT_GEMM_ZERO_REST : 0),
                        .m = m, .n = n, .k = k, .batch = stacked ? (int64_t)(ck_rnd(c) & 1) : count, .groups = count, .x_dtype = x_dtypes[types],
                        .w_dtype = w_dtypes[types], .ldx = k + pad, .ldw = k + 2 * pad, .ldy = n + pad,
                        .y_dtype = ck_pick(c, Y) ? OCT_BF16 : OCT_F32, .bias_dtype = bias_dtypes[ck_pick(c, BIAS)] };
    const int64_t xb = oct_dtype_bits(a.x_dtype) / 8, wb = oct_dtype_bits(a.w_dtype) / 8, rows = stacked ? m : count * m;
    int64_t *size = ck_input(c, 1, count, count, 8);
    make_sizes(c, size, count, m, stacked);
    a.m_sizes = size;
    void *x = ck_input(c, rows, k, a.ldx, xb), *w = ck_input(c, count * n, k, a.ldw, wb);
    ck_fill(c, x, a.x_dtype, rows, k, a.ldx, (int)ck_pick(c, XKIND));
    ck_fill(c, w, a.w_dtype, count * n, k, a.ldw, w_kind);
    a.x = x;
    a.w = w;
    if (a.bias_dtype) {
        void *bias = ck_input(c, count, n, n, oct_dtype_bits(a.bias_dtype) / 8);
        ck_fill(c, bias, a.bias_dtype, count, n, n, s_kind);
        a.bias = bias;
    }
    /* Every problem with scales of its own; then side by side as the op wants them. */
    oct_gemm_args *p = calloc((size_t)count, sizeof *p);
    scales *sx = calloc((size_t)count, sizeof *sx), sw = scale_make(c, scaling == OCT_SCALE_GROUP ? OCT_SCALE_BLOCK : scaling, a.scale_layout, count, n, k, AS_PICKED, s_kind);
    int64_t row = 0, all = 0, at = 0;
    for (int64_t g = 0; g < count; g++) {
        const int64_t own = size[g] < 0 ? 0 : size[g] < m - row ? size[g] : m - row;
        sx[g] = scale_make(c, types == 1 ? scaling : OCT_SCALE_NONE, a.scale_layout, 1, stacked ? own : m, k, AS_PICKED, s_kind);
        all += sx[g].n0 * sx[g].n1;
        p[g] = a;
        p[g].m = own;
        p[g].batch = 1;
        p[g].groups = 0;
        p[g].x = (char *)x + (stacked ? row : g * m) * a.ldx * xb;
        p[g].w = (char *)w + g * n * a.ldw * wb;
        if (a.bias) p[g].bias = (const char *)a.bias + g * n * (oct_dtype_bits(a.bias_dtype) / 8);
        if (stacked) row += own;
    }
    float *s = ck_input(c, 1, all, all, 4);
    for (int64_t g = 0; g < count; at += sx[g].n0 * sx[g].n1, g++)
        if (sx[g].p) memcpy(s + at, sx[g].p, (size_t)(sx[g].n0 * sx[g].n1) * 4);
    a.x_scale = types == 1 && scaling ? s : 0;
    a.w_scale = sw.p;
    a.y = ck_output(c, rows, n, a.ldy, y_bytes(&a));
    if (ck_fits(c, &a) && ck_run(c, ck_row(c), &a)) {
        for (int64_t g = 0, from = 0; g < count; from += p[g].m, g++) {
            p[g].y = (char *)a.y + (stacked ? from : g * m) * a.ldy * y_bytes(&a);
            scales own = sw;
            if (sw.p) own.p = sw.p + g * sw.n0 * sw.n1;
            compare(c, &p[g], AS_PICKED, &sx[g], &own);
            if (!stacked) check_rest(c, &a, p[g].y, p[g].m);
        }
        if (stacked) check_rest(c, &a, a.y, row);
        ck_padding(c, "y", a.y, rows, n, a.ldy, y_bytes(&a));
        ck_compared(c, 1);
        if (flags & 2 && !stacked && m && !ck_failed(c)) first_rows_alone(c, &a);
    }
    free(p);
    free(sx);
}

static void run(ck_case *c)
{
    run_with(c, AS_PICKED);
    if (!ck_failed(c)) run_with(c, EXACT_SUMS);
    if (!ck_failed(c) && ck_pick(c, TYPES) == 1 && oct_row_device(ck_row(c)) == OCT_CUDA) run_with(c, ONE_LARGE);
    if (!ck_failed(c)) run_sizes(c);
}

/* ---- Timing ---- */

enum { POOL = 192 << 20, FILLED = 16 << 20, SETS = 64 }; /* bytes of weights, more than any cache holds */
typedef struct pools { char *w[2], *x[2]; float *scale; void *y; } pools; /* of bf16, of f8 */

static void time_shape(ck_bench *b, const pools *p, const char *name, int types, int32_t scaling, int64_t m, int64_t n, int64_t k)
{
    static oct_gemm_args a[SETS];
    void *args[SETS];
    const int x_f8 = types == 1, w_f8 = types > 0;
    const int64_t w_bytes = n * k * (w_f8 ? 1 : 2), sets = POOL / w_bytes < SETS ? POOL / w_bytes : SETS;
    for (int64_t i = 0; i < sets; i++) {
        a[i] = (oct_gemm_args){ .size = sizeof *a, .scaling = scaling, .m = m, .n = n, .k = k, .x = p->x[x_f8],
                                .x_dtype = x_f8 ? OCT_F8E4M3FN : OCT_BF16, .w = p->w[w_f8] + POOL / sets / 64 * 64 * i,
                                .w_dtype = w_f8 ? OCT_F8E4M3FN : OCT_BF16, .x_scale = x_f8 ? p->scale : 0,
                                .w_scale = scaling ? p->scale : 0, .y = p->y, .y_dtype = OCT_BF16 };
        args[i] = &a[i];
    }
    ck_time(b, name, (double)w_bytes + (double)(m * k) * (x_f8 ? 1 : 2) + (double)(m * n) * 2, 2.0 * (double)m * (double)n * (double)k,
            (int)sets, args);
}

/* Shapes of large models, on a GPU: kind mxnxk. */
static void time_on_gpu(ck_bench *b, const char *kind, int types, int32_t scaling, int32_t flags, int64_t m, int64_t n, int64_t k)
{
    static oct_gemm_args a[CK_BENCH_SETS];
    void *args[CK_BENCH_SETS];
    char name[64];
    const int32_t x_dtype = types == 1 ? OCT_F8E4M3FN : OCT_BF16, w_dtype = types ? OCT_F8E4M3FN : OCT_BF16;
    const int64_t x_bytes = m * k * (types == 1 ? 1 : 2), w_bytes = n * k * (types ? 1 : 2), groups = (k + 127) / 128;
    const int sets = ck_bench_sets(b, (double)w_bytes);
    void *x = ck_bench_mem(b, x_bytes), *y = ck_bench_mem(b, m * n * 2);
    float *x_scale = ck_bench_mem(b, m * groups * 4), *w_scale = ck_bench_mem(b, n * groups * 4);
    ck_bench_fill(b, x, x_dtype, m * k, 1);
    ck_bench_fill(b, x_scale, OCT_F32, m * groups, 0.01f);
    ck_bench_fill(b, w_scale, OCT_F32, n * groups, 0.01f);
    for (int i = 0; i < sets; i++) {
        void *w = ck_bench_mem(b, w_bytes);
        ck_bench_fill(b, w, w_dtype, n * k, 1);
        a[i] = (oct_gemm_args){ .size = sizeof *a, .scaling = scaling, .scale_layout = OCT_MN_MAJOR, .flags = flags, .m = m, .n = n, .k = k,
                                .x = x, .x_dtype = x_dtype, .w = w, .w_dtype = w_dtype, .x_scale = types == 1 ? x_scale : 0,
                                .w_scale = scaling ? w_scale : 0, .y = y, .y_dtype = OCT_BF16 };
        args[i] = &a[i];
    }
    snprintf(name, sizeof name, "%s %lldx%lldx%lld", kind, (long long)m, (long long)n, (long long)k);
    ck_time(b, name, (double)(w_bytes + x_bytes + m * n * 2), 2.0 * (double)m * (double)n * (double)k, sets, args);
    ck_bench_drop(b);
}
static void bench_gpu(ck_bench *b)
{
    static const int64_t few[][2] = { { 1280, 8192 }, { 8192, 1024 }, { 8192, 3584 }, { 7168, 8192 }, { 8192, 8192 }, { 13312, 16384 } };
    static const int64_t many[][3] = { { 128, 8192, 8192 }, { 256, 8192, 8192 }, { 1024, 1280, 8192 }, { 1024, 7168, 8192 },
                                       { 2048, 8192, 8192 }, { 4096, 8192, 1024 }, { 8192, 8192, 8192 } };
    for (int64_t m = 1; m <= 64; m *= m == 1 ? 16 : 4)
        for (int i = 0; i < 6; i++) time_on_gpu(b, "f8 fast", 1, OCT_SCALE_ROW, OCT_GEMM_FAST_ACCUM, m, few[i][0], few[i][1]);
    for (int i = 0; i < 7; i++) time_on_gpu(b, "f8 fast", 1, OCT_SCALE_ROW, OCT_GEMM_FAST_ACCUM, many[i][0], many[i][1], many[i][2]);
    time_on_gpu(b, "f8 accurate", 1, OCT_SCALE_ROW, 0, 8192, 8192, 8192);
    time_on_gpu(b, "f8 group", 1, OCT_SCALE_GROUP, 0, 16, 8192, 8192);
    time_on_gpu(b, "f8 group", 1, OCT_SCALE_GROUP, 0, 8192, 8192, 8192);
    time_on_gpu(b, "bf16", 0, OCT_SCALE_NONE, 0, 16, 8192, 8192);
    time_on_gpu(b, "bf16", 0, OCT_SCALE_NONE, 0, 8192, 8192, 8192);
    time_on_gpu(b, "weight only", 2, OCT_SCALE_ROW, 0, 16, 8192, 8192);
}

/* Stacked rows of f8, as many of each problem. */
static void time_groups(ck_bench *b, const pools *p, const char *name, int64_t groups, int64_t each, int64_t n, int64_t k)
{
    static oct_gemm_args a[SETS];
    void *args[SETS];
    int64_t *size = ck_bench_mem(b, groups * 8);
    const int64_t m = groups * each, w_bytes = groups * n * k, sets = POOL / w_bytes < SETS ? POOL / w_bytes : SETS;
    for (int64_t g = 0; g < groups; g++) size[g] = each;
    for (int64_t i = 0; i < sets; i++) {
        a[i] = (oct_gemm_args){ .size = sizeof *a, .scaling = OCT_SCALE_ROW, .m = m, .n = n, .k = k, .x = p->x[1], .x_dtype = OCT_F8E4M3FN,
                                .w = p->w[1] + POOL / sets / 64 * 64 * i, .w_dtype = OCT_F8E4M3FN, .x_scale = p->scale, .w_scale = p->scale,
                                .y = p->y, .y_dtype = OCT_BF16, .m_sizes = size, .groups = groups };
        args[i] = &a[i];
    }
    ck_time(b, name, (double)(w_bytes + m * k + m * n * 2), 2.0 * (double)m * (double)n * (double)k, (int)sets, args);
}

static void bench(ck_bench *b)
{
    if (ck_bench_gpu(b)) {
        bench_gpu(b);
        return;
    }
    pools p = { .scale = ck_bench_mem(b, 49152 * 4), .y = ck_bench_mem(b, 512 * 4096 * 4) };
    ck_bench_fill(b, p.scale, OCT_F32, 49152, 0.01f);
    for (int f8 = 0; f8 < 2; f8++) {
        p.w[f8] = ck_bench_mem(b, POOL);
        p.x[f8] = ck_bench_mem(b, 512 * 4096 * 2);
        ck_bench_fill(b, p.w[f8], f8 ? OCT_F8E4M3FN : OCT_BF16, f8 ? FILLED : FILLED / 2, 1);
        ck_bench_fill(b, p.x[f8], f8 ? OCT_F8E4M3FN : OCT_BF16, 512 * 4096, 1);
        for (int64_t at = FILLED; at < POOL; at += FILLED) memcpy(p.w[f8] + at, p.w[f8], FILLED);
    }
    time_shape(b, &p, "f8 1x4096x4096", 1, OCT_SCALE_ROW, 1, 4096, 4096);
    time_shape(b, &p, "f8 4x4096x4096", 1, OCT_SCALE_ROW, 4, 4096, 4096);
    time_shape(b, &p, "f8 16x4096x4096", 1, OCT_SCALE_ROW, 16, 4096, 4096);
    time_shape(b, &p, "f8 512x512x4096", 1, OCT_SCALE_ROW, 512, 512, 4096);
    time_shape(b, &p, "f8 512x4096x4096", 1, OCT_SCALE_ROW, 512, 4096, 4096);
    time_shape(b, &p, "f8 block 512x512x4096", 1, OCT_SCALE_BLOCK, 512, 512, 4096);
    time_shape(b, &p, "bf16 1x4096x4096", 0, OCT_SCALE_NONE, 1, 4096, 4096);
    time_shape(b, &p, "bf16 512x512x4096", 0, OCT_SCALE_NONE, 512, 512, 4096);
    time_shape(b, &p, "weight only 1x4096x4096", 2, OCT_SCALE_ROW, 1, 4096, 4096);
    time_shape(b, &p, "f8 1x49152x576", 1, OCT_SCALE_ROW, 1, 49152, 576);
    time_shape(b, &p, "f8 1x1536x576", 1, OCT_SCALE_ROW, 1, 1536, 576);
    time_shape(b, &p, "f8 128x576x1536", 1, OCT_SCALE_ROW, 128, 576, 1536);
    time_groups(b, &p, "f8 16 groups of 2, 1024x2048", 16, 2, 1024, 2048);
    time_groups(b, &p, "f8 16 groups of 32, 1024x2048", 16, 32, 1024, 2048);
}

const ck_op ck_gemm = { &oct_op_gemm, axes, sizeof axes / sizeof *axes, run, bench,
                        "f8e4m3fnuz, f8e5m2, i8, i4 and f4 weights, packed weights" };
