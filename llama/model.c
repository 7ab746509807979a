/* model.c - the forward pass. A layer is: norm, q k v, rotate and append to the cache, attention, output projection,
 * residual and norm, gate and up, SiLU product, down projection. The residual stream stays in f32. */
#include "llama/model_impl.h"
#include <stdio.h>
#include <string.h>

enum { CHUNK = 512 }; /* tokens a pass: buffers and GEMM tiles are sized for it */

typedef struct {
    lm_model *m;
    lm_cache *c;
    int64_t n; /* tokens of this pass */
    const int32_t *lane;
    char *err;
    size_t errn;
} pass;

static int check(pass *p, oct_status s)
{
    if (s == OCT_OK) return 0;
    snprintf(p->err, p->errn, "%s", oct_error_text());
    return -1;
}

/* Grows the scratch that every op of this model shares. */
static int scratch(pass *p, int64_t need)
{
    oct_on *on = &p->m->on;
    if (need < 0) return check(p, (oct_status)need);
    if (need <= on->scratch_bytes) return 0;
    lm_free(on->scratch);
    on->scratch = lm_alloc(need);
    on->scratch_bytes = on->scratch ? need : 0;
    if (on->scratch) return 0;
    snprintf(p->err, p->errn, "no memory for %lld bytes of scratch", (long long)need);
    return -1;
}

static int room(pass *p, int64_t n)
{
    lm_model *m = p->m;
    const lm_config *f = &m->config;
    if (n <= m->room) return 0;
    const int64_t q = f->heads * f->head_dim, widest = f->intermediate > f->hidden ? f->intermediate : f->hidden;
    struct { void **p; int64_t bytes; } const buffers[] = {
        { (void **)&m->residual, 4 * f->hidden }, { (void **)&m->delta, 4 * f->hidden },  { (void **)&m->x_scale, 4 },
        { &m->x8, widest > q ? widest : q },      { (void **)&m->x, 2 * f->hidden },      { (void **)&m->attn, 2 * q },
        { (void **)&m->qkv, 2 * (q + 2 * f->kv_heads * f->head_dim) },
        { (void **)&m->gate_up, 8 * f->intermediate }, { (void **)&m->act, 2 * f->intermediate },
        { (void **)&m->pos, 4 },                  { (void **)&m->len, 4 },
    };
    m->room = 0;
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        lm_free(*buffers[i].p);
        if (!(*buffers[i].p = lm_alloc(n * buffers[i].bytes))) {
            snprintf(p->err, p->errn, "no memory for a pass over %lld tokens", (long long)n);
            return -1;
        }
    }
    m->room = n;
    return 0;
}

static oct_rope rope_of(const lm_config *f)
{
    return (oct_rope){ (float)f->rope_theta, f->rope == LM_ROPE_LLAMA3, (float)f->rope_factor, (float)f->rope_low_freq,
                       (float)f->rope_high_freq, (float)f->rope_original_positions, { 0, 0 } };
}

/* The table covers every position that the cache can hold, up to a size that a table is worth. */
static int rope_table(pass *p)
{
    lm_model *m = p->m;
    const lm_config *f = &m->config;
    const int64_t want = p->c->ctx < 1 << 17 ? p->c->ctx : 1 << 17;
    if (want <= m->rope_len) return 0;
    lm_free(m->rope_table);
    m->rope_len = 0;
    if (!(m->rope_table = lm_alloc(want * f->head_dim * 4))) {
        snprintf(p->err, p->errn, "no memory for the rotary table of %lld positions", (long long)want);
        return -1;
    }
    m->rope_len = want;
    const oct_rope r = rope_of(f);
    return check(p, oct_rope_table(&r, f->head_dim, 0, want, m->rope_table));
}

static int wants_f8(const lm_model *m, const linear_group *g)
{
    return g->parts == 1 && g->part[0].dtype == OCT_F8E4M3FN && !m->options.act_bf16;
}

/* y[n][g->n] = x w^T + bias, where x is bf16, or (x8 set) FP8 with m->x_scale. A group of mixed dtypes has its FP8 parts
 * quantize x here. */
