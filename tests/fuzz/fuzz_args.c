/* fuzz_args.c - libFuzzer target: the input is decoded into the arguments of one op. Whatever they are, the four entry
 * points must answer: with a status, the same from check, choice, scratch and run, and nothing written on an error; or by
 * running within buffers that are exactly as large as the arguments demand. */
#define _GNU_SOURCE
#include "octavo.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* ---- The input, byte by byte; zeros behind its end ---- */

static const uint8_t *at, *end;
static uint64_t byte(void) { return at < end ? *at++ : 0; }
static uint64_t word(void) { uint64_t v = 0; for (int i = 0; i < 8; i++) v = v << 8 | byte(); return v; }

static const int64_t odd[] = { -1, -2, 1, 3, 127, 128, 129, 255, 1 << 20, INT32_MAX, (int64_t)INT32_MAX + 1, INT32_MIN, 1LL << 40,
                               1LL << 61, 1LL << 62, INT64_MAX / 2, INT64_MAX - 3, INT64_MAX, INT64_MIN, INT64_MIN + 1 };
static int64_t odd_value(void)
{
    const uint64_t b = byte();
    return b < 200 ? odd[b % (sizeof odd / sizeof *odd)] : (int64_t)word();
}

/* Mostly a small extent; sometimes anything. */
static int64_t extent(void)
{
    const uint64_t b = byte();
    return b < 180 ? (int64_t)(b % 20) : b < 230 ? (int64_t)((b - 180) * 5) : odd_value();
}
/* Mostly packed or a little more; sometimes anything. */
static int64_t stride(int64_t packed)
{
    const uint64_t b = byte();
    return b < 128 ? 0 : b < 220 ? (int64_t)((uint64_t)packed + (b - 128) % 5) : odd_value();
}
/* Mostly one of 0 .. n-1. */
static int32_t constant(int n)
{
    const uint64_t b = byte();
    return b < 240 ? (int32_t)(b % (uint64_t)n) : (int32_t)odd_value();
}
static int32_t dtype(int32_t likely, int32_t other)
{
    const uint64_t b = byte();
    return b < 120 ? likely : b < 235 ? other : constant(16);
}

/* ---- Buffers of exactly the demanded bytes ---- */

enum { BUFS = 24, LIMIT = 1 << 17 };
typedef struct buffer { unsigned char *base; size_t bytes; uint64_t sum; int output; } buffer;
static buffer bufs[BUFS];
static int buf_count, too_large;

static uint64_t sum_of(const buffer *b)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < b->bytes; i++) h = (h ^ b->base[i]) * 1099511628211u;
    return h;
}

typedef __int128 wide; /* products of three int64_t extents, the largest of them bounded */
static wide limited(wide v) { return v > (wide)1 << 100 ? (wide)1 << 100 : v; }

/* Behind the last element of [outer][rows][cols], in elements. The arguments passed the check: nothing is negative. */
static wide span(int64_t outer, int64_t outer_stride, int64_t rows, int64_t ld, int64_t cols)
{
    if (!outer || !rows || !cols) return 0;
    return limited((wide)(outer - 1) * outer_stride + (wide)(rows - 1) * ld + cols);
}

static void *buffer_of(wide bytes, int output, int fill)
{
    if (bytes < 0 || bytes > LIMIT || buf_count == BUFS) {
        too_large = 1;
        return 0;
    }
    buffer *b = &bufs[buf_count++];
    *b = (buffer){ malloc((size_t)bytes), (size_t)bytes, 0, output };
    if (!b->base) abort();
    for (size_t i = 0; i < b->bytes; i++) b->base[i] = (unsigned char)(at < end && fill < 0 ? byte() : (uint64_t)fill + i * 37);
    return b->base;
}
static void *in(wide bytes) { return buffer_of(bytes, 0, -1); }
static void *out(wide bytes) { return buffer_of(bytes, 1, 0xa5); }
/* An input that a call may do without. */
static void *maybe(wide bytes) { return byte() & 1 ? in(bytes) : 0; }
/* n whole numbers, mostly below limit. */
static int32_t *numbers(wide n, int64_t limit)
{
    int32_t *p = buffer_of(n * 4, 0, 0);
    if (!too_large)
        for (wide i = 0; i < n; i++) {
            const uint64_t b = byte();
            p[i] = b < 250 ? (int32_t)(limit > 0 ? b % (uint64_t)limit : 0) : b < 253 ? -1 : (int32_t)odd_value();
        }
    return p;
}

