/* load.c - from a folder's tensors to the matrices that the forward pass multiplies with. */
#define _GNU_SOURCE
#include "llama/model_impl.h"
#include "llama/numbers.h"
#include "llama/safetensors.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *lm_alloc(int64_t bytes)
{
    if (bytes < 0 || bytes > INT64_MAX - 128) return 0;
    const int64_t align = bytes >= 4 << 20 ? 2 << 20 : 64, room = (bytes + 64 + align - 1) / align * align;
    void *p = aligned_alloc((size_t)align, (size_t)room);
    if (!p) return 0;
    if (align > 64) madvise(p, (size_t)room, MADV_HUGEPAGE);
    memset(p, 0, (size_t)room);
    return p;
}
void lm_free(void *p) { free(p); }

typedef struct {
    lm_model *m;
    lm_tensors *t;
    const char *dir;
    char *err;
    size_t errn;
    double done, total;
} loader;

static int fail(loader *l, const char *fmt, ...)
{
    char text[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    snprintf(l->err, l->errn, "%s: %s", l->dir, text);
    return -1;
}

/* Element i of a BF16, F16 or F32 tensor. */
static float value(const lm_tensor *s, int64_t i)
{
    switch (s->dtype) {
    case LM_F32: return ((const float *)s->data)[i];
    case LM_F16: return lm_f16_value(((const uint16_t *)s->data)[i]);
    default:     return lm_bf16_value(((const uint16_t *)s->data)[i]);
    }
}

static int is_plain(lm_dtype d) { return d == LM_BF16 || d == LM_F16 || d == LM_F32; }

/* The tensor of that name with that shape (rank 1 or 2; cols 0 means rank 1), or NULL and the reason. */
static const lm_tensor *find(loader *l, const char *name, int64_t rows, int64_t cols)
{
    const lm_tensor *s = lm_tensors_find(l->t, name);
    if (!s) {
        fail(l, "tensor %s is missing", name);
        return 0;
    }
    const int ok = cols ? s->rank == 2 && s->shape[0] == rows && s->shape[1] == cols
                        : (s->rank == 1 || (s->rank == 2 && s->shape[1] == 1)) && s->shape[0] == rows;
    if (!ok) {
        fail(l, "tensor %s has shape [%lld%s%lld]; config.json wants [%lld%s%lld]", name, (long long)s->shape[0],
             s->rank > 1 ? ", " : "; rank ", s->rank > 1 ? (long long)s->shape[1] : (long long)s->rank, (long long)rows,
             cols ? ", " : "; rank ", cols ? (long long)cols : 1LL);
        return 0;
    }
    return s;
}

static void read_done(loader *l, const lm_tensor *s)
{
    l->m->bytes += s->bytes;
    l->done += (double)s->bytes;
    if (l->m->options.progress) l->m->options.progress(l->done, l->total);
    lm_tensors_release(l->t, s);
}

/* Memory that lives as long as the model. All weights stand in a few large blocks, so that they lie in large pages. */
static void *keep(loader *l, const char *name, int64_t bytes)
{
    enum { BLOCK = 16 << 20, HEAD = 64 };
    lm_model *m = l->m;
    bytes = (bytes + 63) / 64 * 64;
    if (!m->blocks || bytes > m->blocks->bytes - m->blocks->used) {
        const int64_t room = bytes > BLOCK - HEAD ? bytes + HEAD : BLOCK;
        weight_block *b = lm_alloc(room);
        if (!b) {
            fail(l, "no memory for %s", name);
            return 0;
        }
        *b = (weight_block){ m->blocks, room, HEAD };
        m->blocks = b;
    }
    void *p = (char *)m->blocks + m->blocks->used;
    m->blocks->used += bytes;
    return p;
}

/* A vector as f32, to v, or where it is kept. */
static float *vector(loader *l, const char *name, int64_t n, float *v)
{
    const lm_tensor *s = find(l, name, n, 0);
    if (!s) return 0;
    if (!is_plain(s->dtype)) {
        fail(l, "tensor %s is %s; F32, F16 and BF16 are supported", name, lm_dtype_name(s->dtype));
        return 0;
    }
    if (!v && !(v = keep(l, name, n * 4))) return 0;
    for (int64_t i = 0; i < n; i++) v[i] = value(s, i);
    read_done(l, s);
    return v;
}

static void copy_bf16(uint16_t *to, const lm_tensor *s, int64_t n)
{
    if (s->dtype == LM_BF16) memcpy(to, s->data, (size_t)n * 2);
    else
        for (int64_t i = 0; i < n; i++) to[i] = lm_bf16(value(s, i));
}

/* Linears that share x, from `prefix` + names[i] + ".weight" with rows[i] rows. */
static int group(loader *l, linear_group *g, const char *prefix, const char *const *names, const int64_t *rows, int count,
                 int64_t k, int biases)
{
    const lm_tensor *s[3], *scale[3];
    char name[256];
    memset(g, 0, sizeof *g);
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s%s.weight", prefix, names[i]);
        if (!(s[i] = find(l, name, rows[i], k))) return -1;
        scale[i] = 0;
        if (s[i]->dtype == LM_F8_E4M3) {
            snprintf(name, sizeof name, "%s%s.weight_scale", prefix, names[i]);
            if (!(scale[i] = find(l, name, rows[i], 0))) return -1;
            if (scale[i]->dtype != LM_F32) return fail(l, "tensor %s is %s; F32 is supported", name, lm_dtype_name(scale[i]->dtype));
        } else if (!is_plain(s[i]->dtype))
            return fail(l, "tensor %s is %s; F8_E4M3, BF16, F16 and F32 are supported", s[i]->name, lm_dtype_name(s[i]->dtype));
    }
    for (int i = 0; i < count;) {
        linear *p = &g->part[g->parts++];
        const int f8 = scale[i] != 0;
        int end = i;
        while (end < count && (scale[end] != 0) == f8) p->n += rows[end++];
        p->k = k;
        p->dtype = f8 ? OCT_F8E4M3FN : OCT_BF16;
        g->n += p->n;
        if (!(p->w = keep(l, s[i]->name, p->n * k * (f8 ? 1 : 2))) || (f8 && !(p->scale = keep(l, s[i]->name, p->n * 4))) ||
            (biases && !(p->bias = keep(l, s[i]->name, p->n * 4))))
            return -1;
        for (int64_t row = 0; i < end; row += rows[i++]) {
            if (f8) {
                memcpy((uint8_t *)p->w + row * k, s[i]->data, (size_t)(rows[i] * k));
                memcpy(p->scale + row, scale[i]->data, (size_t)rows[i] * 4);
                read_done(l, scale[i]);
            } else
                copy_bf16((uint16_t *)p->w + row * k, s[i], rows[i] * k);
            read_done(l, s[i]);
            if (biases) {
                snprintf(name, sizeof name, "%s%s.bias", prefix, names[i]);
                if (!vector(l, name, rows[i], p->bias + row)) return -1;
            }
        }
    }
    return 0;
}

