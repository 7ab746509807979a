/* check_rope_kv.c - EXACT: q_out, k_out and every byte of both caches equal the reference's. */
#include "kv_case.h"
#include <string.h>

enum { T, HEADS, KV_HEADS, D, FORMAT, LAYOUT, STRIDES, PAD, PAIRS, SCALING, TABLE, SLOT, LANE, SKIP, OPERANDS, KIND, BAD, NORM, K_OUT, VALID };
static const ck_axis axes[] = {
    [T] = CK_INTS("t", 0, 1, 0, 2, 5, 9, 40),
    [HEADS] = CK_INTS("heads", 0, 1, 0, 2, 9),
    [KV_HEADS] = CK_INTS("kv heads", 0, 1, 2, 3),
    [D] = CK_INTS("d", 1, 2, 4, 14, 16, 18, 30, 64, 80, 96, 128, 130, 192, 256, 2048),
    [FORMAT] = CK_KV_FORMATS("cache"),
    [LAYOUT] = CK_KV_LAYOUTS("layout"),
    [STRIDES] = CK_KV_STRIDES("cache strides"),
    [PAD] = CK_INTS("pad", 0, 0, 3),
    [PAIRS] = CK_NAMES("pairs", "interleaved", "half", "none"),
    [SCALING] = CK_NAMES("scaling", "plain", "llama 3.1"),
    [TABLE] = CK_NAMES("table", "none", "long", "short"),
    [SLOT] = CK_NAMES("slot", "null", "given"),
    [LANE] = CK_NAMES("lane", "null", "given"),
    [SKIP] = CK_NAMES("skip", "none", "some", "all"),
    [OPERANDS] = CK_NAMES("operands", "q and kv", "kv", "q", "q in place"),
    [KIND] = CK_NAMES("x", "uniform", "near max", "subnormal", "all codes", "nan inf", "outlier row", "zero", "constant", "cancelling", "infinite"),
    [BAD] = CK_NAMES("bad", "no", "no", "no", "position", "lane", "slot", "page"),
    [NORM] = CK_NAMES("norm", "no", "no", "yes", "with eps"),
    [K_OUT] = CK_NAMES("k_out", "null", "apart", "in place"),
    [VALID] = CK_NAMES("valid t", "null", "some", "none", "beyond t"),
};

/* [t][heads, d] with `pad` between heads and between tokens. */
typedef struct rows { int64_t head, token, cols; } rows;
static rows shape(int64_t heads, int64_t d, int64_t pad)
{
    const int64_t head = d + pad;
    return (rows){ head, heads * head + 2 * pad, heads ? (heads - 1) * head + d : 0 };
}
static uint16_t *input(ck_case *c, const oct_rope_kv_args *a, int64_t heads, rows r, int output)
{
    const int64_t d = a->d, half = d / 2, step = a->pairs == OCT_ROPE_HALF ? 1 : 2, other = a->pairs == OCT_ROPE_HALF ? half : 1;
    uint16_t *x = output ? ck_output(c, a->t, r.cols, r.token, 2) : ck_input(c, a->t, r.cols, r.token, 2);
    float *cs = ck_output(c, 1, d, d, 4);
    for (int64_t i = 0; i < a->t; i++) {
        ck_fill(c, x + i * r.token, OCT_BF16, heads, d, r.head, (int)ck_pick(c, KIND));
        for (int64_t j = 0; ck_pick(c, KIND) == CK_KIND_COUNT + 1 && j < r.cols; j++) x[i * r.token + j] = 0x7f80;
        if (ck_pick(c, KIND) != CK_KIND_COUNT || a->pos[i] < 0) continue;
        oct_rope_row(&a->rope, d, a->pos[i], cs); /* x0 c near x1 s: the difference shows the order of the roundings */
        for (int64_t h = 0; h < heads; h++)
            for (int64_t j = 0; j < half; j++) {
                uint16_t *p = x + i * r.token + h * r.head + j * step;
                p[other] = oct_bf16_from_f32(oct_bf16_to_f32(p[0]) * cs[j] / (cs[half + j] != 0 ? cs[half + j] : 1));
            }
    }
    return x;
}

