/* golden_gemm.c - gemm against sums that numpy made in float64 (golden/README.md): the reference and the best row, by public
 * calls. `golden_gemm DIR` */
#include "check.h"
#include "npy.h"
#include "octavo.h"
#include "core/num/bf16.h"

typedef struct vectors {
    uint8_t *x, *w;
    float *x_scale, *w_scale, *bias, *bound;
    double *y;
} vectors; /* what the next case takes its share from */

static int32_t dtype_of(const char *s) { return !strcmp(s, "bf16") ? OCT_BF16 : !strcmp(s, "f32") ? OCT_F32 : !strcmp(s, "none") ? 0 : OCT_F8E4M3FN; }
static int64_t cdiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Elements of an operand's scales. */
static int64_t scales(int32_t scaling, int64_t batch, int64_t rows, int64_t k)
{
    switch (scaling) {
    case OCT_SCALE_NONE:   return 0;
    case OCT_SCALE_TENSOR: return batch;
    case OCT_SCALE_ROW:    return batch * rows;
    case OCT_SCALE_GROUP:  return batch * rows * cdiv(k, 128);
    default:               return batch * cdiv(rows, 128) * cdiv(k, 128);
    }
}

/* Scales of x, and elements of x and y, of a case with sizes; the form is "stacked:2,0,3" or "batch:2,0,3". Fills in a's part. */
static int64_t sizes_of(const char *form, oct_gemm_args *a, int64_t *size, int64_t *rows)
{
    const int stacked = !strncmp(form, "stacked", 7);
    int64_t xs = 0, left = a->m;
    const char *p = strchr(form, ':');
    for (a->groups = 0; p && a->groups < 8; p = strchr(p + 1, ',')) {
        size[a->groups++] = strtoll(p + 1, 0, 10);
        xs += scales(a->scaling, 1, stacked ? size[a->groups - 1] : a->m, a->k);
        left -= size[a->groups - 1];
    }
    if (stacked && a->scaling == OCT_SCALE_ROW) xs += left;
    a->batch = stacked ? 0 : a->groups;
    a->m_sizes = size;
    a->flags = OCT_GEMM_ZERO_REST;
    *rows = stacked ? a->m : a->groups * a->m;
    return a->x_dtype == OCT_BF16 ? 0 : xs;
}

/* 1 when the row chosen under the mask keeps to the bound, for both types of y. */
static int within(oct_gemm_args a, const vectors *v, int64_t n, uint32_t mask, const char *what)
{
    for (int32_t dtype = OCT_F32; dtype <= OCT_BF16; dtype += OCT_BF16 - OCT_F32) {
        a.y_dtype = dtype;
        a.y = malloc((size_t)n * 4 + 1);
        oct_cpu_mask(mask);
        a.on.scratch_bytes = oct_gemm_scratch(&a);
        a.on.scratch = aligned_alloc(64, (size_t)(a.on.scratch_bytes + 127) / 64 * 64);
        int ok = oct_gemm(&a) == OCT_OK;
        oct_cpu_mask(~0u);
        if (!ok) printf("  FAIL %s: %s\n", what, oct_error_text());
        for (int64_t i = 0; i < n && ok; i++)
            if (!ck_within(a.y, dtype, i, v->y[i], (double)v->bound[i])) {
                ok = 0;
                printf("  FAIL %s: y[%lld] as %s is %.9g, want %.9g within %.3g\n", what, (long long)i, oct_dtype_str(dtype),
                       ck_value(a.y, dtype, i), v->y[i], (double)v->bound[i]);
            }
        free(a.y);
        free(a.on.scratch);
        if (!ok) return 0;
    }
    return 1;
}

