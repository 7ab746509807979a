/* check_norm_quant.c - residual_out EXACT; y and scale STEP against the formula of octavo.h, computed here in double.
 */
#include "check_rows.h"
#include "core/num/bf16.h"

enum { M, K, Y, X, RESIDUAL, OUT, WEIGHT, EPS, LAYOUT, BLOCK_K, UB, PAD, XKIND, RKIND, WKIND };
static const ck_axis axes[] = {
    [M] = CK_INTS("m", 1, 1, 2, 0, 65, 700),
    [K] = CK_INTS("k", 2, 1, 7, 8, 9, 33, 0, 130, 576, 8201, 4096, 20000),
    [Y] = CK_ROW_MODES,
    [X] = CK_NAMES("x", "f32", "bf16"),
    [RESIDUAL] = CK_NAMES("residual", "f32", "bf16", "none f32", "none bf16"),
    [OUT] = CK_NAMES("residual_out", "none", "apart", "in place"),
    [WEIGHT] = CK_NAMES("weight", "none", "f32", "bf16"),
    [EPS] = CK_NAMES("eps", "1e-5", "0", "0.5", "1e30"),
    [LAYOUT] = CK_NAMES("layout", "k", "mn"),
    [BLOCK_K] = CK_INTS("block_k", 0, 0, 5, 32, 8200, INT64_MAX),
    [UB] = CK_NAMES("ub", "none", "no", "0.25", "0", "nan"),
    [PAD] = CK_INTS("pad", 0, 0, 5),
    [XKIND] = CK_NAMES("input", "uniform", "near max", "subnormal", "all codes", "nan inf", "outlier row", "zero",
                       "constant", "largest", "smallest"),
    [RKIND] = CK_KINDS("residual is"),
    [WKIND] = CK_KINDS("weight is"),
};

static void store(void *p, int32_t dtype, int64_t at, float v)
{
    if (dtype == OCT_F32) ((float *)p)[at] = v != v ? NAN : v;
    else ((uint16_t *)p)[at] = oct_bf16_from_f32(v);
}

static void run(ck_case *c)
{
    static const float ubs[] = { 0, 0, 0.25f, 0, NAN }, epses[] = { 1e-5f, 0, 0.5f, 1e30f };
    const int64_t k = ck_pick(c, K), most = (1 << 22) / (k ? k : 1), m = ck_pick(c, M) < most ? ck_pick(c, M) : most, pad = ck_pick(c, PAD);
    oct_norm_quant_args a = { .size = sizeof a, .scale_layout = (int32_t)ck_pick(c, LAYOUT), .m = m, .k = k, .block_k = ck_pick(c, BLOCK_K),
                              .x_dtype = ck_pick(c, X) ? OCT_BF16 : OCT_F32, .residual_dtype = ck_pick(c, RESIDUAL) % 2 ? OCT_BF16 : OCT_F32,
                              .weight_dtype = ck_pick(c, WEIGHT) == 2 ? OCT_BF16 : OCT_F32, .ldx = k + pad, .ldy = k + 3 * pad,
                              .ld_residual = k + 2 * pad, .ld_residual_out = k + (ck_pick(c, OUT) == 2 ? 2 : 1) * pad,
                              .eps = ck_pick(c, XKIND) == CK_KIND_COUNT + 1 ? 0 : epses[ck_pick(c, EPS)] }; /* any other hides what is smallest */
    int64_t r, s;
    ck_row_mode(ck_pick(c, Y), &a.scaling, &a.rule, &a.y_dtype);
    ck_row_scales(a.scaling, a.scale_layout, m, k, a.block_k, pad, &r, &s, &a.ld_scale);
    const int64_t x_size = oct_dtype_bits(a.x_dtype) / 8, r_size = oct_dtype_bits(a.residual_dtype) / 8;
    void *x = ck_input(c, m, k, a.ldx, x_size);
    ck_fill(c, x, a.x_dtype, m, k, a.ldx, (int)(ck_pick(c, XKIND) % CK_KIND_COUNT));
    for (int64_t i = 0; i < m && ck_pick(c, XKIND) >= CK_KIND_COUNT; i++)
        for (int64_t j = 0; j < k; j++) { /* squares out of f32's range; 1 / root mean square, too, when eps is 0 */
            const float v =
                ck_pick(c, XKIND) == CK_KIND_COUNT ? ck_uniform(c, 3.3e38f, 3.4e38f) : ck_uniform(c, 0, 0x1p-131f);
            store(x, a.x_dtype, i * a.ldx + j, ck_rnd(c) & 1 ? v : -v);
        }
    a.x = x;
    /* h, before residual may be overwritten */
    double *v = malloc((size_t)(3 * m * k + 1) * sizeof *v), *bound = v + m * k, *h = bound + m * k;
    void *want = ck_output(c, m, k, a.ld_residual_out, r_size);
    const int has_residual = ck_pick(c, RESIDUAL) < 2, in_place = has_residual && ck_pick(c, OUT) == 2;
    if (has_residual) {
        void *res = in_place ? ck_output(c, m, k, a.ld_residual, r_size) : ck_input(c, m, k, a.ld_residual, r_size);
        ck_fill(c, res, a.residual_dtype, m, k, a.ld_residual, (int)ck_pick(c, RKIND));
        a.residual = res;
        a.residual_out = in_place ? res : 0;
    }
    if (!in_place && ck_pick(c, OUT)) a.residual_out = ck_output(c, m, k, a.ld_residual_out, r_size);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < k; j++) {
            float sum = (float)ck_value(x, a.x_dtype, i * a.ldx + j);
            if (a.residual) sum += (float)ck_value(a.residual, a.residual_dtype, i * a.ld_residual + j);
            store(want, a.residual_dtype, i * a.ld_residual_out + j, sum);
            h[i * k + j] = a.residual_out ? ck_value(want, a.residual_dtype, i * a.ld_residual_out + j) : (double)sum;
        }
    if (ck_pick(c, WEIGHT)) {
        void *w = ck_input(c, 1, k, k, oct_dtype_bits(a.weight_dtype) / 8);
        ck_fill(c, w, a.weight_dtype, 1, k, k, (int)ck_pick(c, WKIND));
        a.weight = w;
    }
    a.y = ck_output(c, m, k, a.ldy, oct_dtype_bits(a.y_dtype) / 8);
    a.scale = s ? ck_output(c, r, s, a.ld_scale ? a.ld_scale : s, 4) : 0;
    if (ck_pick(c, UB) >= 2) {
        float *ub = ck_input(c, 1, 1, 1, 4);
        *ub = ubs[ck_pick(c, UB)];
        a.scale_ub = ub;
    }
    if (!ck_fits(c, &a) || !ck_run(c, ck_row(c), &a)) {
        free(v);
        return;
    }
    for (int64_t i = 0; i < m; i++) {
        double sum = 0;
        for (int64_t j = 0; j < k; j++) sum += h[i * k + j] * h[i * k + j];
        const double root = 1 / sqrt(sum / (double)k + (double)a.eps);
        for (int64_t j = 0; j < k; j++) {
            const double w = a.weight ? ck_value(a.weight, a.weight_dtype, j) : 1;
            double y = h[i * k + j] * root * w;
            if (fabs(y) > 0x1.ffffffp127) y = copysign(INFINITY, y);
            v[i * k + j] = y;
            bound[i * k + j] = isinf(y) || y != y ? 0 : 4 * 0x1p-24 * fabs(y) + 0x1p-126 * fmax(1, fabs(w));
            if (isinf(w) && fabs(h[i * k + j] * root) < 0x1p-120) bound[i * k + j] = NAN; /* 0 or not, times infinity */
        }
    }
    const ck_rows w = CK_ROWS(a, v, bound);
    ck_rows_within(c, &w);
    if (s) ck_padding(c, "scale", a.scale, r, s, a.ld_scale ? a.ld_scale : s, 4);
    if (a.residual_out) ck_same(c, "residual_out", a.residual_out, want, m, k, a.ld_residual_out, r_size);
    free(v);
}

