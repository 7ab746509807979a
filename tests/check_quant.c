/* check_quant.c - EXACT: every byte of codes and scales equals the reference's. */
#include "check.h"
#include "core/num/bf16.h"
#include "core/num/scale.h"
#include <string.h>

enum { M, K, SCALING, LAYOUT, BLOCK_M, BLOCK_K, MODE, UB, PAD, KIND, SCALE_KIND, VALID };
static const ck_axis axes[] = {
    [M] = CK_INTS("m", 1, 1, 2, 3, 0, 130, 1200),
    [K] = CK_INTS("k", 2, 1, 7, 31, 32, 33, 0, 160, 576, 4096, 131080),
    [SCALING] = CK_NAMES("scaling", "tensor", "row", "group", "block", "col"),
    [LAYOUT] = CK_NAMES("layout", "k", "mn"),
    [BLOCK_M] = CK_INTS("block_m", 0, 0, 1, 3, INT64_MAX),
    [BLOCK_K] = CK_INTS("block_k", 0, 0, 5, 32, INT64_MAX),
    [MODE] = CK_NAMES("mode", "f32 min", "f32 eps", "f32 given", "bf16 min", "bf16 eps", "bf16 given",
                      "f16 min", "f16 eps", "f16 given"), /* one axis: all meet all inputs */
    [UB] = CK_NAMES("ub", "none", "no", "without", "0.75", "1e30", "0", "-1", "inf", "nan", "448.00003"),
    [PAD] = CK_INTS("pad", 0, 0, 5),
    [KIND] = CK_NAMES("input", "uniform", "near max", "subnormal", "all codes", "nan inf", "outlier row", "zero",
                      "constant", "middles", "middles, any scale", "middles, large scale", "middles, hard scale",
                      "random bits", "largest", "one nan", "all nan"),
    [VALID] = CK_NAMES("valid m", "null", "null", "one group", "groups of 3", "groups of 50"),
    [SCALE_KIND] = CK_NAMES("scales", "uniform", "near max", "subnormal", "codes", "nan inf"),
};
enum { MIDDLES = CK_KIND_COUNT, ANY_SCALE, LARGE_SCALE, HARD_SCALE, RANDOM_BITS, LARGEST, ONE_NAN, ALL_NAN };

/* The scale that the kinds of middles are made for. */
static float scale_of_kind(ck_case *c, int kind)
{
    const float any = oct_f32_from_bits(0x3f800000 | (uint32_t)(ck_rnd(c) >> 41));
    switch (kind) {
    case ANY_SCALE: return any * (float)(1 << ck_rnd(c) % 16) * 0x1p-8f;
    case LARGE_SCALE: return any * (float)(1 << ck_rnd(c) % 4) * 0x1p115f; /* 448 times it is just finite */
    case HARD_SCALE: /* its last 20 bits next to 0: see easy_divisor; the first is known to go wrong without care */
        if (ck_rnd(c) & 1) return 0x1.fffffep-1f;
        return oct_f32_from_bits(0x3f800000 + (uint32_t)(ck_rnd(c) % 8) * 0x100000 + (uint32_t)(ck_rnd(c) % 24) - 12);
    default: return 1;
    }
}

/* What the shared kinds lack. */
static float special(ck_case *c, int kind, int64_t i, int64_t j, float s)
{
    switch (kind) {
    case MIDDLES:
    case ANY_SCALE:
    case LARGE_SCALE:
    case HARD_SCALE: { /* quotients at and next to the middles between codes; an amax in every block of 5 */
        const int code = (int)(ck_rnd(c) % (ck_rnd(c) & 1 ? 8 : 126));
        const float mid = (oct_f8e4m3fn_to_f32((uint8_t)code) + oct_f8e4m3fn_to_f32((uint8_t)(code + 1))) / 2;
        const float x = oct_f32_from_bits(oct_f32_bits(mid * s) + (uint32_t)(ck_rnd(c) % 5) - 2);
        return j % 5 == 0 ? 448 * s : ck_rnd(c) & 1 ? x : -x;
    }
    case RANDOM_BITS: return oct_f32_from_bits((uint32_t)ck_rnd(c));
    case LARGEST:
        return oct_f32_from_bits(0x7f7fffff - (uint32_t)(ck_rnd(c) % 3) * 0x10000) * (ck_rnd(c) & 1 ? 1.0f : -1.0f);
    case ONE_NAN: return i == 0 && j == 11 ? -NAN : ck_uniform(c, -3, 3);
    default: return oct_f32_from_bits(0x7f800001 + ((uint32_t)ck_rnd(c) & 0x807ffffe)); /* any NaN, signaling too */
    }
}