/* Extents that run: a loop over 2^40 empty rows ends too late. */
static void small(int64_t a, int64_t b, int64_t c, int64_t d)
{
    if (a > LIMIT || b > LIMIT || c > LIMIT || (wide)a * b * c > 1 << 20 || (wide)a * b * c * d > 1 << 20) too_large = 1;
}

static void free_all(void)
{
    while (buf_count) free(bufs[--buf_count].base);
    too_large = 0;
}

/* ---- Ops: fill decodes everything but pointers; give allocates what the arguments demand ---- */

static int64_t or_(int64_t v, int64_t other) { return v ? v : other; }
static int64_t cdiv(int64_t a, int64_t b) { return a / b + (a % b != 0); }
static int elem(int32_t type) { return oct_dtype_bits(type) / 8; }

/* Of a scale matrix in elements, with a stride of 0 meaning packed. */
static wide scales(int32_t scaling, int32_t layout, int64_t m, int64_t k, int64_t bm, int64_t bk, int64_t ld)
{
    if (scaling == OCT_SCALE_NONE) return 0;
    if (scaling == OCT_SCALE_TENSOR) return 1;
    if (scaling == OCT_SCALE_ROW) return m;
    if (scaling == OCT_SCALE_COL) return k;
    const int64_t r = scaling == OCT_SCALE_GROUP ? m : cdiv(m, bm), c = cdiv(k, bk);
    const int64_t rows = layout == OCT_MN_MAJOR ? c : r, cols = layout == OCT_MN_MAJOR ? r : c;
    return span(1, 0, rows, or_(ld, cols), cols);
}

static void quant_fill(void *p)
{
    oct_quant_args *a = p;
    a->scaling = constant(6); a->rule = constant(2); a->scale_layout = constant(2); a->flags = constant(2);
    a->m = extent(); a->k = extent(); a->block_m = extent(); a->block_k = extent();
    a->x_dtype = byte() < 80 ? OCT_F16 : dtype(OCT_F32, OCT_BF16); a->y_dtype = dtype(OCT_F8E4M3FN, OCT_F8E4M3FN);
    a->ldx = stride(a->k); a->ldy = stride(a->k);
    a->ld_scale = stride(a->scaling == OCT_SCALE_ROW ? a->m : 4);
    a->group_m = byte() < 128 ? 0 : extent();
}
static void quant_give(void *p)
{
    oct_quant_args *a = p;
    small(a->m, a->k, 1, 1);
    const wide n = scales(a->scaling, a->scale_layout, a->m, a->k, or_(a->block_m, 128), or_(a->block_k, 128), a->ld_scale);
    a->x = in(span(1, 0, a->m, or_(a->ldx, a->k), a->k) * elem(a->x_dtype));
    a->y = out(span(1, 0, a->m, or_(a->ldy, a->k), a->k));
    a->scale = a->flags ? in(n * 4) : out(n * 4);
    a->scale_ub = a->flags ? 0 : maybe(4);
    if (!a->flags) a->valid_m = maybe(a->group_m ? 8 * (wide)cdiv(a->m, a->group_m) : 8);
}

static void dequant_fill(void *p)
{
    oct_dequant_args *a = p;
    a->scaling = constant(6); a->scale_layout = constant(2);
    a->m = extent(); a->k = extent(); a->block_m = extent(); a->block_k = extent();
    a->x_dtype = dtype(OCT_F8E4M3FN, OCT_F8E4M3FN); a->y_dtype = byte() < 80 ? OCT_F16 : dtype(OCT_F32, OCT_BF16);
    a->ldx = stride(a->k); a->ldy = stride(a->k); a->ld_scale = stride(a->scaling == OCT_SCALE_ROW ? a->m : 4);
}
static void dequant_give(void *p)
{
    oct_dequant_args *a = p;
    small(a->m, a->k, 1, 1);
    a->x = in(span(1, 0, a->m, or_(a->ldx, a->k), a->k));
    a->y = out(span(1, 0, a->m, or_(a->ldy, a->k), a->k) * elem(a->y_dtype));
    a->scale = in(4 * scales(a->scaling, a->scale_layout, a->m, a->k, or_(a->block_m, 128), or_(a->block_k, 128), a->ld_scale));
}