static int multiply(pass *p, const linear_group *g, const uint16_t *x, int x8, void *y, int32_t y_dtype, int64_t n)
{
    lm_model *m = p->m;
    int64_t at = 0;
    for (int i = 0; i < g->parts; i++) {
        const linear *l = &g->part[i];
        const int f8 = l->dtype == OCT_F8E4M3FN && !m->options.act_bf16;
        if (f8 && !x8) {
            const oct_quant_args q = { .size = sizeof q, .on = m->on, .scaling = OCT_SCALE_ROW, .m = n, .k = l->k, .x = x,
                                       .x_dtype = OCT_BF16, .y = m->x8, .y_dtype = OCT_F8E4M3FN, .scale = m->x_scale,
                                       .scale_ub = &m->ub };
            if (check(p, oct_quant(&q))) return -1;
        }
        oct_gemm_args a = { .size = sizeof a, .scaling = l->scale ? OCT_SCALE_ROW : OCT_SCALE_NONE,
                            .m = n, .n = l->n, .k = l->k, .x = f8 ? m->x8 : (const void *)x,
                            .x_dtype = f8 ? OCT_F8E4M3FN : OCT_BF16, .w = l->w, .w_dtype = l->dtype,
                            .x_scale = f8 ? m->x_scale : 0, .w_scale = l->scale, .bias = l->bias,
                            .bias_dtype = l->bias ? OCT_F32 : 0, .y = (char *)y + at * oct_dtype_bits(y_dtype) / 8,
                            .y_dtype = y_dtype, .ldy = g->n };
        if (scratch(p, oct_gemm_scratch(&a))) return -1;
        a.on = m->on;
        if (check(p, oct_gemm(&a))) return -1;
        at += l->n;
    }
    return 0;
}

/* residual += delta (or = x on entry), then the norm that feeds `next`. */
static int norm(pass *p, const float *weight, const linear_group *next, const void *x, int32_t x_dtype, int first, float *residual,
                int64_t n, int *x8)
{
    lm_model *m = p->m;
    *x8 = wants_f8(m, next);
    const oct_norm_quant_args a = {
        .size = sizeof a, .on = m->on, .scaling = *x8 ? OCT_SCALE_ROW : OCT_SCALE_NONE, .m = n, .k = m->config.hidden, .x = x,
        .x_dtype = x_dtype, .residual_dtype = OCT_F32, .residual = first ? 0 : residual, .residual_out = residual,
        .weight = weight, .weight_dtype = OCT_F32, .y_dtype = *x8 ? OCT_F8E4M3FN : OCT_BF16, .eps = (float)m->config.rms_eps,
        .y = *x8 ? m->x8 : m->x, .scale = *x8 ? m->x_scale : 0, .scale_ub = *x8 ? &m->ub : 0 };
    return check(p, oct_norm_quant(&a));
}

static int attention(pass *p, int64_t i)
{
    lm_model *m = p->m;
    const lm_config *f = &m->config;
    const int64_t q = f->heads * f->head_dim, kv = f->kv_heads * f->head_dim, ld = q + 2 * kv;
    const oct_rope_kv_args r = {
        .size = sizeof r, .on = m->on, .pairs = OCT_ROPE_HALF, .t = p->n, .heads = f->heads, .d = f->head_dim,
        .q = m->qkv, .ldq = ld, .q_out = m->qkv, .ldq_out = ld, .k = m->qkv + q, .ldk = ld, .v = m->qkv + q + kv, .ldv = ld,
        .dtype = OCT_BF16, .pos = m->pos, .lane = p->lane,
        .rope = rope_of(f),
        .table = m->rope_table, .table_len = m->rope_len, .kv = &p->c->kv[i] };
    if (check(p, oct_rope_kv(&r))) return -1;
    oct_attn_args a = { .size = sizeof a, .t = p->n, .heads = f->heads, .d = f->head_dim, .q = m->qkv, .ldq = ld,
                        .q_dtype = OCT_BF16, .y_dtype = OCT_BF16, .y = m->attn, .len = m->len, .lane = p->lane,
                        .kv = &p->c->kv[i] };
    if (scratch(p, oct_attn_scratch(&a))) return -1;
    a.on = m->on;
    return check(p, oct_attn(&a));
}