static void fill(ck_case *c, void *x, int32_t dtype, int64_t m, int64_t k, int64_t ld, int kind)
{
    if (kind < CK_KIND_COUNT) {
        ck_fill(c, x, dtype, m, k, ld, kind);
        return;
    }
    const float s = scale_of_kind(c, kind);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < k; j++) {
            const float v = special(c, kind, i, j, s);
            if (dtype == OCT_F32) memcpy((char *)x + (i * ld + j) * 4, &v, 4); /* a signaling NaN stays one */
            else {
                const uint16_t bits = (uint16_t)(oct_f32_bits(v) >> 16);
                uint16_t h = v != v ? bits | 1 : oct_bf16_from_f32(v);
                if (dtype == OCT_F16) h = kind == RANDOM_BITS ? bits : v != v ? bits | 0x7c01 : oct_f16_from_f32(v);
                memcpy((char *)x + (i * ld + j) * 2, &h, 2);
            }
        }
}

/* What valid_m means, by calls without it: the same on a matrix whose other rows are zeros. */
static void check_valid(ck_case *c, const oct_quant_args *a, int64_t r, int64_t s, int64_t ld, int64_t elem)
{
    oct_quant_args plain = *a;
    const int64_t each = a->group_m ? a->group_m : a->m;
    char *x = ck_output(c, a->m, a->k, a->ldx, elem);
    plain.valid_m = 0;
    plain.x = x;
    plain.scale = ck_output(c, r, s, ld, 4);
    plain.y = ck_output(c, a->m, a->k, a->ldy, 1);
    for (int64_t i = 0; i < a->m; i++) {
        const int count = i % each < a->valid_m[i / each];
        for (int64_t j = 0; j < a->k * elem; j++) x[i * a->ldx * elem + j] = 0;
        if (count) memcpy(x + i * a->ldx * elem, (const char *)a->x + i * a->ldx * elem, (size_t)(a->k * elem));
    }
    if (!ck_run(c, ck_ref(c), &plain)) return;
    ck_same(c, "scale, without the rows that do not count,", a->scale, plain.scale, r, s, ld, 4);
    if (a->scaling != OCT_SCALE_TENSOR) ck_same(c, "y, without the rows that do not count,", a->y, plain.y, a->m, a->k, a->ldy, 1);
    else
        for (int64_t i = 0; i < a->m; i++)
            if (i % each < a->valid_m[i / each])
                ck_same(c, "y of a row that counts", (char *)a->y + i * a->ldy, (char *)plain.y + i * a->ldy, 1, a->k, a->k, 1);
}