static void gemm_fill(void *p)
{
    oct_gemm_args *a = p;
    a->scaling = constant(5); a->scale_layout = constant(2); a->flags = constant(16);
    a->w_layout = byte() < 250 ? 0 : constant(3);
    a->m = extent(); a->n = extent(); a->k = extent(); a->batch = byte() < 200 ? (int64_t)(byte() % 3) : extent();
    a->block_m = byte() < 200 ? 0 : extent(); a->block_n = byte() < 200 ? 0 : extent(); a->block_k = byte() < 200 ? 0 : extent();
    a->x_dtype = dtype(OCT_F8E4M3FN, OCT_BF16); a->w_dtype = dtype(OCT_F8E4M3FN, OCT_BF16);
    a->y_dtype = dtype(OCT_BF16, OCT_F32); a->bias_dtype = dtype(OCT_BF16, OCT_F32);
    a->ldx = stride(a->k); a->ldw = stride(a->k); a->ldy = stride(a->n);
    a->stride_x = byte() < 200 ? 0 : odd_value(); a->stride_w = byte() < 200 ? 0 : byte() < 128 ? OCT_BROADCAST : odd_value();
    a->stride_y = byte() < 200 ? 0 : odd_value(); a->stride_bias = byte() < 200 ? 0 : odd_value();
    a->groups = byte() < 170 ? 0 : byte() < 100 ? a->batch : extent();
}
static wide matrix(int64_t batch, int64_t batch_stride, int64_t rows, int64_t ld, int64_t cols)
{
    if (!batch || !rows || !cols || ld < 0 || batch_stride < OCT_BROADCAST) return 0; /* negative: the run will say so */
    ld = or_(ld, cols);
    if (rows && (wide)rows * ld > (wide)1 << 40) return (wide)1 << 60;
    return span(batch, batch_stride == OCT_BROADCAST ? 0 : or_(batch_stride, rows * ld), rows, ld, cols);
}
static void gemm_give(void *p)
{
    oct_gemm_args *a = p;
    const int64_t outer = or_(a->batch, 1), b = or_(a->groups, outer);
    small(a->m, a->n, b, or_(a->k, 1));
    if (a->groups > 0) a->m_sizes = in(8 * (wide)a->groups);
    a->x = in(matrix(outer, a->stride_x, a->m, a->ldx, a->k) * elem(a->x_dtype));
    a->w = in(matrix(b, a->stride_w, a->n, a->ldw, a->k) * elem(a->w_dtype));
    a->y = out(matrix(outer, a->stride_y, a->m, a->ldy, a->n) * elem(a->y_dtype));
    if (a->x_dtype == OCT_F8E4M3FN && a->scaling) a->x_scale = in((wide)4 * b * scales(a->scaling, a->scale_layout, a->m, a->k, 128, 128, 0));
    if (a->scaling)
        a->w_scale = in((wide)4 * b * scales(a->scaling == OCT_SCALE_GROUP ? OCT_SCALE_BLOCK : a->scaling, a->scale_layout, a->n, a->k, 128, 128, 0));
    if (elem(a->bias_dtype) > 1 && a->bias_dtype != OCT_F16 && a->bias_dtype != OCT_I32)
        a->bias = maybe(matrix(b, a->stride_bias, 1, 0, a->n) * elem(a->bias_dtype));
}

static int32_t out_type(void) { const uint64_t b = byte(); return b < 80 ? OCT_F8E4M3FN : b < 160 ? OCT_BF16 : b < 235 ? OCT_F32 : constant(16); }

