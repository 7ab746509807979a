/* check_kv_dequant.c - EXACT: every byte equals the reference's. */
#include "kv_case.h"

enum { LANES, MAX_T, LEN, HEADS, D, FORMAT, LAYOUT, STRIDES, Y, OUT, PAD, KIND };
static const ck_axis axes[] = {
    [LANES] = CK_INTS("lanes", 0, 1, 2, 5),
    [MAX_T] = CK_INTS("max_t", 1, 1, 0, 2, 3, 5, 6, 9, 15, 16, 17, 31, 32, 33, 64, 100),
    [LEN] = CK_NAMES("len", "full", "any", "zero"),
    [HEADS] = CK_INTS("heads", 0, 1, 2, 3),
    [D] = CK_INTS("d", 1, 2, 4, 14, 16, 18, 30, 64, 80, 96, 128, 130, 192, 256, 2048),
    [FORMAT] = CK_KV_FORMATS("cache"),
    [LAYOUT] = CK_KV_LAYOUTS("layout"),
    [STRIDES] = CK_KV_STRIDES("cache strides"),
    [Y] = CK_NAMES("y", "f32", "bf16"),
    [OUT] = CK_NAMES("out", "k and v", "k", "v"),
    [PAD] = CK_INTS("pad", 0, 0, 3),
    [KIND] = CK_KV_KINDS("values"),
};

static void call(ck_case *c, int layout, int strides, int64_t lens)
{
    const int64_t lanes = ck_pick(c, LANES), max_t = ck_pick(c, MAX_T), heads = ck_pick(c, HEADS), pad = ck_pick(c, PAD);
    oct_kv kv = ck_kv(c, (int)ck_pick(c, FORMAT), layout, strides, lanes, oct_max(max_t, 1), heads, ck_pick(c, D));
    const int64_t d = kv.d, bytes = oct_kv_bytes(&kv), unit = kv.format == OCT_KV_BF16 ? 2 : 1, elem = ck_pick(c, Y) ? 2 : 4;
    int32_t *len = ck_input(c, 1, lanes, lanes, 4);
    for (int64_t b = 0; b < lanes; b++)
        len[b] = (int32_t)(lens == 2 ? 0 : lens ? (int64_t)(ck_rnd(c) >> 1) % (max_t + 1) : max_t);
    kv.k = ck_input(c, 1, bytes / unit, bytes / unit, unit);
    kv.v = ck_input(c, 1, bytes / unit, bytes / unit, unit);
    ck_kv_fill(c, &kv, kv.k, len, (int)ck_pick(c, KIND));
    ck_kv_fill(c, &kv, kv.v, len, (int)ck_pick(c, KIND));
    oct_kv_dequant_args a = { .size = sizeof a, .kv = &kv, .len = len, .max_t = max_t, .y_dtype = ck_pick(c, Y) ? OCT_BF16 : OCT_F32 };
    a.head_out = d + pad;
    a.token_out = heads * a.head_out + pad;
    a.lane_out = max_t * a.token_out + 2 * pad;
    const int64_t cols = max_t ? (max_t - 1) * a.token_out + (heads - 1) * a.head_out + d : 0;
    oct_kv_dequant_args want = a;
    if (ck_pick(c, OUT) != 2) {
        a.k_out = ck_output(c, lanes, cols, a.lane_out, elem);
        want.k_out = ck_output(c, lanes, cols, a.lane_out, elem);
    }
    if (ck_pick(c, OUT) != 1) {
        a.v_out = ck_output(c, lanes, cols, a.lane_out, elem);
        want.v_out = ck_output(c, lanes, cols, a.lane_out, elem);
    }
    if (!ck_fits(c, &a) || !ck_run(c, ck_ref(c), &want) || !ck_run(c, ck_row(c), &a)) return;
    if (a.k_out) ck_same(c, "k_out", a.k_out, want.k_out, lanes, cols, a.lane_out, elem);
    if (a.v_out) ck_same(c, "v_out", a.v_out, want.v_out, lanes, cols, a.lane_out, elem);
    ck_compared(c, 1); /* that it ran and touched nothing else */
}

static void run(ck_case *c)
{
    call(c, (int)ck_pick(c, LAYOUT), (int)ck_pick(c, STRIDES), ck_pick(c, LEN));
    call(c, 0, 0, 0); /* packed and full: a row ends where memory does */
}

static void bench(ck_bench *b)
{
    enum { LANES_ = 4, TOKENS = 1024, KV = 8, D_ = 128 };
    static const struct { const char *name; int format; } cases[] = { { "4x1024x8x128 bf16", OCT_KV_BF16 }, { "4x1024x8x128 f8 token", OCT_KV_F8_TOKEN },
                                                                      { "4x1024x8x128 i4", OCT_KV_I4 } };
    int32_t *len = ck_bench_mem(b, LANES_ * 4);
    void *out = ck_bench_mem(b, 2LL * LANES_ * TOKENS * KV * D_ * 2);
    for (int i = 0; i < LANES_; i++) len[i] = TOKENS;
    for (int i = 0; i < 3; i++) {
        oct_kv kv = { .size = sizeof kv, .format = cases[i].format, .heads = KV, .d = D_, .pages = LANES_, .page_size = TOKENS };
        kv.k = ck_bench_mem(b, oct_kv_bytes(&kv));
        kv.v = ck_bench_mem(b, oct_kv_bytes(&kv));
        ck_bench_fill(b, kv.k, OCT_F8E4M3FN, oct_kv_bytes(&kv), 1);
        ck_bench_fill(b, kv.v, OCT_F8E4M3FN, oct_kv_bytes(&kv), 1);
        oct_kv_dequant_args a = { .size = sizeof a, .kv = &kv, .len = len, .max_t = TOKENS, .y_dtype = OCT_BF16, .k_out = out,
                                  .v_out = (uint16_t *)out + (int64_t)LANES_ * TOKENS * KV * D_ };
        void *args[] = { &a };
        ck_time(b, cases[i].name, 2.0 * LANES_ * TOKENS * KV * ((double)oct_kv_row_bytes(&kv) + 2 * D_), 0, 1, args);
    }
}

const ck_op ck_kv_dequant = { &oct_op_kv_dequant, axes, sizeof axes / sizeof *axes, run, bench, "cache formats F8_TOKEN_OUT and F8_HEAD, high_first" };