/* One call on [m, k]; everything else is the case's. */
static void call(ck_case *c, const char *what, int64_t m, int64_t k, int32_t scaling, int64_t block_k, int with_ub)
{
    static const float ubs[] = { 0, 0, 0, 0.75f, 1e30f, 0, -1, INFINITY, NAN, 448.00003f };
    const int32_t dtype = (int32_t[]){ OCT_F32, OCT_BF16, OCT_F16 }[ck_pick(c, MODE) / 3];
    const int64_t pad = ck_pick(c, PAD), elem = dtype == OCT_F32 ? 4 : 2;
    const int given = ck_pick(c, MODE) % 3 == 2, blocks = scaling == OCT_SCALE_GROUP || scaling == OCT_SCALE_BLOCK;
    oct_quant_args a = { .size = sizeof a,
                         .scaling = scaling,
                         .rule = ck_pick(c, MODE) % 3 == 1,
                         .scale_layout = (int32_t)ck_pick(c, LAYOUT),
                         .flags = given ? OCT_QUANT_SCALE_GIVEN : 0,
                         .m = m,
                         .k = k,
                         .block_m = ck_pick(c, BLOCK_M),
                         .block_k = block_k,
                         .x_dtype = dtype,
                         .y_dtype = OCT_F8E4M3FN,
                         .ldx = k + pad,
                         .ldy = k + 2 * pad };
    const int64_t bm = a.block_m ? a.block_m : 128, bk = a.block_k ? a.block_k : 128;
    int64_t r = 1, s = scaling == OCT_SCALE_TENSOR ? 1 : scaling == OCT_SCALE_COL ? k : m;
    if (blocks) {
        r = scaling == OCT_SCALE_BLOCK ? m / bm + (m % bm != 0) : m;
        s = k / bk + (k % bk != 0);
        if (a.scale_layout == OCT_MN_MAJOR) {
            const int64_t t = r;
            r = s;
            s = t;
        }
        a.ld_scale = s + pad;
    }
    void *x = ck_input(c, m, k, a.ldx, elem);
    fill(c, x, a.x_dtype, m, k, a.ldx, (int)ck_pick(c, KIND));
    a.x = x;
    if (!given && with_ub && ck_pick(c, UB) >= 3) {
        float *ub = ck_input(c, 1, 1, 1, 4);
        *ub = ubs[ck_pick(c, UB)];
        a.scale_ub = ub;
    }
    static const int64_t group_sizes[] = { 0, 0, 0, 3, 50 };
    if (!given && m && ck_pick(c, VALID) >= 2) {
        a.group_m = group_sizes[ck_pick(c, VALID)];
        const int64_t each = a.group_m ? a.group_m : m, n = m / each + (m % each != 0);
        int64_t *valid = ck_input(c, 1, n, n, 8);
        for (int64_t g = 0; g < n; g++) valid[g] = (int64_t)(ck_rnd(c) >> 1) % (each + 4) - 2;
        a.valid_m = valid;
    }
    oct_quant_args want = a;
    const int64_t ld = blocks ? a.ld_scale : s;
    if (given) {
        a.scale = want.scale = ck_input(c, r, s, ld, 4);
        ck_fill(c, a.scale, OCT_F32, r, s, ld, (int)ck_pick(c, SCALE_KIND));
    } else {
        a.scale = ck_output(c, r, s, ld, 4);
        want.scale = ck_output(c, r, s, ld, 4);
    }
    a.y = ck_output(c, m, k, a.ldy, 1);
    want.y = ck_output(c, m, k, a.ldy, 1);
    if (!ck_fits(c, &a) || !ck_run(c, ck_ref(c), &want) || !ck_run(c, ck_row(c), &a)) return;
    ck_same(c, what, a.y, want.y, m, k, a.ldy, 1);
    if (!given) ck_same(c, "scale", a.scale, want.scale, r, s, ld, 4);
    if (a.valid_m) check_valid(c, &a, r, s, ld, elem);
    if (!m || !k) ck_compared(c, 1); /* that it ran and touched nothing */
}

static void run(ck_case *c)
{
    const int32_t scaling = (int32_t)ck_pick(c, SCALING) + OCT_SCALE_TENSOR;
    const int64_t k = ck_pick(c, K), most = (1 << 24) / (k ? k : 1), m = ck_pick(c, M) < most ? ck_pick(c, M) : most;
    call(c, "y", m, k, scaling, ck_pick(c, BLOCK_K), 1);
    /* Long rows with every kind in every mode, and several tasks with every scaling: more than pairs would give. */
    call(c, "y of 3 x 1061 by row", 3, 1061, OCT_SCALE_ROW, 0, 0);
    if (ck_pick(c, KIND) == CK_UNIFORM || ck_pick(c, KIND) == CK_OUTLIER || ck_pick(c, KIND) == ONE_NAN)
        call(c, "y of 130 x 1061", 130, 1061, scaling, ck_pick(c, BLOCK_K) == 5 ? 5 : 32, 1);
    if (ck_pick(c, KIND) == ONE_NAN) call(c, "y of 130 x 1061 with one scale", 130, 1061, OCT_SCALE_TENSOR, 0, 0);
}