static void norm_quant_fill(void *p)
{
    oct_norm_quant_args *a = p;
    a->scaling = byte() < 100 ? 0 : constant(5); a->rule = constant(2); a->scale_layout = constant(2); a->flags = byte() < 250 ? 0 : constant(3);
    a->m = extent(); a->k = extent(); a->block_k = extent();
    a->x_dtype = dtype(OCT_F32, OCT_BF16); a->residual_dtype = dtype(OCT_F32, OCT_BF16); a->weight_dtype = dtype(OCT_F32, OCT_BF16);
    a->y_dtype = out_type();
    a->ldx = stride(a->k); a->ld_residual = stride(a->k); a->ld_residual_out = stride(a->k); a->ldy = stride(a->k);
    a->ld_scale = stride(a->scaling == OCT_SCALE_ROW ? a->m : 4);
    a->eps = byte() < 200 ? 1e-5f : (float)odd_value();
}
static int wide_type(int32_t type) { return type == OCT_F32 || type == OCT_BF16; }
static void norm_quant_give(void *p)
{
    oct_norm_quant_args *a = p;
    small(a->m, a->k, 1, 1);
    a->x = in(elem(a->x_dtype) * matrix(1, 0, a->m, a->ldx, a->k));
    a->y = out(elem(a->y_dtype) * matrix(1, 0, a->m, a->ldy, a->k));
    if (wide_type(a->residual_dtype) && byte() & 1) {
        a->residual = in(elem(a->residual_dtype) * matrix(1, 0, a->m, a->ld_residual, a->k));
        if (byte() & 1) a->residual_out = out(elem(a->residual_dtype) * matrix(1, 0, a->m, a->ld_residual_out, a->k));
    }
    if (wide_type(a->weight_dtype)) a->weight = maybe((wide)elem(a->weight_dtype) * a->k);
    if (a->scaling) a->scale = out(4 * scales(a->scaling, a->scale_layout, a->m, a->k, 1, or_(a->block_k, 128), a->ld_scale));
    if (a->scaling) a->scale_ub = maybe(4);
}

static void silu_mul_quant_fill(void *p)
{
    oct_silu_mul_quant_args *a = p;
    a->scaling = byte() < 100 ? 0 : constant(5); a->rule = constant(2); a->scale_layout = constant(2); a->flags = byte() < 250 ? 0 : constant(3);
    a->m = extent(); a->k = extent(); a->block_k = extent();
    a->x_dtype = dtype(OCT_F32, OCT_BF16); a->y_dtype = out_type();
    a->ld_gate = stride(a->k); a->ld_up = stride(a->k); a->ldy = stride(a->k);
    a->ld_scale = stride(a->scaling == OCT_SCALE_ROW ? a->m : 4);
}
static void silu_mul_quant_give(void *p)
{
    oct_silu_mul_quant_args *a = p;
    small(a->m, a->k, 1, 1);
    a->gate = in(elem(a->x_dtype) * matrix(1, 0, a->m, a->ld_gate, a->k));
    a->up = in(elem(a->x_dtype) * matrix(1, 0, a->m, a->ld_up, a->k));
    a->y = out(elem(a->y_dtype) * matrix(1, 0, a->m, a->ldy, a->k));
    if (a->scaling) a->scale = out(4 * scales(a->scaling, a->scale_layout, a->m, a->k, 1, or_(a->block_k, 128), a->ld_scale));
    if (a->scaling) a->scale_ub = maybe(4);
}