static int ffn(pass *p, const layer *y, int x8)
{
    lm_model *m = p->m;
    const int64_t wide = m->config.intermediate;
    const int f8 = wants_f8(m, &y->down);
    const oct_silu_mul_quant_args a = {
        .size = sizeof a, .on = m->on, .scaling = f8 ? OCT_SCALE_ROW : OCT_SCALE_NONE, .m = p->n, .k = wide, .gate = m->gate_up,
        .ld_gate = 2 * wide, .up = m->gate_up + wide, .ld_up = 2 * wide, .x_dtype = OCT_F32,
        .y_dtype = f8 ? OCT_F8E4M3FN : OCT_BF16, .y = f8 ? m->x8 : m->act, .scale = f8 ? m->x_scale : 0,
        .scale_ub = f8 ? &m->ub : 0 };
    return multiply(p, &y->gate_up, m->x, x8, m->gate_up, OCT_F32, p->n) || check(p, oct_silu_mul_quant(&a)) ||
                   multiply(p, &y->down, m->act, f8, m->delta, OCT_F32, p->n)
               ? -1 : 0;
}

/* Tokens in, the residual stream and the last layer's delta out. */
static int layers(pass *p, const int32_t *token)
{
    lm_model *m = p->m;
    const lm_config *f = &m->config;
    int x8;
    for (int64_t i = 0; i < p->n; i++) /* the embedding takes delta's place, as bf16 */
        memcpy((uint16_t *)m->delta + i * f->hidden, m->embedding + token[i] * f->hidden, (size_t)f->hidden * 2);
    for (int64_t i = 0; i < f->layers; i++) {
        const layer *y = &m->layers[i];
        if (norm(p, y->attn_norm, &y->qkv, m->delta, i ? OCT_F32 : OCT_BF16, !i, m->residual, p->n, &x8) ||
            multiply(p, &y->qkv, m->x, x8, m->qkv, OCT_BF16, p->n) || attention(p, i) ||
            multiply(p, &y->o, m->attn, 0, m->delta, OCT_F32, p->n) ||
            norm(p, y->ffn_norm, &y->gate_up, m->delta, OCT_F32, 0, m->residual, p->n, &x8) || ffn(p, y, x8))
            return -1;
    }
    return 0;
}

int lm_forward(lm_model *m, lm_cache *c, int64_t n, const int32_t *token, const int32_t *lane, int64_t want_count,
               const int32_t *want, float *logits, char *err, size_t errn)
{
    const lm_config *f = &m->config;
    pass p = { m, c, 0, 0, err, errn };
    int64_t w = 0;
    for (int64_t i = 0; i < n; i++)
        if (token[i] < 0 || token[i] >= f->vocab) {
            snprintf(err, errn, "token %d is outside the vocabulary of %lld", token[i], (long long)f->vocab);
            return -1;
        }
    for (int64_t at = 0; at < n; at += p.n) {
        p.n = n - at < CHUNK ? n - at : CHUNK;
        p.lane = lane + at;
        if (room(&p, p.n) || rope_table(&p)) return -1;
        for (int64_t i = 0; i < p.n; i++) {
            const int64_t pos = lm_cache_grow(c, p.lane[i], 1);
            if (pos < 0) {
                snprintf(err, errn, "sequence %d is longer than the context of %lld tokens", p.lane[i], (long long)c->ctx);
                return -1;
            }
            m->pos[i] = (int32_t)pos;
            m->len[i] = (int32_t)pos + 1;
        }
        if (layers(&p, token + at)) return -1;
        /* The head, over runs of wanted tokens. */
        while (w < want_count && want[w] < at + p.n) {
            int64_t run = 1, first = want[w] - at;
            int x8;
            while (w + run < want_count && want[w + run] == want[w] + run && first + run < p.n) run++;
            if (norm(&p, m->final_norm, &m->head, m->delta + first * f->hidden, OCT_F32, 0, m->residual + first * f->hidden, run, &x8) ||
                multiply(&p, &m->head, m->x, x8, logits + w * f->vocab, OCT_F32, run))
                return -1;
            w += run;
        }
    }
    return 0;
}
