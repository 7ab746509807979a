/* test_exhaustive.c - conversions to and from f8e4m3fn for every input there is, against the format's own definition: a
 * value's code is that of the nearest of the 127 magnitudes, the even one of two that are equally near.
 * `test_exhaustive [--long]`: --long goes through all f32, and all pairs of a bf16 and the amax of its row. */
#define _GNU_SOURCE
#include "core/num/bf16.h"
#include "core/num/scale.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int passed, failed;
static void verdict(const char *what, int64_t wrong, int64_t of)
{
    if (wrong || !of) failed++;
    else passed++;
    printf("%s %s: %lld wrong of %lld\n", wrong || !of ? "FAIL" : "ok  ", what, (long long)wrong, (long long)of);
}

/* ---- The definition ---- */

static double magnitude(int code)
{
    const int e = code >> 3, m = code & 7;
    return e ? (8 + m) * 0x1p-10 * (double)(1 << e) : m * 0x1p-9;
}
/* first[c]: bits of the smallest f32 whose code is c or more. */
static uint32_t first[128];
static void make_table(void)
{
    for (int c = 1; c < 127; c++) {
        const float middle = (float)((magnitude(c - 1) + magnitude(c)) / 2); /* exact */
        first[c] = oct_f32_bits(middle) + (c % 2);                           /* an odd code does not get the tie */
    }
}
static uint8_t code_of(float x)
{
    const uint32_t u = oct_f32_bits(x) & 0x7fffffff;
    int lo = 0, hi = 126; /* saturated: 126 */
    if (u > 0x7f800000) return 0x7f;
    while (lo < hi) {
        const int mid = (lo + hi + 1) / 2;
        if (u >= first[mid]) lo = mid;
        else hi = mid - 1;
    }
    return (uint8_t)(lo | (oct_f32_bits(x) >> 31) << 7);
}

/* ---- Through the public calls ---- */

static oct_quant_args given(const void *x, int32_t x_dtype, int64_t n, uint8_t *y)
{
    static float one = 1;
    return (oct_quant_args){ .size = sizeof(oct_quant_args),
                             .on.threads = 1,
                             .scaling = OCT_SCALE_TENSOR,
                             .flags = OCT_QUANT_SCALE_GIVEN,
                             .m = 1,
                             .k = n,
                             .x = x,
                             .x_dtype = x_dtype,
                             .y = y,
                             .y_dtype = OCT_F8E4M3FN,
                             .scale = &one };
}

static void all_bf16(const char *row)
{
    static uint16_t x[65536];
    static uint8_t y[65536];
    char what[80];
    int64_t wrong = 0;
    for (int i = 0; i < 65536; i++) x[i] = (uint16_t)i;
    const oct_quant_args q = given(x, OCT_BF16, 65536, y);
    const int ran = oct_quant(&q) == OCT_OK;
    for (int i = 0; i < 65536; i++) wrong += y[i] != code_of(oct_bf16_to_f32(x[i]));
    snprintf(what, sizeof what, "%s: every bf16 to f8e4m3fn", row);
    verdict(what, wrong, ran ? 65536 : 0);
}

static void all_codes(const char *row)
{
    uint8_t x[256];
    float y[256];
    uint16_t h[256];
    char what[80];
    int64_t wrong = 0;
    for (int i = 0; i < 256; i++) x[i] = (uint8_t)i;
    oct_dequant_args u = {
        .size = sizeof u, .m = 1, .k = 256, .x = x, .x_dtype = OCT_F8E4M3FN, .y = y, .y_dtype = OCT_F32
    };
    int ran = oct_dequant(&u) == OCT_OK;
    u.y = h;
    u.y_dtype = OCT_BF16;
    ran &= oct_dequant(&u) == OCT_OK;
    for (int i = 0; i < 256; i++) {
        const float want = (i & 127) == 127 ? NAN : (float)(i & 128 ? -magnitude(i & 127) : magnitude(i & 127));
        const uint32_t bits = want != want ? 0x7fc00000 : oct_f32_bits(want);
        wrong += oct_f32_bits(y[i]) != bits || h[i] != bits >> 16; /* every code is exact in bf16 */
    }
    snprintf(what, sizeof what, "%s: every code to f32 and bf16", row);
    verdict(what, wrong, ran ? 256 : 0);
}