/* One line of gemm.txt; v moves on to the next case. Adds to count[0] what passed, to count[1] what failed. */
static void run_case(const char *line, vectors *v, int count[2])
{
    static const char *const scalings[] = { "none", "tensor", "row", "group", "block" };
    char x_dtype[16], w_dtype[16], scaling[16], layout[16], bias_dtype[16], sizes[64], what[300];
    long long batch, m, n, k;
    if (sscanf(line, "%15s %15s %15s %15s %lld %lld %lld %lld %15s %63s", x_dtype, w_dtype, scaling, layout, &batch, &m, &n, &k, bias_dtype, sizes) != 10) {
        printf("  FAIL not understood: %s\n", line);
        count[1]++;
        return;
    }
    oct_gemm_args a = { .size = sizeof a, .m = m, .n = n, .k = k, .batch = batch, .x_dtype = dtype_of(x_dtype),
                        .w_dtype = dtype_of(w_dtype), .scale_layout = !strcmp(layout, "mn"), .bias_dtype = dtype_of(bias_dtype) };
    while (a.scaling < 4 && strcmp(scaling, scalings[a.scaling])) a.scaling++;
    int64_t size[8], rows = batch * m, xs = a.x_dtype == OCT_BF16 ? 0 : scales(a.scaling, batch, m, k);
    if (strcmp(sizes, "none")) xs = sizes_of(sizes, &a, size, &rows);
    const int64_t x_bytes = rows * k * (a.x_dtype == OCT_BF16 ? 2 : 1), w_bytes = batch * n * k * (a.w_dtype == OCT_BF16 ? 2 : 1);
    const int64_t ws = scales(a.scaling == OCT_SCALE_GROUP ? OCT_SCALE_BLOCK : a.scaling, batch, n, k);
    if (xs) a.x_scale = v->x_scale;
    if (ws) a.w_scale = v->w_scale;
    uint16_t *bias16 = malloc((size_t)(batch * n) * 2);
    void *x = malloc((size_t)x_bytes + 1), *w = malloc((size_t)w_bytes + 1); /* aligned: in the arrays they lie anywhere */
    a.x = memcpy(x, v->x, (size_t)x_bytes);
    a.w = memcpy(w, v->w, (size_t)w_bytes);
    if (a.bias_dtype) {
        for (int64_t i = 0; i < batch * n; i++) bias16[i] = oct_bf16_from_f32(v->bias[i]);
        a.bias = a.bias_dtype == OCT_F32 ? (const void *)v->bias : bias16;
        v->bias += batch * n;
    }
    for (int best = 0; best < 2; best++) {
        snprintf(what, sizeof what, "%s row, %s", best ? "best" : "reference", line);
        count[!within(a, v, rows * n, best ? ~0u : 0, what)]++;
    }
    free(bias16);
    free(x);
    free(w);
    v->x += x_bytes;
    v->w += w_bytes;
    v->x_scale += xs;
    v->w_scale += ws;
    v->y += rows * n;
    v->bound += rows * n;
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "tests/golden";
    int64_t n;
    int count[2] = { 0, 0 };
    char line[256];
    const vectors all = { npy_read(dir, "gemm_x.npy", "|u1", 0), npy_read(dir, "gemm_w.npy", "|u1", 0),
                          npy_read(dir, "gemm_x_scale.npy", "<f4", 0), npy_read(dir, "gemm_w_scale.npy", "<f4", 0),
                          npy_read(dir, "gemm_bias.npy", "<f4", 0), npy_read(dir, "gemm_bound.npy", "<f4", 0),
                          npy_read(dir, "gemm_y.npy", "<f8", &n) };
    vectors v = all;
    FILE *f = npy_cases(dir, "gemm.txt");
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] != '#') run_case(line, &v, count);
    }
    fclose(f);
    if (v.y != all.y + n) {
        printf("  FAIL the cases take %lld of %lld values\n", (long long)(v.y - all.y), (long long)n);
        count[1]++;
    }
    free(all.x); free(all.w); free(all.x_scale); free(all.w_scale); free(all.bias); free(all.bound); free(all.y);
    printf("%d passed, %d failed\n", count[0], count[1]);
    return count[1] || !count[0];
}