static int load_layer(loader *l, int64_t i)
{
    const lm_config *f = &l->m->config;
    layer *y = &l->m->layers[i];
    char p[64], name[128];
    const int64_t q = f->heads * f->head_dim, kv = f->kv_heads * f->head_dim;
    snprintf(name, sizeof name, "model.layers.%lld.input_layernorm.weight", (long long)i);
    if (!(y->attn_norm = vector(l, name, f->hidden, 0))) return -1;
    snprintf(name, sizeof name, "model.layers.%lld.post_attention_layernorm.weight", (long long)i);
    if (!(y->ffn_norm = vector(l, name, f->hidden, 0))) return -1;
    snprintf(p, sizeof p, "model.layers.%lld.self_attn.", (long long)i);
    if (group(l, &y->qkv, p, (const char *const[]){ "q_proj", "k_proj", "v_proj" }, (int64_t[]){ q, kv, kv }, 3, f->hidden,
              f->attention_bias) ||
        group(l, &y->o, p, (const char *const[]){ "o_proj" }, &f->hidden, 1, q, f->attention_bias))
        return -1;
    snprintf(p, sizeof p, "model.layers.%lld.mlp.", (long long)i);
    if (group(l, &y->gate_up, p, (const char *const[]){ "gate_proj", "up_proj" },
              (int64_t[]){ f->intermediate, f->intermediate }, 2, f->hidden, f->mlp_bias) ||
        group(l, &y->down, p, (const char *const[]){ "down_proj" }, &f->hidden, 1, f->intermediate, f->mlp_bias))
        return -1;
    return 0;
}