/* A cache in its own allocation, so that its size field, too, can lie. */
static oct_kv *kv_fill(void)
{
    oct_kv kv = { .size = sizeof kv };
    kv.format = byte() < 240 ? 1 + (int32_t)(byte() % 3) : constant(8);
    kv.groups = byte() < 230 ? (int32_t)(1 << byte() % 4) : constant(10);
    kv.high_first = byte() < 250 ? 0 : constant(2);
    kv.heads = byte() < 220 ? 1 + (int64_t)(byte() % 4) : extent();
    kv.d = byte() < 220 ? 8 * (1 + (int64_t)(byte() % 6)) : extent();
    kv.pages = extent();
    kv.page_size = byte() < 220 ? 1 + (int64_t)(byte() % 16) : extent();
    kv.lanes = byte() < 128 ? 0 : extent();
    if (byte() < 60) { kv.head_bytes = stride((int64_t)(2 * (uint64_t)kv.d)); kv.token_bytes = stride(1024); kv.page_bytes = stride(8192); }
    else if (byte() < 60) { /* heads first */
        kv.token_bytes = stride((int64_t)(4 + 2 * (uint64_t)kv.d));
        kv.head_bytes = stride((int64_t)((uint64_t)kv.page_size * (uint64_t)kv.token_bytes));
    }
    if (byte() & 1) {
        kv.ld_page_table = extent();
        kv.page_table = (const int32_t *)(const void *)odd; /* until it is known how large it has to be */
    }
    if (byte() > 250) kv.size = byte() < 128 ? (int64_t)(byte() % sizeof kv) : odd_value();
    const int64_t room = kv.size > (int64_t)sizeof kv && kv.size <= 65536 ? kv.size : (int64_t)sizeof kv;
    oct_kv *p = buffer_of(room, 0, 0);
    memset(p, 0, (size_t)room);
    memcpy(p, &kv, sizeof kv);
    return p;
}
static void kv_give(const oct_kv *given)
{
    oct_kv *kv = (oct_kv *)(uintptr_t)given;
    if (!kv || kv->size < (int64_t)offsetof(oct_kv, k)) { too_large = 1; return; }
    const int64_t bytes = oct_kv_bytes(kv);
    kv->k = out(bytes < 0 ? (wide)1 << 60 : bytes);
    kv->v = out(bytes < 0 ? (wide)1 << 60 : bytes);
    if (kv->page_table) kv->page_table = numbers((wide)or_(kv->lanes, kv->pages) * kv->ld_page_table, kv->pages);
}

static void rope_kv_fill(void *p)
{
    oct_rope_kv_args *a = p;
    a->pairs = constant(3); a->flags = constant(2);
    a->t = extent(); a->heads = byte() < 200 ? (int64_t)(byte() % 5) : extent();
    a->kv = byte() < 200 ? kv_fill() : 0;
    a->d = a->kv && byte() < 240 ? a->kv->d : extent();
    a->dtype = dtype(OCT_BF16, OCT_BF16);
    a->head_q = stride(a->d); a->head_q_out = stride(a->d); a->head_k = stride(a->d); a->head_v = stride(a->d); a->head_k_out = stride(a->d);
    a->norm_eps = byte() < 200 ? 0 : (float)odd_value();
    if (byte() < 60) { a->ldq = stride(300); a->ldq_out = stride(300); a->ldk = stride(300); a->ldv = stride(300); a->ldk_out = stride(300); }
    a->table_len = byte() < 200 ? (int64_t)(byte() % 20) : odd_value();
    a->rope = (oct_rope){ .theta = byte() < 240 ? 1e4f : (float)odd_value(), .scaling = constant(2),
                          .factor = byte() < 240 ? 8 : (float)odd_value(), .low_freq = byte() < 240 ? 1 : (float)odd_value(),
                          .high_freq = byte() < 240 ? 4 : (float)odd_value(), .old_context = byte() < 240 ? 8192 : (float)odd_value() };
}
static void rope_kv_give(void *p)
{
    oct_rope_kv_args *a = p;
    const oct_kv *kv = a->kv;
    small(a->t, a->heads, 1, a->d);
    if (kv) kv_give(kv);
    const int64_t kv_heads = kv && !too_large ? kv->heads : 0, cap = kv && !too_large ? kv->page_size * (kv->page_table ? kv->ld_page_table : 1) : 20;
    if (byte() < 220) {
        a->q = in(2 * matrix(a->t, a->ldq, a->heads, a->head_q, a->d));
        a->q_out = out(2 * matrix(a->t, a->ldq_out, a->heads, a->head_q_out, a->d));
    }
    if (kv) {
        a->k = in(2 * matrix(a->t, a->ldk, kv_heads, a->head_k, a->d));
        a->v = in(2 * matrix(a->t, a->ldv, kv_heads, a->head_v, a->d));
        if (byte() & 1) a->k_out = out(2 * matrix(a->t, a->ldk_out, kv_heads, a->head_k_out, a->d));
    }
    a->pos = numbers(a->t, cap);
    a->valid_t = maybe(8);
    if (byte() & 1) a->slot = numbers(a->t, cap);
    if (byte() & 1) a->lane = numbers(a->t, kv && !too_large ? or_(kv->lanes, kv->pages) : 1);
    if (byte() & 1) a->table = in(4 * matrix(1, 0, a->table_len, 0, a->d));
}

