/* check_attn.c - BOUND, and a token's bits are the same alone as among others. */
#include "kv_case.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { T, MODE, LEN, RATIO, KV_HEADS, D, FORMAT, LAYOUT, STRIDES, PAD, Y, SCALE, Q_KIND, K_KIND, V_KIND, BAD, SPLITS, SPLIT_OUT };
static const ck_axis axes[] = {
    [T] = CK_INTS("t", 1, 1, 0, 2, 5, 13, 40),
    [MODE] = CK_NAMES("mode", "a lane each", "any lanes", "causal", "mixed"),
    [LEN] = CK_INTS("len", 4, 1, 0, 2, 15, 31, 32, 33, 63, 64, 65, 130, 257, 400, 8200, 511, 513, 1000, 16500),
    [RATIO] = CK_INTS("heads a kv head", 0, 1, 2, 3, 4, 5, 7, 8, 16, 50),
    [KV_HEADS] = CK_INTS("kv heads", 0, 1, 2, 3),
    [D] = CK_INTS("d", 2, 2, 4, 14, 16, 18, 30, 64, 80, 96, 128, 130, 192, 256, 2048),
    [FORMAT] = CK_KV_FORMATS("cache"),
    [LAYOUT] = CK_KV_LAYOUTS("layout"),
    [STRIDES] = CK_KV_STRIDES("cache strides"),
    [PAD] = CK_INTS("pad", 0, 0, 3),
    [Y] = CK_NAMES("y", "f32", "bf16"),
    [SCALE] = CK_NAMES("scale", "default", "1.5", "-0.25"),
    [Q_KIND] = CK_NAMES("q", "uniform", "near max", "subnormal", "all codes", "nan inf", "outlier", "zero", "constant", "one 1000", "uniform"),
    [K_KIND] = CK_KV_KINDS("k"),
    [V_KIND] = CK_NAMES("v", "uniform", "near max", "nan inf", "any bytes", "any numbers", "uniform"),
    [BAD] = CK_NAMES("bad", "no", "no", "no", "no", "lane", "len", "page"),
    [SPLITS] = CK_INTS("splits", 0, 0, 0, 1, 2, 3, 8, 33),
    [SPLIT_OUT] = CK_NAMES("split outputs", "all", "all", "y_max", "y_sum", "y_split", "none"),
};

/* Rows of K or V of one lane and KV head as doubles, [n][d]. */
static double *values(const oct_kv *kv, const void *data, int64_t lane, int64_t n, int64_t h)
{
    double *x = malloc((size_t)(n * kv->d + 1) * sizeof *x);
    for (int64_t t = 0; t < n; t++) {
        const uint8_t *row = (const uint8_t *)data + oct_kv_offset(kv, oct_kv_page(kv, lane, t), t, h);
        for (int64_t e = 0; e < kv->d; e++) {
            const oct_kv_parts p = oct_kv_load(kv, row, e);
            x[t * kv->d + e] = (double)p.scale * (double)p.code + (double)p.shift;
        }
    }
    return x;
}

/* The score of a row of K, and what its error grows with: |scale| sum_e |q K| and sum_e |K|. */
static double score(const uint16_t *q, const double *k, int64_t d, double scale, double *size, double *keys)
{
    double s = 0;
    *size = *keys = 0;
    for (int64_t e = 0; e < d; e++) {
        const double p = (double)oct_bf16_to_f32(q[e]) * k[e];
        s += p;
        *size += fabs(p);
        *keys += fabs(k[e]);
    }
    *size *= fabs(scale);
    return s * scale;
}

/* e of octavo.h, for size = |scale| max_t sum_e |q K| and keys = max_t sum_e |K|. */
static double score_error(int64_t d, double size, double keys)
{ return 4 * (double)(d + 8) * 0x1p-24 * size + 0x1p-149 * ((double)(d + 2) + keys); }

