/* check_dequant.c - EXACT: every byte equals the reference's. */
#include "check.h"

enum { M, K, SCALING, LAYOUT, BLOCK_M, BLOCK_K, Y, PAD, KIND, SCALE_KIND };
static const ck_axis axes[] = {
    [M] = CK_INTS("m", 0, 1, 2, 7, 9, 600, 0),
    [K] = CK_INTS("k", 1, 1, 7, 8, 9, 0, 129, 256, 520, 4096),
    [SCALING] = CK_NAMES("scaling", "none", "tensor", "row", "group", "block", "col"),
    [LAYOUT] = CK_NAMES("layout", "k", "mn"),
    [BLOCK_M] = CK_INTS("block_m", 0, 0, 1, 3),
    [BLOCK_K] = CK_INTS("block_k", 0, 0, 5, 8),
    [Y] = CK_NAMES("y", "f32", "bf16", "f16"),
    [PAD] = CK_INTS("pad", 0, 0, 3),
    [KIND] = CK_KINDS("x"),
    [SCALE_KIND] = CK_KINDS("scale"),
};

static void run(ck_case *c)
{
    const int64_t m = ck_pick(c, M), k = ck_pick(c, K), ld = k + ck_pick(c, PAD), ldy = ld + ck_pick(c, PAD);
    const int64_t bm = ck_pick(c, BLOCK_M) ? ck_pick(c, BLOCK_M) : 128,
                  bk = ck_pick(c, BLOCK_K) ? ck_pick(c, BLOCK_K) : 128;
    const int32_t y_dtype = (int32_t[]){ OCT_F32, OCT_BF16, OCT_F16 }[ck_pick(c, Y)], elem = y_dtype == OCT_F32 ? 4 : 2;
    const int32_t scaling = (int32_t)ck_pick(c, SCALING);
    oct_dequant_args a = { .size = sizeof a,
                           .scaling = scaling,
                           .scale_layout = (int32_t)ck_pick(c, LAYOUT),
                           .m = m,
                           .k = k,
                           .block_m = ck_pick(c, BLOCK_M),
                           .block_k = ck_pick(c, BLOCK_K),
                           .x_dtype = OCT_F8E4M3FN,
                           .y_dtype = y_dtype,
                           .ldx = ld,
                           .ldy = ldy };
    int64_t r = m, s = 1;
    if (scaling == OCT_SCALE_TENSOR) r = 1;
    if (scaling == OCT_SCALE_COL) r = k;
    if (scaling == OCT_SCALE_GROUP || scaling == OCT_SCALE_BLOCK) {
        r = scaling == OCT_SCALE_BLOCK ? (m + bm - 1) / bm : m;
        s = (k + bk - 1) / bk;
        if (a.scale_layout == OCT_MN_MAJOR) {
            const int64_t t = r;
            r = s;
            s = t;
        }
    }
    if (scaling == OCT_SCALE_GROUP || scaling == OCT_SCALE_BLOCK) a.ld_scale = s + ck_pick(c, PAD);
    else {
        s = r;
        r = 1;
    }
    void *x = ck_input(c, m, k, ld, 1);
    float *scale = ck_input(c, r, s, a.ld_scale, 4);
    ck_fill(c, x, OCT_F8E4M3FN, m, k, ld, (int)ck_pick(c, KIND));
    ck_fill(c, scale, OCT_F32, r, s, a.ld_scale, (int)ck_pick(c, SCALE_KIND));
    a.x = x;
    a.scale = scaling ? scale : 0;
    oct_dequant_args want = a;
    a.y = ck_output(c, m, k, ldy, elem);
    want.y = ck_output(c, m, k, ldy, elem);
    if (!ck_fits(c, &a) || !ck_run(c, ck_ref(c), &want) || !ck_run(c, ck_row(c), &a)) return;
    ck_same(c, "y", a.y, want.y, m, k, ldy, elem);
    if (!m || !k) ck_compared(c, 1); /* that it ran and touched nothing */
}

static void bench_one(ck_bench *b, const char *shape, int64_t m, int64_t k)
{
    const int n = ck_bench_sets(b, 3.0 * (double)(m * k));
    oct_dequant_args a[CK_BENCH_SETS];
    void *args[CK_BENCH_SETS];
    for (int i = 0; i < n; i++) {
        void *x = ck_bench_mem(b, m * k);
        float *s = ck_bench_mem(b, m * 4);
        ck_bench_fill(b, x, OCT_F8E4M3FN, m * k, 1);
        ck_bench_fill(b, s, OCT_F32, m, 1);
        a[i] = (oct_dequant_args){ .size = sizeof *a,
                                   .scaling = OCT_SCALE_ROW,
                                   .m = m,
                                   .k = k,
                                   .x = x,
                                   .x_dtype = OCT_F8E4M3FN,
                                   .y = ck_bench_mem(b, m * k * 2),
                                   .y_dtype = OCT_BF16,
                                   .scale = s };
        args[i] = &a[i];
    }
    ck_time(b, shape, 3.0 * (double)(m * k), 0, n, args);
    ck_bench_drop(b);
}

static void bench(ck_bench *b)
{
    if (ck_bench_gpu(b)) bench_one(b, "row 8192x8192 to bf16", 8192, 8192);
    else bench_one(b, "row 2048x4096 to bf16", 2048, 4096);
}

const ck_op ck_dequant = {
    &oct_op_dequant, axes, sizeof axes / sizeof *axes, run, bench, "f8e4m3fnuz, f8e5m2"
};