static void kv_dequant_fill(void *p)
{
    oct_kv_dequant_args *a = p;
    a->kv = byte() < 250 ? kv_fill() : 0;
    a->max_t = extent();
    a->y_dtype = dtype(OCT_F32, OCT_BF16);
    if (byte() < 80) { a->head_out = stride(64); a->token_out = stride(256); a->lane_out = stride(4096); }
}
static void kv_dequant_give(void *p)
{
    oct_kv_dequant_args *a = p;
    kv_give(a->kv);
    if (too_large) return;
    const oct_kv *kv = a->kv;
    const int64_t head = or_(a->head_out, kv->d), token = or_(a->token_out, kv->heads * head), lanes = or_(kv->lanes, kv->pages);
    small(lanes, a->max_t, kv->heads, kv->d);
    if (too_large || (wide)a->max_t * token > LIMIT || (wide)lanes * a->max_t > LIMIT) { too_large = 1; return; }
    const int64_t lane = or_(a->lane_out, a->max_t * token);
    const wide n = !lanes || !a->max_t ? 0 : (wide)(lanes - 1) * lane + (wide)(a->max_t - 1) * token + (kv->heads - 1) * head + kv->d;
    if (byte() < 200) a->k_out = out(n * elem(a->y_dtype));
    if (byte() < 200) a->v_out = out(n * elem(a->y_dtype));
    a->len = numbers(lanes, a->max_t + 1);
}

static void attn_fill(void *p)
{
    oct_attn_args *a = p;
    a->kv = byte() < 250 ? kv_fill() : 0;
    a->t = extent();
    a->heads = a->kv && byte() < 230 ? (int64_t)((uint64_t)a->kv->heads * (1 + byte() % 4)) : extent();
    a->d = a->kv && byte() < 240 ? a->kv->d : extent();
    a->q_dtype = dtype(OCT_BF16, OCT_BF16); a->y_dtype = dtype(OCT_F32, OCT_BF16);
    a->head_q = stride(a->d); a->head_y = stride(a->d);
    if (byte() < 60) { a->ldq = stride(300); a->ldy = stride(300); }
    a->scale = byte() < 200 ? 0 : (float)odd_value();
    if (byte() > 250) { a->window = constant(2); a->flags = constant(2); }
    a->splits = byte() < 120 ? 0 : constant(6);
    a->ld_split = stride((int64_t)a->splits * 4);
}
static void attn_give(void *p)
{
    oct_attn_args *a = p;
    const oct_kv *kv = a->kv;
    kv_give(kv);
    if (too_large) return;
    const int64_t cap = kv->page_size * (kv->page_table ? kv->ld_page_table : 1);
    small(a->t, a->heads, cap < 4096 ? 1 + cap : 4096, a->d);
    a->q = in(2 * matrix(a->t, a->ldq, a->heads, a->head_q, a->d));
    a->y = out(elem(a->y_dtype) * matrix(a->t, a->ldy, a->heads, a->head_y, a->d));
    if (a->splits > 0) {
        const int64_t parts = a->splits * a->heads;
        small(a->t, parts, 1, a->d);
        if (byte() & 1) a->y_max = out(4 * matrix(1, 0, a->t, a->ld_split, parts));
        if (byte() & 1) a->y_sum = out(4 * matrix(1, 0, a->t, a->ld_split, parts));
        if (byte() & 1) a->y_split = out((wide)4 * a->t * parts * a->d);
    }
    a->len = numbers(a->t, (cap < 4096 ? cap : 4096) + 1);
    if (byte() & 1) a->lane = numbers(a->t, or_(kv->lanes, kv->pages));
}

/* ---- One op as the target sees it ---- */

typedef struct fuzz_op {
    int64_t size, on;
    oct_status (*run)(const void *);
    oct_status (*check)(const void *, char *, int64_t);
    oct_status (*choice)(const void *, char *, int64_t);
    int64_t (*scratch)(const void *);
    void (*fill)(void *);
    void (*give)(void *);
} fuzz_op;
#define CALLS(op)                                                                                                     \
    static oct_status op##_run(const void *a) { return oct_##op(a); }                                                 \
    static oct_status op##_check(const void *a, char *why, int64_t n) { return oct_##op##_check(a, why, n); }         \
    static oct_status op##_choice(const void *a, char *text, int64_t n) { return oct_##op##_choice(a, text, n); }     \
    static int64_t op##_scratch(const void *a) { return oct_##op##_scratch(a); }
