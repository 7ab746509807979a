/* golden_kv.c - rope_kv, kv_dequant and attn against vectors that numpy made (golden/README.md): the reference and the
 * best row, by public calls. `golden_kv DIR` */
#include "check.h"
#include "npy.h"
#include "octavo.h"
#include <math.h>

static int passed, failed;

static void verdict(const char *what, const char *detail, int ok)
{
    if (ok) passed++;
    else {
        failed++;
        printf("  FAIL %s: %s\n", what, detail);
    }
}

/* The first value of got that is not within its bound, as text; NULL: all are. */
static const char *outside(const void *got, int32_t dtype, const double *want, const float *bound, int64_t n)
{
    static char text[120];
    for (int64_t i = 0; i < n; i++)
        if (!ck_within(got, dtype, i, want[i], (double)bound[i])) {
            snprintf(text, sizeof text, "value %lld is %.9g, want %.9g within %.3g", (long long)i, ck_value(got, dtype, i), want[i], (double)bound[i]);
            return text;
        }
    return 0;
}

static int32_t format_of(const char *name)
{
    return !strcmp(name, "bf16") ? OCT_KV_BF16 : !strcmp(name, "f8_token") ? OCT_KV_F8_TOKEN : OCT_KV_I4;
}

/* ---- The tables and the rotation ---- */

static void rope(const char *dir)
{
    int64_t n, at = 0, at_pos = 0;
    int32_t *position = npy_read(dir, "rope_position.npy", "<i4", 0);
    float *table = npy_read(dir, "rope_table.npy", "<f4", 0), *bound = npy_read(dir, "rope_bound.npy", "<f4", 0);
    uint16_t *x = npy_read(dir, "rope_x.npy", "<u2", 0);
    double *y = npy_read(dir, "rope_y.npy", "<f8", &n);
    char line[256], pairs[16], eps[16];
    FILE *f = npy_cases(dir, "rope.txt");
    while (fgets(line, sizeof line, f)) {
        long long d, count;
        oct_rope r = { 0, 0, 0, 0, 0, 0, { 0 } };
        if (line[0] == '#') continue;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "%lld %15s %f %d %f %f %f %f %15s %lld", &d, pairs, &r.theta, &r.scaling, &r.factor, &r.low_freq, &r.high_freq,
                   &r.old_context, eps, &count) != 10) {
            verdict(line, "not understood", 0);
            break;
        }
        float *row = malloc((size_t)d * sizeof *row);
        int near = 1;
        for (int64_t i = 0; i < count; i++) {
            near &= oct_rope_table(&r, d, position[at_pos + i], 1, row) == OCT_OK;
            for (int64_t j = 0; j < d; j++) { /* one step of f32 */
                const float want = table[at + i * d + j];
                near &= row[j] == want || row[j] == nextafterf(want, 2) || row[j] == nextafterf(want, -2);
            }
        }
        verdict(line, "the table differs by more than a step", near);
        for (uint32_t mask = 0;; mask = ~0u) {
            uint16_t *out = malloc((size_t)(count * d) * 2);
            const oct_rope_kv_args a = { .size = sizeof a, .pairs = !strcmp(pairs, "half") ? OCT_ROPE_HALF : OCT_ROPE_INTERLEAVED, .t = count,
                                         .heads = 1, .d = d, .q = x + at, .q_out = out, .dtype = OCT_BF16, .pos = position + at_pos, .rope = r,
                                         .flags = strcmp(eps, "none") ? OCT_ROPE_KV_NORM : 0, .norm_eps = strcmp(eps, "none") ? strtof(eps, 0) : 0 };
            oct_cpu_mask(mask);
            const oct_status s = oct_rope_kv(&a);
            const char *bad = s ? oct_error_text() : outside(out, OCT_BF16, y + at, bound + at, count * d);
            verdict(line, bad, !bad);
            free(out);
            if (mask) break;
        }
        free(row);
        at += count * d;
        at_pos += count;
    }
    fclose(f);
    verdict("rope.txt", "does not use all of rope_y.npy", at == n);
    free(position);
    free(table);
    free(bound);
    free(x);
    free(y);
}