/* The formula of octavo.h for token i and head h, and its bound, against y. */
static void check_head(ck_case *c, const oct_attn_args *a, int64_t i, int64_t h, const double *k, const double *v)
{
    static double s[1 << 15];
    const int64_t n = a->len[i], d = a->d;
    const double u = 0x1p-24, scale = a->scale != 0 ? (double)a->scale : (double)(float)(1 / sqrt((double)d));
    const uint16_t *q = (const uint16_t *)a->q + i * a->ldq + h * a->head_q;
    double most = -INFINITY, sum = 0, size = 0, keys = 0;
    for (int64_t t = 0; t < n; t++) {
        double abs, key;
        s[t] = score(q, k + t * d, d, scale, &abs, &key);
        keys = fmax(keys, key);
        if (!(abs < 1e38)) size = abs <= DBL_MAX ? INFINITY : size; /* an f32 sum may overflow */
        if (abs > size) size = abs;
        most = fmax(most, s[t]);
    }
    if (size == INFINITY) return;
    const double e0 = score_error(d, size, keys);
    for (int64_t t = 0; t < n; t++) sum += s[t] = exp(s[t] - most);
    for (int64_t e = 0; e < d; e++) {
        double y = 0, largest = 0;
        for (int64_t t = 0; t < n; t++) {
            y += s[t] / sum * v[t * d + e];
            largest = fabs(v[t * d + e]) > largest ? fabs(v[t * d + e]) : largest;
        }
        const double b = (2 * e0 + 8 * (double)(n + 16) * u) * largest + 0x1p-126;
        const int64_t at = i * a->ldy + h * a->head_y + e;
        if (largest * (double)n > 1e38) { /* f32 sums may overflow; an infinity stays visible */
            if (largest > FLT_MAX && fabs(ck_value(a->y, a->y_dtype, at)) <= FLT_MAX) ck_fail(c, "y[%lld,%lld,%lld] hides an infinity", (long long)i, (long long)h, (long long)e);
        } else if (!ck_within(a->y, a->y_dtype, at, n ? y : 0, n ? b : 0)) {
            ck_fail(c, "y[%lld,%lld,%lld] is %.9g, want %.9g within %.3g (len %lld)", (long long)i, (long long)h, (long long)e,
                    ck_value(a->y, a->y_dtype, at), y, b, (long long)n);
            return;
        }
    }
    ck_compared(c, d);
}

