/* golden_quant.c - conversions, quant, dequant, norm_quant and silu_mul_quant against vectors that numpy and ml_dtypes
 * made (golden/README.md): the reference and the best row, by public calls. `golden_quant DIR` */
#include "check.h"
#include "core/num/bf16.h"
#include "core/num/f8.h"
#include "npy.h"
#include "octavo.h"

static int passed, failed;

static void verdict(const char *what, const char *detail, int ok)
{
    if (ok) passed++;
    else {
        failed++;
        printf("  FAIL %s: %s\n", what, detail);
    }
}

static int index_of(const char *name, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(name, names[i])) return i;
    printf("  FAIL unknown word %s\n", name);
    exit(2);
}

typedef struct quant_data {
    void *x[3], *dequant[3]; /* f32, bf16, f16 */
    float *scale;
    uint8_t *y;
    int64_t at_y, at_scale, at_dequant[3]; /* of the case */
} quant_data;

/* One line of quant.txt; mask is what oct_cpu_mask gets. */
static void quant_case(quant_data *d, const char *line, uint32_t mask, int last)
{
    static const char *const dtypes[] = { "f32", "bf16", "f16" }, *const layouts[] = { "k", "mn" },
                             *const rules[] = { "min", "eps", "given" };
    static const char *const scalings[] = { "none", "tensor", "row", "group", "block", "col" };
    static const int32_t types[] = { OCT_F32, OCT_BF16, OCT_F16 };
    char x_dtype[8], scaling[8], rule[8], layout[8];
    long long x_offset, m, k, block_m, block_k;
    float ub;
    if (sscanf(line, "%7s %lld %7s %7s %7s %lld %lld %lld %lld %f", x_dtype, &x_offset, scaling, rule, layout, &m, &k,
               &block_m, &block_k, &ub) != 10) {
        verdict(line, "not understood", 0);
        return;
    }
    const int type = index_of(x_dtype, dtypes, 3), bytes = type ? 2 : 4, given = !strcmp(rule, "given");
    oct_quant_args q = { .size = sizeof q,
                         .scaling = index_of(scaling, scalings, 6),
                         .rule = given ? 0 : index_of(rule, rules, 2),
                         .scale_layout = index_of(layout, layouts, 2),
                         .flags = given ? OCT_QUANT_SCALE_GIVEN : 0,
                         .m = m,
                         .k = k,
                         .block_m = block_m,
                         .block_k = block_k,
                         .x = (char *)d->x[type] + x_offset * bytes,
                         .x_dtype = types[type],
                         .y_dtype = OCT_F8E4M3FN,
                         .scale_ub = given || ub > 1e38f ? 0 : &ub };
    const int64_t bm = block_m ? block_m : 1, groups = block_k ? (k + block_k - 1) / block_k : 1;
    const int64_t scales = q.scaling == OCT_SCALE_TENSOR ? 1 : q.scaling == OCT_SCALE_COL ? k : (m + bm - 1) / bm * groups, n = m * k;
    uint8_t *y = malloc((size_t)n);
    float *scale = malloc((size_t)scales * 4);
    void *back = malloc((size_t)n * 4);
    memcpy(scale, d->scale + d->at_scale, given ? (size_t)scales * 4 : 0);
    q.y = y;
    q.scale = scale;
    oct_cpu_mask(mask);
    const int ran = oct_quant(&q) == OCT_OK;
    verdict(line, ran ? "codes differ" : oct_error_text(), ran && !memcmp(y, d->y + d->at_y, (size_t)n));
    verdict(line, "scales differ", ran && !memcmp(scale, d->scale + d->at_scale, (size_t)scales * 4));
    const oct_dequant_args u = { .size = sizeof u,
                                 .scaling = q.scaling,
                                 .scale_layout = q.scale_layout,
                                 .m = m,
                                 .k = k,
                                 .block_m = block_m,
                                 .block_k = block_k,
                                 .x = d->y + d->at_y,
                                 .x_dtype = OCT_F8E4M3FN,
                                 .y = back,
                                 .y_dtype = q.x_dtype,
                                 .scale = d->scale + d->at_scale };
    const void *want = (char *)d->dequant[type] + d->at_dequant[type] * bytes;
    const int back_ran = oct_dequant(&u) == OCT_OK;
    verdict(line, back_ran ? "values back differ" : oct_error_text(),
            back_ran && !memcmp(back, want, (size_t)(n * bytes)));
    oct_cpu_mask(~0u);
    free(y);
    free(scale);
    free(back);
    if (!last) return;
    d->at_y += n;
    d->at_scale += scales;
    d->at_dequant[type] += n;
}