/* ---- Rows of the cache: stored and loaded ---- */

static void kv(const char *dir)
{
    int64_t n, at = 0, at_row = 0;
    uint16_t *x = npy_read(dir, "kv_x.npy", "<u2", &n), *bf16 = npy_read(dir, "kv_dequant_bf16.npy", "<u2", 0);
    uint8_t *rows = npy_read(dir, "kv_rows.npy", "|u1", 0);
    float *f32 = npy_read(dir, "kv_dequant_f32.npy", "<f4", 0);
    char line[256], format[16];
    FILE *f = npy_cases(dir, "kv.txt");
    while (fgets(line, sizeof line, f)) {
        long long groups, count, d, bytes;
        if (line[0] == '#') continue;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "%15s %lld %lld %lld %lld", format, &groups, &count, &d, &bytes) != 5) {
            verdict(line, "not understood", 0);
            break;
        }
        for (uint32_t mask = 0;; mask = ~0u) {
            uint8_t *k = calloc(2, (size_t)(count * bytes)), *v = k + count * bytes;
            float *back = malloc((size_t)(count * d) * 8);
            int32_t *pos = malloc((size_t)count * 4), len = (int32_t)count, *lane = calloc((size_t)count, 4);
            const oct_kv cache = { .size = sizeof cache, .format = format_of(format), .groups = (int32_t)groups, .heads = 1, .d = d, .pages = 1,
                                   .page_size = count, .k = k, .v = v };
            for (int32_t i = 0; i < count; i++) pos[i] = i;
            const oct_rope_kv_args a = { .size = sizeof a, .pairs = OCT_ROPE_NONE, .t = count, .d = d, .k = x + at, .v = x + at,
                                         .dtype = OCT_BF16, .pos = pos, .lane = lane, .kv = &cache };
            oct_kv_dequant_args u = { .size = sizeof u, .kv = &cache, .len = &len, .max_t = count, .k_out = back, .v_out = back + count * d, .y_dtype = OCT_F32 };
            const size_t size = (size_t)(count * bytes), elems = (size_t)(count * d);
            oct_cpu_mask(mask);
            verdict(line, oct_error_text(), oct_rope_kv(&a) == OCT_OK);
            verdict(line, "rows of k differ", !memcmp(k, rows + at_row, size));
            verdict(line, "rows of v differ", !memcmp(v, rows + at_row, size));
            memcpy(k, rows + at_row, size);
            memcpy(v, rows + at_row, size);
            verdict(line, oct_error_text(), oct_kv_dequant(&u) == OCT_OK);
            verdict(line, "f32 values of k differ", !memcmp(back, f32 + at, elems * 4));
            verdict(line, "f32 values of v differ", !memcmp(back + elems, f32 + at, elems * 4));
            u.y_dtype = OCT_BF16;
            verdict(line, oct_error_text(), oct_kv_dequant(&u) == OCT_OK);
            verdict(line, "bf16 values of k differ", !memcmp(back, bf16 + at, elems * 2));
            verdict(line, "bf16 values of v differ", !memcmp(back + elems, bf16 + at, elems * 2));
            free(k);
            free(back);
            free(pos);
            free(lane);
            if (mask) break;
        }
        at += count * d;
        at_row += count * bytes;
    }
    fclose(f);
    verdict("kv.txt", "does not use all of kv_x.npy", at == n);
    free(x);
    free(bf16);
    free(rows);
    free(f32);
}

/* ---- Attention ---- */

enum { PAGE = 4 };
/* Rows [lanes][max_t][heads] as pages of [heads][PAGE], the last of them first. */
static uint8_t *heads_first(const uint8_t *rows, int64_t lanes, int64_t max_t, int64_t heads, int64_t bytes, int32_t *table)
{
    const int64_t each = (max_t + PAGE - 1) / PAGE;
    uint8_t *out = calloc((size_t)(lanes * each * heads), (size_t)(PAGE * bytes));
    for (int64_t i = 0; i < lanes * each; i++) table[i] = (int32_t)(lanes * each - 1 - i);
    for (int64_t b = 0; b < lanes; b++)
        for (int64_t t = 0; t < max_t; t++)
            for (int64_t h = 0; h < heads; h++)
                memcpy(out + ((table[b * each + t / PAGE] * heads + h) * PAGE + t % PAGE) * bytes, rows + ((b * max_t + t) * heads + h) * bytes,
                       (size_t)bytes);
    return out;
}