#define OP(op)                                                                                                        \
    { (int64_t)sizeof(oct_##op##_args), (int64_t)offsetof(oct_##op##_args, on), op##_run, op##_check, op##_choice,    \
      op##_scratch, op##_fill, op##_give }
CALLS(quant) CALLS(dequant) CALLS(gemm) CALLS(norm_quant) CALLS(silu_mul_quant) CALLS(rope_kv) CALLS(kv_dequant) CALLS(attn)
static const fuzz_op ops[] = { OP(quant), OP(dequant), OP(gemm), OP(norm_quant), OP(silu_mul_quant), OP(rope_kv), OP(kv_dequant), OP(attn) };

static void backward(void *ctx, int64_t n, oct_body *body, void *arg)
{
    (void)ctx;
    while (n--) body(arg, n);
}

static int is_status(int64_t s) { return s <= OCT_OK && s >= OCT_E_VALUE; }
#define MUST(x)              \
    do {                     \
        if (!(x)) abort();   \
    } while (0)

/* The four entries agree on args that lie in exactly as many bytes as their size says. */
static oct_status ask(const fuzz_op *op, const void *args)
{
    char why[300] = "x", text[300] = "x";
    const oct_status s = op->check(args, why, sizeof why);
    MUST(is_status(s) && (s == OCT_OK) == !why[0]);
    MUST(op->choice(args, text, 1 + (int64_t)byte()) == s);
    const int64_t need = op->scratch(args);
    MUST(s == OCT_OK ? need >= 0 : need == s);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    _Alignas(16) unsigned char full[1024] = { 0 };
    at = data;
    end = data + n;
    const fuzz_op *op = &ops[byte() % (sizeof ops / sizeof *ops)];
    const uint64_t mode = byte();
    oct_on *on = (oct_on *)(void *)(full + op->on);
    oct_cpu_mask(mode & 1 ? 0 : ~0u);
    on->parallel_for = mode & 2 ? backward : 0;
    on->device_type = mode >= 252 ? constant(4) : 0;
    on->threads = byte() < 250 ? (int32_t)(byte() % 4) : constant(4);
    op->fill(full);

    /* The size: mostly right; a newer struct with a tail of zeros or not; an older one; nonsense. */
    int64_t size = op->size, room = op->size;
    if (mode >= 240) size = byte() & 1 ? (int64_t)(byte() * 8) : odd_value();
    if (size >= 8 && size <= 65536) room = size;
    memcpy(full, &size, sizeof size);
    unsigned char *args = calloc(1, (size_t)room);
    MUST(args);
    memcpy(args, full, (size_t)(room < op->size ? room : op->size));
    if (room > op->size && byte() & 1) args[room - 1] = 1;

    if (ask(op, args) != OCT_OK) {
        /* Refused as a shape: the run says so, too, and looks at no buffer. */
        const oct_status s = op->run(args);
        MUST(s < OCT_OK && is_status(s) && oct_error_text()[0]);
    } else if (size == op->size) {
        op->give(full);
        const int64_t need = op->scratch(args);
        on->scratch_bytes = need;
        on->scratch = 0;
        void *scratch = 0;
        if (need > 0 && need < 1 << 22 && !posix_memalign(&scratch, 64, (size_t)need)) {
            memset(scratch, 0xff, (size_t)need);
            on->scratch = scratch;
        }
        if (need >= 1 << 22) too_large = 1;
        if (!too_large) {
            memcpy(args, full, (size_t)op->size);
            for (int i = 0; i < buf_count; i++) bufs[i].sum = sum_of(&bufs[i]);
            const oct_status s = op->run(args);
            MUST(is_status(s) && s != OCT_E_DTYPE && s != OCT_E_UNSUPPORTED && s != OCT_E_SCRATCH && s != OCT_E_DEVICE);
            for (int i = 0; i < buf_count; i++) MUST((s == OCT_OK && bufs[i].output) || sum_of(&bufs[i]) == bufs[i].sum);
        }
        free(scratch);
    }
    free(args);
    free_all();
    return 0;
}