static void bench_one(ck_bench *b, const char *shape, int32_t scaling, int64_t m, int64_t k)
{
    const int32_t y_dtype = scaling ? OCT_F8E4M3FN : OCT_BF16;
    const double bytes = (scaling ? 7.0 : 8.0) * (double)(m * k);
    const int n = ck_bench_sets(b, bytes);
    oct_norm_quant_args a[CK_BENCH_SETS];
    void *args[CK_BENCH_SETS], *weight = ck_bench_mem(b, k * 2);
    ck_bench_fill(b, weight, OCT_BF16, k, 1);
    for (int i = 0; i < n; i++) {
        void *x = ck_bench_mem(b, m * k * 2), *residual = ck_bench_mem(b, m * k * 2);
        ck_bench_fill(b, x, OCT_BF16, m * k, 1);
        ck_bench_fill(b, residual, OCT_BF16, m * k, 0.01f);
        a[i] = (oct_norm_quant_args){ .size = sizeof *a, .scaling = scaling, .m = m, .k = k, .x = x, .x_dtype = OCT_BF16, .residual = residual,
                                      .residual_dtype = OCT_BF16, .residual_out = residual, .weight = weight, .weight_dtype = OCT_BF16,
                                      .eps = 1e-5f, .y = ck_bench_mem(b, m * k * 2), .y_dtype = y_dtype, .scale = ck_bench_mem(b, m * k / 16 + 64) };
        args[i] = &a[i];
    }
    ck_time(b, shape, bytes, 0, n, args);
    ck_bench_drop(b);
}
static void bench(ck_bench *b)
{
    if (ck_bench_gpu(b)) {
        bench_one(b, "residual, row 8192x8192 bf16", OCT_SCALE_ROW, 8192, 8192);
        bench_one(b, "residual, group 8192x8192 bf16", OCT_SCALE_GROUP, 8192, 8192);
        bench_one(b, "residual, none 8192x8192 bf16", OCT_SCALE_NONE, 8192, 8192);
        bench_one(b, "residual, row 16x8192 bf16", OCT_SCALE_ROW, 16, 8192);
        return;
    }
    bench_one(b, "residual, row 1024x4096 bf16", OCT_SCALE_ROW, 1024, 4096);
    bench_one(b, "residual, none 1024x4096 bf16", OCT_SCALE_NONE, 1024, 4096);
    bench_one(b, "residual, row 1x576 bf16", OCT_SCALE_ROW, 1, 576);
}

const ck_op ck_norm_quant = { &oct_op_norm_quant, axes, sizeof axes / sizeof *axes, run, bench, "f16, f8e4m3fnuz" };