static void attn(const char *dir)
{
    int64_t n, at = 0, at_cache = 0, at_token = 0;
    int32_t *lane = npy_read(dir, "attn_lane.npy", "<i4", 0), *len = npy_read(dir, "attn_len.npy", "<i4", 0);
    uint16_t *q = npy_read(dir, "attn_q.npy", "<u2", 0);
    uint8_t *k = npy_read(dir, "attn_k.npy", "|u1", 0), *v = npy_read(dir, "attn_v.npy", "|u1", 0);
    double *y = npy_read(dir, "attn_y.npy", "<f8", &n);
    float *bound = npy_read(dir, "attn_bound.npy", "<f4", 0);
    char line[256], format[16];
    FILE *f = npy_cases(dir, "attn.txt");
    while (fgets(line, sizeof line, f)) {
        long long groups, lanes, max_t, kv_heads, heads, d, tokens, bytes;
        if (line[0] == '#') continue;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "%15s %lld %lld %lld %lld %lld %lld %lld %lld", format, &groups, &lanes, &max_t, &kv_heads, &heads, &d, &tokens, &bytes) != 9) {
            verdict(line, "not understood", 0);
            break;
        }
        const int64_t size = lanes * max_t * kv_heads * bytes, count = tokens * heads * d;
        const oct_kv plain = { .size = sizeof plain, .format = format_of(format), .groups = (int32_t)groups, .heads = kv_heads, .d = d,
                               .pages = lanes, .page_size = max_t, .k = k + at_cache, .v = v + at_cache };
        oct_kv paged = plain;
        paged.page_size = PAGE;
        paged.ld_page_table = (max_t + PAGE - 1) / PAGE;
        paged.lanes = lanes;
        paged.pages = lanes * paged.ld_page_table;
        paged.token_bytes = bytes;
        paged.head_bytes = PAGE * bytes;
        int32_t *table = malloc((size_t)paged.pages * sizeof *table);
        paged.page_table = table;
        paged.k = heads_first(k + at_cache, lanes, max_t, kv_heads, bytes, table);
        paged.v = heads_first(v + at_cache, lanes, max_t, kv_heads, bytes, table);
        for (int i = 0; i < 8; i++) { /* f32 and bf16, reference and best, contiguous and paged */
            float *out = malloc((size_t)count * 4);
            oct_attn_args a = { .size = sizeof a, .t = tokens, .heads = heads, .d = d, .q = q + at, .q_dtype = OCT_BF16,
                                .y_dtype = i & 1 ? OCT_BF16 : OCT_F32, .y = out, .len = len + at_token, .lane = lane + at_token, .kv = i & 4 ? &paged : &plain };
            oct_cpu_mask(i & 2 ? ~0u : 0);
            a.on.scratch_bytes = oct_attn_scratch(&a);
            a.on.scratch = aligned_alloc(64, ((size_t)a.on.scratch_bytes + 127) / 64 * 64);
            const oct_status s = oct_attn(&a);
            const char *bad = s ? oct_error_text() : outside(out, a.y_dtype, y + at, bound + at, count);
            verdict(line, bad, !bad);
            free(a.on.scratch);
            free(out);
        }
        free(paged.k);
        free(paged.v);
        free(table);
        at += count;
        at_cache += size;
        at_token += tokens;
    }
    fclose(f);
    verdict("attn.txt", "does not use all of attn_y.npy", at == n);
    free(lane);
    free(len);
    free(q);
    free(k);
    free(v);
    free(y);
    free(bound);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: golden_kv DIR\n");
        return 2;
    }
    rope(argv[1]);
    kv(argv[1]);
    attn(argv[1]);
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed;
}