/* Split j of token i and head h: its largest score, sums and bounds. */
static void check_split(ck_case *c, const oct_attn_args *a, int64_t i, int64_t h, int64_t j, const double *k, const double *v)
{
    const int64_t n = a->len[i], d = a->d, width = oct_cdiv(n, a->splits), from = oct_min(n, j * width), to = oct_min(n, from + width);
    const int64_t at = j * a->heads + h, count = to - from;
    const double u = 0x1p-24, scale = a->scale != 0 ? (double)a->scale : (double)(float)(1 / sqrt((double)d));
    const uint16_t *q = (const uint16_t *)a->q + i * a->ldq + h * a->head_q;
    const int64_t ld = a->ld_split ? a->ld_split : a->splits * a->heads;
    double most = -INFINITY, size = 0, sum = 0, keys = 0, *s = malloc((size_t)(count + 1) * sizeof *s);
    int wild = 0; /* no numbers among the scores, or an f32 sum may overflow */
    for (int64_t t = 0; t < count; t++) {
        double abs, key;
        s[t] = score(q, k + (from + t) * d, d, scale, &abs, &key);
        keys = fmax(keys, key);
        wild |= !(abs < 1e38);
        size = fmax(size, abs);
        most = fmax(most, s[t]);
    }
    for (int64_t t = 0; t < count; t++) sum += s[t] = exp(s[t] - most);
    const double e0 = score_error(d, size, keys), rel = expm1(2 * e0) + 8 * (double)(count + 16) * u, tiny = (double)count * 0x1p-125;
    if (!wild && a->y_max && !(count ? fabs((double)a->y_max[i * ld + at] - most) <= e0 : a->y_max[i * ld + at] == (float)most))
        ck_fail(c, "y_max[%lld,%lld,%lld] is %.9g, want %.9g within %.3g", (long long)i, (long long)j, (long long)h, (double)a->y_max[i * ld + at], most, e0);
    if (!wild && a->y_sum && !ck_within(a->y_sum, OCT_F32, i * ld + at, sum, rel * sum + tiny))
        ck_fail(c, "y_sum[%lld,%lld,%lld] is %.9g, want %.9g", (long long)i, (long long)j, (long long)h, (double)a->y_sum[i * ld + at], sum);
    for (int64_t e = 0; !wild && a->y_split && e < d; e++) {
        double y = 0, largest = 0;
        for (int64_t t = 0; t < count; t++) {
            const double x = v[(from + t) * d + e];
            y += s[t] * x;
            largest = fabs(x) > largest ? fabs(x) : largest;
        }
        if (!(largest * (double)count < 1e38)) continue;
        if (!ck_within(a->y_split, OCT_F32, ((i * a->splits + j) * a->heads + h) * d + e, y, (rel * sum + tiny) * largest)) {
            ck_fail(c, "y_split[%lld,%lld,%lld,%lld] is %.9g, want %.9g", (long long)i, (long long)j, (long long)h, (long long)e,
                    (double)a->y_split[((i * a->splits + j) * a->heads + h) * d + e], y);
            break;
        }
    }
    free(s);
    ck_compared(c, 1);
}

/* Token i alone gives the bits that it gave among others. */
static void check_alone(ck_case *c, const oct_attn_args *all, int64_t i)
{
    const int64_t elem = all->y_dtype == OCT_BF16 ? 2 : 4, cols = (all->heads - 1) * all->head_y + all->d;
    oct_attn_args a = *all;
    int32_t *lane = ck_input(c, 1, 1, 1, 4);
    lane[0] = all->lane ? all->lane[i] : (int32_t)i;
    a.t = 1;
    a.y_max = a.y_sum = a.y_split = 0;
    a.q = (const uint16_t *)all->q + i * all->ldq;
    a.len = all->len + i;
    a.lane = lane;
    a.y = ck_output(c, 1, cols, all->ldy, elem);
    if (!ck_run(c, ck_row(c), &a)) return;
    for (int64_t h = 0; h < a.heads; h++)
        if (memcmp((char *)a.y + h * a.head_y * elem, (char *)all->y + (i * all->ldy + h * a.head_y) * elem, (size_t)(a.d * elem)))
            ck_fail(c, "token %lld, head %lld has other bits alone", (long long)i, (long long)h);
    ck_compared(c, a.heads);
}

static int spoil(ck_case *c, int bad, const oct_attn_args *a, int32_t *lane, int32_t *len)
{
    if (!a->t) return 0;
    const int64_t i = (int64_t)(ck_rnd(c) >> 1) % a->t, low = (int64_t)(ck_rnd(c) & 1), b = a->lane ? lane[i] : i;
    switch (bad) {
    case 4: lane[i] = low ? -1 : (int32_t)a->kv->lanes; return a->lane != 0;
    case 5: len[i] = low ? -1 : 1 << 20; return 1;
    case 6:
        if (!a->kv->page_table || !len[i]) return 0;
        ((int32_t *)(uintptr_t)a->kv->page_table)[b * a->kv->ld_page_table + (len[i] - 1) / a->kv->page_size] = low ? -1 : (int32_t)a->kv->pages;
        return 1;
    }
    return 0;
}

/* What a mild call takes instead of the case's values, where not -1: with it every format meets every layout, mode and
 * output type on numbers that show all that goes wrong. */
