/* check_silu_mul_quant.c - STEP: every value against the formula of octavo.h, computed here in double. */
#include "check_rows.h"
#include "core/core.h"
#include "core/num/bf16.h"

enum { M, K, Y, X, LAYOUT, BLOCK_K, UB, PAD, GATE, UP };
static const ck_axis axes[] = {
    [M] = CK_INTS("m", 0, 1, 2, 0, 65, 300),
    [K] = CK_INTS("k", 2, 1, 7, 8, 9, 33, 0, 130, 576, 8193, 14336, 33000),
    [Y] = CK_ROW_MODES,
    [X] = CK_NAMES("x", "f32", "bf16"),
    [LAYOUT] = CK_NAMES("layout", "k", "mn"),
    [BLOCK_K] = CK_INTS("block_k", 0, 0, 5, 32, 8200, INT64_MAX),
    [UB] = CK_NAMES("ub", "none", "no", "0.25", "0", "nan"),
    [PAD] = CK_INTS("pad", 0, 0, 5),
    [GATE] = CK_NAMES("gate", "uniform", "near max", "subnormal", "all codes", "nan inf", "outlier row", "zero",
                      "constant", "-110 to 100"),
    [UP] = CK_KINDS("up"),
};

static void run(ck_case *c)
{
    static const float ubs[] = { 0, 0, 0.25f, 0, NAN };
    const int64_t k = ck_pick(c, K), m = oct_min(ck_pick(c, M), k > 1000 ? 65 : 300), pad = ck_pick(c, PAD), elem = ck_pick(c, X) ? 2 : 4;
    oct_silu_mul_quant_args a = { .size = sizeof a,
                                  .scale_layout = (int32_t)ck_pick(c, LAYOUT),
                                  .m = m,
                                  .k = k,
                                  .block_k = ck_pick(c, BLOCK_K),
                                  .ld_gate = k + pad,
                                  .ld_up = k + 2 * pad,
                                  .x_dtype = elem == 2 ? OCT_BF16 : OCT_F32,
                                  .ldy = k + 3 * pad };
    int64_t r, s;
    ck_row_mode(ck_pick(c, Y), &a.scaling, &a.rule, &a.y_dtype);
    ck_row_scales(a.scaling, a.scale_layout, m, k, a.block_k, pad, &r, &s, &a.ld_scale);
    void *gate = ck_input(c, m, k, a.ld_gate, elem), *up = ck_input(c, m, k, a.ld_up, elem);
    ck_fill(c, gate, a.x_dtype, m, k, a.ld_gate, (int)(ck_pick(c, GATE) % CK_KIND_COUNT));
    if (ck_pick(c, GATE) == CK_KIND_COUNT) /* where exp over- and underflows, and between */
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < k; j++) {
                const float g = ck_uniform(c, -110, 100);
                if (elem == 4) ((float *)gate)[i * a.ld_gate + j] = g;
                else ((uint16_t *)gate)[i * a.ld_gate + j] = oct_bf16_from_f32(g);
            }
    ck_fill(c, up, a.x_dtype, m, k, a.ld_up, (int)ck_pick(c, UP));
    a.gate = gate;
    a.up = up;
    a.y = ck_output(c, m, k, a.ldy, oct_dtype_bits(a.y_dtype) / 8);
    a.scale = s ? ck_output(c, r, s, a.ld_scale ? a.ld_scale : s, 4) : 0;
    if (ck_pick(c, UB) >= 2) {
        float *ub = ck_input(c, 1, 1, 1, 4);
        *ub = ubs[ck_pick(c, UB)];
        a.scale_ub = ub;
    }
    if (!ck_fits(c, &a) || !ck_run(c, ck_row(c), &a)) return;
    double *v = malloc((size_t)(2 * m * k + 1) * sizeof *v), *bound = v + m * k;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < k; j++) {
            const double g = ck_value(gate, a.x_dtype, i * a.ld_gate + j), w = ck_value(up, a.x_dtype, i * a.ld_up + j);
            double x = (g == -INFINITY ? -0.0 : g / (1 + exp(-g))) * w;
            if (fabs(x) > 0x1.ffffffp127) x = copysign(INFINITY, x);
            v[i * k + j] = x;
            bound[i * k + j] = isinf(x) || x != x ? 0 : 16 * 0x1p-24 * fabs(x) + 0x1p-126 * fabs(w) + 0x1p-150;
            /* near the largest float either side will do; gate's factor may underflow before it meets an infinity */
            if ((fabs(x) > 0x1.ffff00p127 && fabs(x) < 0x1.0001p128) || (isinf(w) && g < -87)) bound[i * k + j] = NAN;
        }
    const ck_rows w = CK_ROWS(a, v, bound);
    ck_rows_within(c, &w);
    if (s) ck_padding(c, "scale", a.scale, r, s, a.ld_scale ? a.ld_scale : s, 4);
    free(v);
}

static void bench_one(ck_bench *b, const char *shape, int32_t scaling, int64_t m, int64_t k)
{
    const int32_t y_dtype = scaling ? OCT_F8E4M3FN : OCT_BF16;
    const double bytes = (scaling ? 5.0 : 6.0) * (double)(m * k);
    const int n = ck_bench_sets(b, bytes);
    oct_silu_mul_quant_args a[CK_BENCH_SETS];
    void *args[CK_BENCH_SETS];
    for (int i = 0; i < n; i++) {
        void *gate = ck_bench_mem(b, m * k * 2), *up = ck_bench_mem(b, m * k * 2);
        ck_bench_fill(b, gate, OCT_BF16, m * k, 3);
        ck_bench_fill(b, up, OCT_BF16, m * k, 1);
        a[i] = (oct_silu_mul_quant_args){ .size = sizeof *a, .scaling = scaling, .m = m, .k = k, .gate = gate, .up = up, .x_dtype = OCT_BF16,
                                          .y = ck_bench_mem(b, m * k * 2), .y_dtype = y_dtype, .scale = ck_bench_mem(b, m * k / 16 + 64) };
        args[i] = &a[i];
    }
    ck_time(b, shape, bytes, 0, n, args);
    ck_bench_drop(b);
}
static void bench(ck_bench *b)
{
    if (ck_bench_gpu(b)) {
        bench_one(b, "row 16384x8192 bf16", OCT_SCALE_ROW, 16384, 8192);
        bench_one(b, "group 16384x8192 bf16", OCT_SCALE_GROUP, 16384, 8192);
        bench_one(b, "row 16x28672 bf16", OCT_SCALE_ROW, 16, 28672);
        return;
    }
    bench_one(b, "row 512x8192 bf16", OCT_SCALE_ROW, 512, 8192);
    bench_one(b, "none 512x8192 bf16", OCT_SCALE_NONE, 512, 8192);
    bench_one(b, "row 1x1536 bf16", OCT_SCALE_ROW, 1, 1536);
}

const ck_op ck_silu_mul_quant = { &oct_op_silu_mul_quant, axes, sizeof axes / sizeof *axes, run, bench,
                                  "f16, f8e4m3fnuz" };