static int load(loader *l)
{
    lm_model *m = l->m;
    const lm_config *f = &m->config;
    for (int64_t i = 0; i < lm_tensors_count(l->t); i++) l->total += (double)lm_tensors_at(l->t, i)->bytes;
    m->ub = (float)f->activation_scale_ub;
    if (!(m->layers = calloc((size_t)f->layers, sizeof *m->layers))) return fail(l, "no memory");
    const lm_tensor *e = find(l, "model.embed_tokens.weight", f->vocab, f->hidden);
    if (!e) return -1;
    if (!is_plain(e->dtype)) return fail(l, "tensor %s is %s; BF16, F16 and F32 are supported", e->name, lm_dtype_name(e->dtype));
    if (!(m->embedding = keep(l, e->name, f->vocab * f->hidden * 2))) return -1;
    copy_bf16(m->embedding, e, f->vocab * f->hidden);
    read_done(l, e);
    for (int64_t i = 0; i < f->layers; i++)
        if (load_layer(l, i)) return -1;
    if (!(m->final_norm = vector(l, "model.norm.weight", f->hidden, 0))) return -1;
    /* A tied model may carry its head all the same; then the head counts. */
    if (f->tied && !lm_tensors_find(l->t, "lm_head.weight")) {
        m->head.parts = 1;
        m->head.n = f->vocab;
        m->head.part[0] = (linear){ f->vocab, f->hidden, OCT_BF16, m->embedding, 0, 0 };
    } else if (group(l, &m->head, "", (const char *const[]){ "lm_head" }, &f->vocab, 1, f->hidden, 0))
        return -1;
    if (m->options.progress) m->options.progress(l->total, l->total);
    return 0;
}

lm_model *lm_model_open(const char *dir, const lm_options *o, char *err, size_t errn)
{
    lm_model *m = calloc(1, sizeof *m);
    if (!m) {
        snprintf(err, errn, "no memory");
        return 0;
    }
    m->options = *o;
    m->on.threads = o->threads;
    if (lm_config_open(&m->config, dir, err, errn)) {
        free(m);
        return 0;
    }
    loader l = { m, lm_tensors_open(dir, err, errn), dir, err, errn, 0, 0 };
    const int bad = !l.t || load(&l);
    lm_tensors_close(l.t);
    if (!bad) return m;
    lm_model_close(m);
    return 0;
}

void lm_model_close(lm_model *m)
{
    if (!m) return;
    while (m->blocks) {
        weight_block *next = m->blocks->next;
        lm_free(m->blocks);
        m->blocks = next;
    }
    free(m->layers);
    void *const owned[] = { m->rope_table, m->residual, m->delta, m->x_scale, m->x8, m->x, m->qkv,
                            m->attn, m->gate_up, m->act, m->pos, m->len, m->on.scratch };
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) lm_free(owned[i]);
    free(m);
}

const lm_config *lm_model_config(const lm_model *m) { return &m->config; }
int64_t lm_model_bytes(const lm_model *m) { return m->bytes; }