static const int mild[] = { [T] = 3, [MODE] = -1, [LEN] = 300, [RATIO] = 2, [KV_HEADS] = 1, [D] = 192, [FORMAT] = -1, [LAYOUT] = -1, [STRIDES] = -1,
                            [PAD] = -1, [Y] = -1, [SCALE] = 0, [Q_KIND] = CK_UNIFORM, [K_KIND] = CK_KV_GROWING, [V_KIND] = 0, [BAD] = 0,
                            [SPLITS] = -1, [SPLIT_OUT] = -1 };

static int64_t pick(const ck_case *c, int is_mild, int axis) { return is_mild && mild[axis] >= 0 ? mild[axis] : ck_pick(c, axis); }

static void call(ck_case *c, int is_mild)
{
    static const int v_kinds[] = { CK_UNIFORM, CK_NEAR_MAX, CK_SPECIAL, CK_KV_BYTES, CK_KV_NUMBERS, CK_UNIFORM };
    const int64_t len0 = pick(c, is_mild, LEN), kv_heads = pick(c, is_mild, KV_HEADS), ratio = oct_min(pick(c, is_mild, RATIO), len0 > 2000 ? 3 : len0 > 200 ? 8 : 50), mode = pick(c, is_mild, MODE);
    const int64_t t = len0 > 500 ? oct_min(2, pick(c, is_mild, T)) : len0 == 400 && pick(c, is_mild, T) > 2 ? 70 : pick(c, is_mild, T), pad = pick(c, is_mild, PAD), heads = kv_heads * ratio;
    const int64_t lanes = mode == 0 ? t + 1 : mode == 2 ? 2 : 4, room = oct_max(1, len0 + (mode >= 2 ? t : 0));
    int64_t d = pick(c, is_mild, D);
    if (!is_mild && len0 > 200) d = oct_min(d, len0 > 2000 ? 16 : t > 2 ? 64 : d);
    oct_kv kv = ck_kv(c, (int)pick(c, is_mild, FORMAT), (int)pick(c, is_mild, LAYOUT), (int)pick(c, is_mild, STRIDES), lanes, room, kv_heads, d);
    const int64_t unit = kv.format == OCT_KV_BF16 ? 2 : 1, bytes = oct_kv_bytes(&kv), head = kv.d + pad, cols = (heads - 1) * head + kv.d;
    d = kv.d;
    int32_t *len = ck_input(c, 1, t, t, 4), *lane = ck_input(c, 1, t, t, 4), *longest = ck_output(c, 1, lanes, lanes, 4);
    memset(longest, 0, (size_t)lanes * 4);
    for (int64_t i = 0; i < t; i++) {
        lane[i] = (int32_t)(mode == 0 ? i : mode == 2 ? 1 : mode == 1 ? (int64_t)(ck_rnd(c) >> 40) % lanes : i < t / 3 ? 2 : i < 2 * t / 3 ? 0 : 3);
        len[i] = (int32_t)(mode >= 2 ? len0 + i + (mode == 2) - (mode == 3 && i >= t / 3 ? t / 3 : 0) : i == 0 ? len0 : (int64_t)(ck_rnd(c) >> 40) % (len0 + 1));
        if (len[i] > longest[lane[i]]) longest[lane[i]] = len[i];
    }
    kv.k = ck_input(c, 1, bytes / unit, bytes / unit, unit);
    kv.v = ck_input(c, 1, bytes / unit, bytes / unit, unit);
    ck_kv_fill(c, &kv, kv.k, longest, (int)pick(c, is_mild, K_KIND));
    ck_kv_fill(c, &kv, kv.v, longest, v_kinds[pick(c, is_mild, V_KIND)]);
    uint16_t *q = ck_input(c, t, cols, heads * head + pad, 2);
    for (int64_t i = 0; i < t; i++) {
        uint16_t *row = q + i * (heads * head + pad);
        ck_fill(c, row, OCT_BF16, heads, d, head, (int)pick(c, is_mild, Q_KIND)); /* what no kind has is uniform */
        if (pick(c, is_mild, Q_KIND) == CK_KIND_COUNT) row[0] = oct_bf16_from_f32(1000.0f);
    }
    static const float scales[] = { 0, 1.5f, -0.25f };
    const int64_t elem = pick(c, is_mild, Y) ? 2 : 4;
    oct_attn_args a = { .size = sizeof a, .t = t, .heads = heads, .d = d, .q = q, .ldq = heads * head + pad, .head_q = head, .q_dtype = OCT_BF16,
                        .y_dtype = pick(c, is_mild, Y) ? OCT_BF16 : OCT_F32, .ldy = heads * head + 2 * pad, .head_y = head, .len = len,
                        .lane = mode ? lane : 0, .kv = &kv, .scale = scales[pick(c, is_mild, SCALE)] };
    a.y = ck_output(c, t, cols, a.ldy, elem);
    a.splits = (int32_t)ck_pick(c, SPLITS);
    const int out = (int)ck_pick(c, SPLIT_OUT);
    const int64_t stats = a.splits * heads, ld_stats = stats + 3 * pad;
    if (a.splits && out < 5) {
        a.ld_split = pad ? ld_stats : 0;
        if (out < 3) a.y_max = ck_output(c, t, stats, ld_stats, 4);
        if (out < 2 || out == 3) a.y_sum = ck_output(c, t, stats, ld_stats, 4);
        if (out < 2 || out == 4) a.y_split = ck_output(c, 1, t * stats * d, t * stats * d, 4);
    }
    if (!ck_fits(c, &a)) return;
    if (spoil(c, (int)pick(c, is_mild, BAD), &a, lane, len)) {
        void *poison = ck_output(c, t, cols, a.ldy, elem);
        if (oct_attn(&a) != OCT_E_VALUE) ck_fail(c, "a number out of range is taken");
        ck_same(c, "y", a.y, poison, t, cols, a.ldy, elem);
        return;
    }
    if (!ck_run(c, ck_row(c), &a)) return;
    const oct_kv full = oct_kv_full(&kv);
    for (int64_t b = 0; b < lanes; b++)
        for (int64_t g = 0; longest[b] && g < kv_heads; g++) {
            double *k = values(&full, kv.k, b, longest[b], g), *v = values(&full, kv.v, b, longest[b], g);
            for (int64_t i = 0; i < t; i++)
                for (int64_t h = g * ratio; lane[i] == b && h < (g + 1) * ratio; h++)
                    if (is_mild || len0 < 200 || (h % 7 == 0 && (t < 3 || i % 9 == 0))) {
                        check_head(c, &a, i, h, k, v);
                        for (int64_t j = 0; j < a.splits; j++) check_split(c, &a, i, h, j, k, v);
                    }
            free(k);
            free(v);
        }
    for (int64_t i = 0; i < t; i++)
        for (int64_t h = 0; !len[i] && h < heads; h++) {
            check_head(c, &a, i, h, 0, 0);
            for (int64_t j = 0; j < a.splits; j++) check_split(c, &a, i, h, j, 0, 0);
        }
    if (a.y_max) ck_padding(c, "y_max", a.y_max, t, stats, ld_stats, 4);
    if (a.y_sum) ck_padding(c, "y_sum", a.y_sum, t, stats, ld_stats, 4);
    ck_padding(c, "y", a.y, t, cols, a.ldy, elem);
    for (int64_t i = 0; i < t; i++)
        for (int64_t h = 0; pad && h + 1 < heads; h++)
            for (int64_t j = d * elem; j < head * elem; j++)
                if (((uint8_t *)a.y)[(i * a.ldy + h * head) * elem + j] != 0xa5) ck_fail(c, "y: between heads %lld and %lld was written", (long long)h, (long long)h + 1);
    if (strcmp(ck_row(c)->backend, "ref"))
        for (int64_t i = 0; t > 1 && i < t; i += 1 + t / 3) check_alone(c, &a, i);
    ck_compared(c, 1);
}