static void bench_one(ck_bench *b, const char *shape, int32_t scaling, int32_t rule, int32_t x_dtype, int64_t m, int64_t k)
{
    const int64_t elem = x_dtype == OCT_F32 ? 4 : 2;
    const double bytes = (double)(elem + 1) * (double)(m * k);
    const int n = ck_bench_sets(b, bytes);
    oct_quant_args a[CK_BENCH_SETS];
    void *args[CK_BENCH_SETS];
    for (int i = 0; i < n; i++) {
        void *x = ck_bench_mem(b, m * k * elem);
        ck_bench_fill(b, x, x_dtype, m * k, 3);
        a[i] = (oct_quant_args){ .size = sizeof *a, .scaling = scaling, .rule = rule, .m = m, .k = k, .x = x, .x_dtype = x_dtype,
                                 .scale_layout = scaling == OCT_SCALE_GROUP && ck_bench_gpu(b) ? OCT_MN_MAJOR : OCT_K_MAJOR,
                                 .y = ck_bench_mem(b, m * k), .y_dtype = OCT_F8E4M3FN, .scale = ck_bench_mem(b, m * k / 8 + 4 * (m + k)) };
        args[i] = &a[i];
    }
    ck_time(b, shape, bytes, 0, n, args);
    ck_bench_drop(b);
}

static void bench(ck_bench *b)
{
    if (ck_bench_gpu(b)) {
        bench_one(b, "row 8192x8192 bf16", OCT_SCALE_ROW, OCT_RULE_EPS, OCT_BF16, 8192, 8192);
        bench_one(b, "row 8192x8192 bf16, rule min", OCT_SCALE_ROW, OCT_RULE_MIN, OCT_BF16, 8192, 8192);
        bench_one(b, "row 16384x16384 bf16", OCT_SCALE_ROW, OCT_RULE_EPS, OCT_BF16, 16384, 16384);
        bench_one(b, "row 2048x53248 bf16", OCT_SCALE_ROW, OCT_RULE_EPS, OCT_BF16, 2048, 53248);
        bench_one(b, "row 16x8192 bf16", OCT_SCALE_ROW, OCT_RULE_EPS, OCT_BF16, 16, 8192);
        bench_one(b, "row 8192x8192 f16", OCT_SCALE_ROW, OCT_RULE_EPS, OCT_F16, 8192, 8192);
        bench_one(b, "row 8192x8192 f32", OCT_SCALE_ROW, OCT_RULE_EPS, OCT_F32, 8192, 8192);
        bench_one(b, "group 8192x8192 bf16, mn", OCT_SCALE_GROUP, OCT_RULE_EPS, OCT_BF16, 8192, 8192);
        bench_one(b, "block 8192x8192 bf16", OCT_SCALE_BLOCK, OCT_RULE_EPS, OCT_BF16, 8192, 8192);
        bench_one(b, "tensor 8192x8192 bf16", OCT_SCALE_TENSOR, OCT_RULE_EPS, OCT_BF16, 8192, 8192);
        bench_one(b, "col 8192x8192 bf16", OCT_SCALE_COL, OCT_RULE_EPS, OCT_BF16, 8192, 8192);
        bench_one(b, "tensor 16x8192 bf16", OCT_SCALE_TENSOR, OCT_RULE_EPS, OCT_BF16, 16, 8192);
        return;
    }
    bench_one(b, "row 2048x4096 bf16", OCT_SCALE_ROW, OCT_RULE_MIN, OCT_BF16, 2048, 4096);
    bench_one(b, "row 2048x4096 f32", OCT_SCALE_ROW, OCT_RULE_MIN, OCT_F32, 2048, 4096);
    bench_one(b, "group 2048x4096 bf16", OCT_SCALE_GROUP, OCT_RULE_MIN, OCT_BF16, 2048, 4096);
    bench_one(b, "block 2048x4096 bf16", OCT_SCALE_BLOCK, OCT_RULE_MIN, OCT_BF16, 2048, 4096);
    bench_one(b, "tensor 2048x4096 bf16", OCT_SCALE_TENSOR, OCT_RULE_MIN, OCT_BF16, 2048, 4096);
    bench_one(b, "col 2048x4096 bf16", OCT_SCALE_COL, OCT_RULE_MIN, OCT_BF16, 2048, 4096);
    bench_one(b, "row 1x4096 bf16", OCT_SCALE_ROW, OCT_RULE_MIN, OCT_BF16, 1, 4096);
}

const ck_op ck_quant = {
    &oct_op_quant, axes,  sizeof axes / sizeof *axes,
    run,           bench, "f8e4m3fnuz and f8e5m2, stochastic rounding"
};