/* Puts a number out of range into one token, where the case asks for it and has one; 1 if it did. */
static int spoil(ck_case *c, const oct_rope_kv_args *a, int64_t valid, int32_t *pos, int32_t *slot, int32_t *lane)
{
    if (!valid) return 0;
    const int64_t i = (int64_t)(ck_rnd(c) >> 1) % valid, low = (int64_t)(ck_rnd(c) & 1);
    if (pos[i] < 0) return 0;
    switch (ck_pick(c, BAD)) {
    case 3: pos[i] = -2; return 1;
    case 4: lane[i] = low ? -1 : (int32_t)(a->kv ? a->kv->lanes : 0); return a->lane && a->kv;
    case 5: slot[i] = low ? -1 : 1 << 20; return a->slot && a->kv;
    case 6:
        if (!a->kv || !a->kv->page_table) return 0;
        const int64_t b = a->lane ? lane[i] : i, s = a->slot ? slot[i] : pos[i];
        ((int32_t *)(uintptr_t)a->kv->page_table)[b * a->kv->ld_page_table + s / a->kv->page_size] = low ? -1 : (int32_t)a->kv->pages;
        return 1;
    }
    return 0;
}

static void run(ck_case *c)
{
    const int64_t t = ck_pick(c, T), heads = ck_pick(c, HEADS), kv_heads = ck_pick(c, KV_HEADS), pad = ck_pick(c, PAD);
    const int with_q = ck_pick(c, OPERANDS) != 1, with_kv = ck_pick(c, OPERANDS) != 2, in_place = ck_pick(c, OPERANDS) == 3;
    const int64_t lanes = ck_pick(c, LANE) ? 3 : t + 1, room = t + 3;
    oct_kv kv = ck_kv(c, (int)ck_pick(c, FORMAT), (int)ck_pick(c, LAYOUT), (int)ck_pick(c, STRIDES), lanes, room, kv_heads, ck_pick(c, D));
    const int64_t d = kv.d, bytes = oct_kv_bytes(&kv), unit = kv.format == OCT_KV_BF16 ? 2 : 1;
    const rows q = shape(heads, d, pad), q_to = in_place ? q : shape(heads, d, pad ? 1 : 0), k = shape(kv_heads, d, pad ? 5 : 0);
    int32_t *pos = ck_input(c, 1, t, t, 4), *slot = ck_input(c, 1, t, t, 4), *lane = ck_input(c, 1, t, t, 4);
    for (int64_t i = 0; i < t; i++) {
        slot[i] = (int32_t)(room - 1 - i);
        lane[i] = (int32_t)(ck_rnd(c) >> 40) % 3;
        pos[i] = ck_pick(c, SLOT) ? (int32_t)(ck_rnd(c) >> 40) % (i % 2 ? 40 : 140000) : slot[i];
        if (ck_pick(c, SKIP) == 2 || (ck_pick(c, SKIP) == 1 && ck_rnd(c) & 1)) pos[i] = -1;
    }
    oct_rope_kv_args a = { .size = sizeof a, .pairs = (int32_t)ck_pick(c, PAIRS), .t = t, .heads = heads, .d = d, .dtype = OCT_BF16,
                           .pos = pos, .slot = ck_pick(c, SLOT) ? slot : 0, .lane = ck_pick(c, LANE) ? lane : 0,
                           .rope = { 500000.0f, 0, 0, 0, 0, 0, { 0 } } };
    a.flags = ck_pick(c, NORM) > 1 ? OCT_ROPE_KV_NORM : 0;
    a.norm_eps = ck_pick(c, NORM) == 3 ? 1e-2f : 0;
    if (ck_pick(c, SCALING)) a.rope = (oct_rope){ 10000.0f, 1, 8.0f, 1.0f, 4.0f, 8192.0f, { 0 } };
    if (ck_pick(c, TABLE)) {
        a.table_len = ck_pick(c, TABLE) == 1 ? 60 : 3;
        float *table = ck_input(c, a.table_len, d, d, 4);
        if (oct_rope_table(&a.rope, d, 0, a.table_len, table) != OCT_OK) ck_fail(c, "oct_rope_table: %s", oct_error_text());
        a.table = table;
    }
    const int k_in_place = with_kv && ck_pick(c, K_OUT) == 2;
    const rows k_to = k_in_place ? k : shape(kv_heads, d, 7 - k.head + d); /* other strides than k's */
    if (with_kv) {
        a.k = input(c, &a, kv_heads, k, k_in_place);
        a.v = input(c, &a, kv_heads, k, 0);
        a.head_k = a.head_v = k.head;
        a.ldk = a.ldv = k.token;
        a.kv = &kv;
    }
    a.head_q = q.head;
    a.ldq = q.token;
    if (with_q) a.q = input(c, &a, heads, q, in_place);
    int64_t *valid = ck_input(c, 1, 1, 1, 8), count = t;
    if (ck_pick(c, VALID)) {
        a.valid_t = valid;
        *valid = ck_pick(c, VALID) == 1 ? (int64_t)(ck_rnd(c) >> 1) % (t + 1) : ck_pick(c, VALID) == 2 ? -(int64_t)(ck_rnd(c) & 1) : t + 5;
        count = *valid < 0 ? 0 : *valid < t ? *valid : t;
        for (int64_t i = count; i < t; i++) pos[i] = slot[i] = lane[i] = -9; /* nobody looks at them */
    }
    oct_rope_kv_args want = a;
    want.valid_t = 0;
    want.t = count;
    oct_kv want_kv = kv;
    if (with_kv) {
        want.kv = &want_kv;
        kv.k = ck_output(c, 1, bytes / unit, bytes / unit, unit);
        kv.v = ck_output(c, 1, bytes / unit, bytes / unit, unit);
        want_kv.k = ck_output(c, 1, bytes / unit, bytes / unit, unit);
        want_kv.v = ck_output(c, 1, bytes / unit, bytes / unit, unit);
    }
    if (with_q) {
        a.head_q_out = want.head_q_out = q_to.head;
        a.ldq_out = want.ldq_out = q_to.token;
        a.q_out = in_place ? (void *)(uintptr_t)a.q : ck_output(c, t, q_to.cols, q_to.token, 2);
        want.q_out = ck_output(c, t, q_to.cols, q_to.token, 2);
        if (in_place) {
            memcpy(want.q_out, a.q, (size_t)(t ? (t - 1) * q.token + q.cols : 0) * 2);
            want.q = want.q_out;
        }
    }
    if (with_kv && ck_pick(c, K_OUT)) {
        a.ldk_out = want.ldk_out = k_to.token;
        a.head_k_out = want.head_k_out = k_to.head;
        a.k_out = k_in_place ? (void *)(uintptr_t)a.k : ck_output(c, t, k_to.cols, k_to.token, 2);
        want.k_out = ck_output(c, t, k_to.cols, k_to.token, 2);
        if (k_in_place) {
            memcpy(want.k_out, a.k, (size_t)(t ? (t - 1) * k.token + k.cols : 0) * 2);
            want.k = want.k_out;
        }
    }
    if (!ck_fits(c, &a)) return;

    if (spoil(c, &a, count, pos, slot, lane)) { /* found before anything is written */
        if (oct_rope_kv(&a) != OCT_E_VALUE) ck_fail(c, "a number out of range is taken");
    } else if (!ck_run(c, ck_ref(c), &want) || !ck_run(c, ck_row(c), &a))
        return;
    if (with_q) ck_same(c, "q_out", a.q_out, want.q_out, t, q_to.cols, q_to.token, 2);
    if (a.k_out) ck_same(c, "k_out", a.k_out, want.k_out, t, k_to.cols, k_to.token, 2);
    if (with_kv) ck_same(c, "k cache", kv.k, want_kv.k, 1, bytes / unit, bytes / unit, unit);
    if (with_kv) ck_same(c, "v cache", kv.v, want_kv.v, 1, bytes / unit, bytes / unit, unit);
    ck_compared(c, 1); /* that it ran and touched nothing else */
}