static void run(ck_case *c)
{
    call(c, 0);
    call(c, 1);
}

static void bench(ck_bench *b)
{
    static const struct { const char *name; int format; int64_t t, lanes, heads, kv_heads, d, len; } cases[] = {
        { "decode B16 H8/1 T4096 D128 bf16", OCT_KV_BF16, 16, 16, 8, 1, 128, 4096 },
        { "decode B16 H8/1 T4096 D128 f8", OCT_KV_F8_TOKEN, 16, 16, 8, 1, 128, 4096 },
        { "decode B16 H8/1 T4096 D128 i4", OCT_KV_I4, 16, 16, 8, 1, 128, 4096 },
        { "decode B1 H9/3 T1024 D64 bf16", OCT_KV_BF16, 1, 1, 9, 3, 64, 1024 },
        { "decode B1 H9/3 T1024 D64 f8", OCT_KV_F8_TOKEN, 1, 1, 9, 3, 64, 1024 },
        { "decode B1 H9/3 T1024 D64 i4", OCT_KV_I4, 1, 1, 9, 3, 64, 1024 },
        { "decode B4 H8/8 T2048 D128 f8", OCT_KV_F8_TOKEN, 4, 4, 8, 8, 128, 2048 },
        { "prefill 1024 H9/3 D64 bf16", OCT_KV_BF16, 1024, 1, 9, 3, 64, 1024 },
        { "prefill 1024 H9/3 D64 f8", OCT_KV_F8_TOKEN, 1024, 1, 9, 3, 64, 1024 },
        { "prefill 1024 H9/3 D64 i4", OCT_KV_I4, 1024, 1, 9, 3, 64, 1024 },
    };
    uint16_t *q = ck_bench_mem(b, 1024 * 9 * 64 * 2), *y = ck_bench_mem(b, 1024 * 9 * 64 * 2);
    int32_t *len = ck_bench_mem(b, 2 * 1024 * 4), *lane = len + 1024;
    float x[128];
    ck_bench_fill(b, q, OCT_BF16, 1024 * 9 * 64, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int64_t t = cases[i].t, n = cases[i].len, d = cases[i].d, heads = cases[i].heads;
        oct_kv kv = { .size = sizeof kv, .format = cases[i].format, .heads = cases[i].kv_heads, .d = d, .pages = cases[i].lanes, .page_size = n };
        const int64_t row = oct_kv_row_bytes(&kv), rows = oct_kv_bytes(&kv) / row;
        kv.k = ck_bench_mem(b, rows * row);
        kv.v = ck_bench_mem(b, rows * row);
        const oct_kv full = oct_kv_full(&kv);
        for (int64_t r = 0; r < 2 * rows; r++) {
            ck_bench_fill(b, x, OCT_F32, d, 1);
            oct_kv_store(&full, (uint8_t *)(r < rows ? kv.k : kv.v) + r % rows * row, x);
        }
        double pairs = 0;
        for (int64_t j = 0; j < t; j++) {
            len[j] = (int32_t)(t == cases[i].lanes ? n : j + 1);
            lane[j] = (int32_t)(t == cases[i].lanes ? j : 0);
            pairs += len[j];
        }
        oct_attn_args a = { .size = sizeof a, .t = t, .heads = heads, .d = d, .q = q, .y = y, .q_dtype = OCT_BF16, .y_dtype = OCT_BF16,
                            .len = len, .lane = lane, .kv = &kv };
        void *args[] = { &a };
        ck_time(b, cases[i].name, 2.0 * (double)(rows * row), 4.0 * pairs * (double)(heads * d), 1, args);
    }
}

const ck_op ck_attn = { &oct_op_attn, axes, sizeof axes / sizeof *axes, run, bench,
                        "cache formats F8_TOKEN_OUT and F8_HEAD, high_first, window, f16 and f32 queries" };