static void quant(const char *dir)
{
    int64_t n;
    quant_data d = { { npy_read(dir, "quant_x_f32.npy", "<f4", 0), npy_read(dir, "quant_x_bf16.npy", "<u2", 0),
                       npy_read(dir, "quant_x_f16.npy", "<u2", 0) },
                     { npy_read(dir, "quant_dequant_f32.npy", "<f4", 0), npy_read(dir, "quant_dequant_bf16.npy", "<u2", 0),
                       npy_read(dir, "quant_dequant_f16.npy", "<u2", 0) },
                     npy_read(dir, "quant_scale.npy", "<f4", 0),
                     npy_read(dir, "quant_y.npy", "|u1", &n),
                     0,
                     0,
                     { 0 } };
    char line[256];
    FILE *f = npy_cases(dir, "quant.txt");
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '#') continue;
        quant_case(&d, line, 0, 0);
        quant_case(&d, line, ~0u, 1);
    }
    fclose(f);
    verdict("quant.txt", "does not use all of quant_y.npy", d.at_y == n);
    for (int i = 0; i < 3; i++) free(d.x[i]), free(d.dequant[i]);
    free(d.scale);
    free(d.y);
}

/* n values through oct_quant with a scale of 1. */
static void quant_by_one(const char *what, const void *x, int32_t x_dtype, const uint8_t *want, int64_t n,
                         uint32_t mask)
{
    float one = 1;
    uint8_t *y = malloc((size_t)n);
    const oct_quant_args q = { .size = sizeof q,
                               .scaling = OCT_SCALE_TENSOR,
                               .flags = OCT_QUANT_SCALE_GIVEN,
                               .m = 1,
                               .k = n,
                               .x = x,
                               .x_dtype = x_dtype,
                               .y = y,
                               .y_dtype = OCT_F8E4M3FN,
                               .scale = &one };
    oct_cpu_mask(mask);
    const int ran = oct_quant(&q) == OCT_OK;
    verdict(what, ran ? "codes differ" : oct_error_text(), ran && !memcmp(y, want, (size_t)n));
    oct_cpu_mask(~0u);
    free(y);
}

static void convert(const char *dir)
{
    int64_t n, edges, wide, wrong[3] = { 0 };
    uint8_t *f8_of_bf16 = npy_read(dir, "convert_f8_of_bf16.npy", "|u1", &n), codes[256];
    uint8_t *f8_of_f32 = npy_read(dir, "convert_f8_of_f32.npy", "|u1", &edges);
    float *f32_of_f8 = npy_read(dir, "convert_f32_of_f8.npy", "<f4", 0), values[256];
    float *f32 = npy_read(dir, "convert_f32.npy", "<f4", 0), *x = npy_read(dir, "convert_wide.npy", "<f4", &wide);
    uint16_t *bf16_of_wide = npy_read(dir, "convert_bf16_of_wide.npy", "<u2", 0);
    uint16_t *f16_of_wide = npy_read(dir, "convert_f16_of_wide.npy", "<u2", 0);
    uint16_t *every = malloc(65536 * 2);
    for (int i = 0; i < 65536; i++) every[i] = (uint16_t)i;
    for (int i = 0; i < 256; i++) codes[i] = (uint8_t)i;
    for (int row = 0; row < 2; row++) {
        const uint32_t mask = row ? ~0u : 0;
        quant_by_one("convert f8_of_bf16", every, OCT_BF16, f8_of_bf16, n, mask);
        quant_by_one("convert f8_of_f32", f32, OCT_F32, f8_of_f32, edges, mask);
        const oct_dequant_args u = {
            .size = sizeof u, .m = 1, .k = 256, .x = codes, .x_dtype = OCT_F8E4M3FN, .y = values, .y_dtype = OCT_F32
        };
        oct_cpu_mask(mask);
        verdict("convert f32_of_f8", "values differ",
                oct_dequant(&u) == OCT_OK && !memcmp(values, f32_of_f8, sizeof values));
        oct_cpu_mask(~0u);
    }
    for (int64_t i = 0; i < wide; i++) {
        wrong[0] += oct_bf16_from_f32(x[i]) != bf16_of_wide[i];
        wrong[1] += oct_f16_from_f32(x[i]) != f16_of_wide[i];
        wrong[2] += oct_f16_from_f32(oct_f16_to_f32(f16_of_wide[i])) != f16_of_wide[i];
    }
    verdict("convert bf16_of_wide", "values differ", !wrong[0]);
    verdict("convert f16_of_wide", "values differ", !wrong[1]);
    verdict("f16 to f32 and back", "values differ", !wrong[2]);
    free(f8_of_bf16);
    free(f8_of_f32);
    free(f32_of_f8);
    free(f32);
    free(x);
    free(bf16_of_wide);
    free(f16_of_wide);
    free(every);
}

/* Bits of f32 values that are exact in dtype; NULL for none. To be freed. */
static void *as_dtype(const float *x, int64_t n, int32_t dtype)
{
    void *p = malloc((size_t)n * 4 + 1);
    for (int64_t i = 0; i < n; i++)
        if (dtype == OCT_BF16) ((uint16_t *)p)[i] = oct_bf16_from_f32(x[i]);
        else ((float *)p)[i] = x[i];
    return p;
}
static int all_within(const void *y, int32_t dtype, int64_t n, const double *exact, const float *bound)
{
    int ok = 1;
    for (int64_t i = 0; i < n; i++)
        ok &= isinf(exact[i]) ? ck_value(y, dtype, i) == exact[i] : ck_within(y, dtype, i, exact[i], (double)bound[i]);
    return ok;
}