/* Values at and next to every middle. */
static void near_middles(const char *row)
{
    float x[126 * 5 * 2];
    uint8_t y[126 * 5 * 2];
    char what[80];
    int64_t wrong = 0;
    int n = 0;
    for (int c = 1; c < 127; c++)
        for (int d = -2; d <= 2; d++)
            for (int sign = 0; sign < 2; sign++)
                x[n++] = oct_f32_from_bits((first[c] + (uint32_t)d) | (uint32_t)sign << 31);
    const oct_quant_args q = given(x, OCT_F32, n, y);
    const int ran = oct_quant(&q) == OCT_OK;
    for (int i = 0; i < n; i++) wrong += y[i] != code_of(x[i]);
    snprintf(what, sizeof what, "%s: f32 next to middles", row);
    verdict(what, wrong, ran ? n : 0);
}

/* The cases that the proof in src/isa/avx2/quant.h leaves out: scales whose last 20 bits are next to 0, and all
 * values whose quotient is next to a middle, which is 17, 19 .. 31 or 1, 3 .. 15 times a power of two. */
static void hard_divisors(const char *row)
{
    enum { NEAR = 9, MIDDLES = 16, K = 1 + MIDDLES * NEAR };
    static float x[8 * 17][K], scale[8 * 17], want_scale[8 * 17];
    static uint8_t y[8 * 17][K];
    char what[80];
    int64_t wrong = 0, m = 0;
    for (uint32_t top = 0; top < 8; top++)
        for (int d = -8; d <= 8; d++) {
            const float s = oct_f32_from_bits(0x3f800000 + top * 0x100000 + (uint32_t)d);
            float amax = 0;
            for (int e = -2; e <= 2 && !amax;
                 e++) { /* amax / 448 must be s: for some s there is no amax, and s does not occur */
                const float a = oct_f32_from_bits(oct_f32_bits(448.0f * s) + (uint32_t)e);
                if (a / 448.0f == s) amax = a;
            }
            if (!amax) continue;
            int n = 0;
            x[m][n++] = amax;
            for (int i = 0; i < MIDDLES; i++)
                for (int e = -(NEAR / 2); e <= NEAR / 2; e++) {
                    const float middle = (float)(2 * i + 1) * (i < 8 ? 0x1p-10f : 1.0f);
                    x[m][n++] = oct_f32_from_bits(oct_f32_bits(middle * s) + (uint32_t)e);
                }
            want_scale[m++] = s;
        }
    const oct_quant_args q = { .size = sizeof q,
                               .scaling = OCT_SCALE_ROW,
                               .m = m,
                               .k = K,
                               .x = x,
                               .x_dtype = OCT_F32,
                               .y = y,
                               .y_dtype = OCT_F8E4M3FN,
                               .scale = scale };
    const int ran = oct_quant(&q) == OCT_OK;
    for (int64_t i = 0; i < m; i++) {
        wrong += scale[i] != want_scale[i];
        for (int j = 0; j < K; j++) wrong += y[i][j] != code_of(x[i][j] / scale[i]);
    }
    snprintf(what, sizeof what, "%s: hard divisors (%lld)", row, (long long)m);
    verdict(what, wrong, ran ? m * K : 0);
}

/* ---- --long: on all processors ---- */

enum { SPAN = 1 << 16, SPANS = 1 << 16 };
typedef struct sweep {
    const char *what;
    int64_t n;
    void (*body)(struct sweep *s, int64_t i);
    _Atomic int64_t next, wrong, wrong_ref, of;
} sweep;

static void *worker(void *p)
{
    sweep *s = p;
    for (int64_t i; (i = atomic_fetch_add(&s->next, 1)) < s->n;) {
        s->body(s, i);
        if (i % (s->n / 20) == 0) fprintf(stderr, "\r%s: %lld %%  ", s->what, (long long)(100 * i / s->n));
    }
    return 0;
}
static void sweep_all(sweep *s)
{
    pthread_t t[64];
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    int made = 0;
    while (made < cpus - 1 && made < 64 && !pthread_create(&t[made], 0, worker, s)) made++;
    worker(s);
    while (made) pthread_join(t[--made], 0);
    fprintf(stderr, "\r%*s\r", 70, "");
}