static void bench(ck_bench *b)
{
    enum { HEADS_ = 32, KV = 8, D_ = 128, SETS = 8 };
    static const struct { const char *name; int format, groups, t; } cases[] = {
        { "decode 16, bf16", OCT_KV_BF16, 1, 16 },     { "decode 16, f8 token", OCT_KV_F8_TOKEN, 1, 16 },
        { "decode 16, i4", OCT_KV_I4, 1, 16 },         { "prefill 512, bf16", OCT_KV_BF16, 1, 512 },
        { "prefill 512, f8 token", OCT_KV_F8_TOKEN, 1, 512 }, { "prefill 512, i4", OCT_KV_I4, 1, 512 },
    };
    const oct_rope rope = { 500000.0f, 0, 0, 0, 0, 0, { 0 } };
    float *table = ck_bench_mem(b, 1024 * D_ * 4);
    uint16_t *x = ck_bench_mem(b, 512LL * (HEADS_ + 2 * KV) * D_ * 2), *y = ck_bench_mem(b, 512LL * HEADS_ * D_ * 2);
    int32_t *pos = ck_bench_mem(b, 2 * 512 * 4), *lane = pos + 512;
    oct_rope_table(&rope, D_, 0, 1024, table);
    ck_bench_fill(b, x, OCT_BF16, 512LL * (HEADS_ + 2 * KV) * D_, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int64_t t = cases[i].t;
        oct_kv kv = { .size = sizeof kv, .format = cases[i].format, .groups = cases[i].groups, .heads = KV, .d = D_,
                      .pages = t == 16 ? 16 : 1, .page_size = t == 16 ? 256 : 512 };
        kv.k = ck_bench_mem(b, oct_kv_bytes(&kv));
        kv.v = ck_bench_mem(b, oct_kv_bytes(&kv));
        oct_rope_kv_args a[SETS];
        void *args[SETS];
        for (int64_t j = 0; j < t; j++) {
            pos[j] = (int32_t)(t == 16 ? 100 + j : j);
            lane[j] = (int32_t)(t == 16 ? j : 0);
        }
        for (int s = 0; s < SETS; s++) {
            a[s] = (oct_rope_kv_args){ .size = sizeof *a, .pairs = OCT_ROPE_HALF, .t = t, .heads = HEADS_, .d = D_, .q = x,
                .ldq = (HEADS_ + 2 * KV) * D_, .q_out = y, .k = x + HEADS_ * D_, .ldk = (HEADS_ + 2 * KV) * D_,
                .v = x + (HEADS_ + KV) * D_, .ldv = (HEADS_ + 2 * KV) * D_, .dtype = OCT_BF16, .pos = pos, .lane = lane,
                .rope = rope, .table = table, .table_len = 1024, .kv = &kv };
            args[s] = &a[s];
        }
        ck_time(b, cases[i].name, (double)t * ((2 * HEADS_ + 2 * KV) * D_ * 2 + 2 * KV * (double)oct_kv_row_bytes(&kv)), 0, SETS, args);
    }
}

const ck_op ck_rope_kv = { &oct_op_rope_kv, axes, sizeof axes / sizeof *axes, run, bench,
                           "cache formats F8_TOKEN_OUT and F8_HEAD, high_first, f32 and f16" };