static void norm(const char *dir)
{
    static const char *const dtypes[] = { "none", "f32", "x", "bf16" }; /* by number */
    int64_t n, at = 0, at_r = 0, at_out = 0, at_w = 0;
    float *x = npy_read(dir, "norm_x.npy", "<f4", &n), *residual = npy_read(dir, "norm_residual.npy", "<f4", 0);
    float *out = npy_read(dir, "norm_residual_out.npy", "<f4", 0), *weight = npy_read(dir, "norm_weight.npy", "<f4", 0);
    float *bound = npy_read(dir, "norm_bound.npy", "<f4", 0);
    double *y = npy_read(dir, "norm_y.npy", "<f8", 0);
    char line[256];
    FILE *f = npy_cases(dir, "norm.txt");
    while (fgets(line, sizeof line, f)) {
        char xt[8], rt[8], wt[8];
        long long m, k;
        int has_out;
        float eps;
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '#') continue;
        if (sscanf(line, "%lld %lld %7s %7s %d %7s %f", &m, &k, xt, rt, &has_out, wt, &eps) != 7) {
            verdict(line, "not understood", 0);
            continue;
        }
        const int32_t xd = index_of(xt, dtypes, 4), rd = index_of(rt, dtypes, 4), wd = index_of(wt, dtypes, 4);
        void *xs = as_dtype(x + at, m * k, xd), *rs = rd ? as_dtype(residual + at_r, m * k, rd) : 0;
        void *ws = wd ? as_dtype(weight + at_w, k, wd) : 0, *outs = has_out ? as_dtype(out + at_out, m * k, rd) : 0;
        void *got = malloc((size_t)(m * k) * 4), *got_out = malloc((size_t)(m * k) * 4);
        for (int way = 0; way < 4; way++) {
            const int32_t yd = way % 2 ? OCT_BF16 : OCT_F32;
            const oct_norm_quant_args a = { .size = sizeof a,
                                            .m = m,
                                            .k = k,
                                            .x = xs,
                                            .x_dtype = xd,
                                            .residual_dtype = rd,
                                            .residual = rs,
                                            .residual_out = has_out ? got_out : 0,
                                            .weight = ws,
                                            .weight_dtype = wd,
                                            .y = got,
                                            .y_dtype = yd,
                                            .eps = eps };
            oct_cpu_mask(way / 2 ? ~0u : 0);
            const int ran = oct_norm_quant(&a) == OCT_OK;
            verdict(line, ran ? "y out of bounds" : oct_error_text(),
                    ran && all_within(got, yd, m * k, y + at, bound + at));
            if (has_out)
                verdict(line, "residual_out differs",
                        !memcmp(got_out, outs, (size_t)(m * k) * (rd == OCT_BF16 ? 2 : 4)));
            oct_cpu_mask(~0u);
        }
        at += m * k;
        if (rd) at_r += m * k;
        if (has_out) at_out += m * k;
        if (wd) at_w += k;
        free(xs);
        free(rs);
        free(ws);
        free(outs);
        free(got);
        free(got_out);
    }
    fclose(f);
    verdict("norm.txt", "does not use all of norm_x.npy", at == n);
    free(x);
    free(residual);
    free(out);
    free(weight);
    free(bound);
    free(y);
}

static void silu(const char *dir)
{
    int64_t n;
    float *gate = npy_read(dir, "silu_gate.npy", "<f4", &n), *up = npy_read(dir, "silu_up.npy", "<f4", 0);
    float *bound = npy_read(dir, "silu_bound.npy", "<f4", 0);
    double *y = npy_read(dir, "silu_y.npy", "<f8", 0);
    void *got = malloc((size_t)n * 4);
    for (int way = 0; way < 4; way++) {
        const int32_t yd = way % 2 ? OCT_BF16 : OCT_F32;
        const oct_silu_mul_quant_args a = {
            .size = sizeof a, .m = 1, .k = n, .gate = gate, .up = up, .x_dtype = OCT_F32, .y = got, .y_dtype = yd
        };
        oct_cpu_mask(way / 2 ? ~0u : 0);
        const int ran = oct_silu_mul_quant(&a) == OCT_OK;
        verdict("silu", ran ? "y out of bounds" : oct_error_text(), ran && all_within(got, yd, n, y, bound));
        oct_cpu_mask(~0u);
    }
    free(gate);
    free(up);
    free(bound);
    free(y);
    free(got);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: golden_quant DIR\n");
        return 2;
    }
    convert(argv[1]);
    quant(argv[1]);
    norm(argv[1]);
    silu(argv[1]);
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed;
}