/* SPAN consecutive bit patterns of f32: the chosen row of quant, and the reference's scalar. */
static void f32_span(sweep *s, int64_t i)
{
    float *x = malloc(SPAN * 4);
    uint8_t *y = malloc(SPAN);
    int64_t wrong = 0, wrong_ref = 0;
    for (int64_t j = 0; j < SPAN; j++) x[j] = oct_f32_from_bits((uint32_t)(i * SPAN + j));
    const oct_quant_args q = given(x, OCT_F32, SPAN, y);
    if (oct_quant(&q) != OCT_OK) wrong = SPAN;
    uint8_t want = code_of(x[0]);
    for (int64_t j = 0; j < SPAN; j++) {
        const uint32_t u =
            oct_f32_bits(x[j]) & 0x7fffffff; /* magnitudes rise within a span: the next code or the same */
        if ((want & 127) < 126 && u >= first[(want & 127) + 1]) want++;
        if (u > 0x7f800000) want = 0x7f;
        wrong += y[j] != want;
        wrong_ref += oct_f8e4m3fn_from_f32(x[j]) != want;
    }
    s->wrong += wrong;
    s->wrong_ref += wrong_ref;
    s->of += SPAN;
    free(x);
    free(y);
}

/* All finite bf16 below and at amax i in one row, both rules: the code is that of the one division or product. */
static void bf16_row(sweep *s, int64_t i)
{
    const int64_t n = i + 1;
    uint16_t *x = malloc((size_t)n * 2);
    uint8_t *y = malloc((size_t)n);
    int64_t wrong = 0;
    for (int64_t j = 0; j < n; j++) x[j] = (uint16_t)(j | (j % 3 ? 0 : 0x8000));
    for (int32_t rule = 0; rule < 2; rule++) {
        float scale, factor;
        const oct_quant_args q = { .size = sizeof q,
                                   .on.threads = 1,
                                   .scaling = OCT_SCALE_ROW,
                                   .rule = rule,
                                   .m = 1,
                                   .k = n,
                                   .x = x,
                                   .x_dtype = OCT_BF16,
                                   .y = y,
                                   .y_dtype = OCT_F8E4M3FN,
                                   .scale = &scale };
        if (oct_quant(&q) != OCT_OK) wrong += n;
        wrong += scale != oct_scale_of(rule, oct_bf16_to_f32((uint16_t)i), INFINITY, &factor);
        for (int64_t j = 0; j < n; j++) {
            const float v = oct_bf16_to_f32(x[j]);
            wrong += y[j] != code_of(rule == OCT_RULE_MIN ? v / factor : v * factor);
        }
    }
    s->wrong += wrong;
    s->of += 2 * n;
    free(x);
    free(y);
}

static void all_long(void)
{
    static sweep f32 = { .what = "every f32 to f8e4m3fn", .n = SPANS, .body = f32_span };
    static sweep pairs = { .what = "every bf16 below every amax", .n = 0x7f80, .body = bf16_row };
    sweep_all(&f32);
    verdict("best row: every f32 to f8e4m3fn", f32.wrong, f32.of);
    verdict("reference: every f32 to f8e4m3fn", f32.wrong_ref, f32.of);
    sweep_all(&pairs);
    verdict("best row: every bf16 below every amax", pairs.wrong, pairs.of);
}

int main(int argc, char **argv)
{
    const int is_long = argc == 2 && !strcmp(argv[1], "--long");
    if (argc > 1 && !is_long) {
        fprintf(stderr, "usage: test_exhaustive [--long]\n");
        return 2;
    }
    make_table();
    for (int best = 0; best < 2; best++) {
        const char *row = best ? "best row" : "reference";
        oct_cpu_mask(best ? ~0u : 0);
        all_bf16(row);
        all_codes(row);
        near_middles(row);
        hard_divisors(row);
    }
    if (is_long) all_long();
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed;
}
