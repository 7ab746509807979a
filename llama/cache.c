/* cache.c - the paged KV cache: pages of 64 tokens, one table for all layers. */
#define _GNU_SOURCE
#include "llama/model_impl.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 64 };

lm_cache *lm_cache_open(const lm_model *m, int64_t lanes, int64_t ctx, int32_t format, int32_t groups, char *err,
                        size_t errn)
{
    const lm_config *f = &m->config;
    lm_cache *c = calloc(1, sizeof *c);
    if (!c) goto no_memory;
    if (lanes < 1 || ctx < 1 || ctx > INT32_MAX - PAGE || lanes > INT32_MAX / (ctx / PAGE + 1)) {
        snprintf(err, errn, "a cache of %lld sequences of %lld tokens is out of range", (long long)lanes, (long long)ctx);
        free(c);
        return 0;
    }
    c->model = m;
    c->lanes = lanes;
    c->ctx = ctx;
    c->pages_a_lane = (ctx + PAGE - 1) / PAGE;
    c->pages = lanes * c->pages_a_lane;
    c->table = calloc((size_t)c->pages, sizeof *c->table);
    c->free = calloc((size_t)c->pages, sizeof *c->free);
    c->length = calloc((size_t)lanes, sizeof *c->length);
    c->kv = calloc((size_t)f->layers, sizeof *c->kv);
    if (!c->table || !c->free || !c->length || !c->kv) goto no_memory;
    oct_kv kv = { .size = sizeof kv, .format = format, .groups = groups, .heads = f->kv_heads, .d = f->head_dim,
                  .pages = c->pages, .page_size = PAGE, .lanes = lanes, .page_table = c->table,
                  .ld_page_table = c->pages_a_lane };
    c->layer_bytes = oct_kv_bytes(&kv); /* of k; v alike */
    if (c->layer_bytes < 0) {
        snprintf(err, errn, "%s", oct_error_text());
        lm_cache_close(c);
        return 0;
    }
    c->layer_bytes = (c->layer_bytes + 63) / 64 * 64;
    if (__builtin_mul_overflow(2 * c->layer_bytes, f->layers, &c->memory_bytes)) goto no_memory;
    /* Reserved, not touched: a page costs memory once a sequence reaches it. */
    c->memory = mmap(0, (size_t)c->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (c->memory == MAP_FAILED) { c->memory = 0; goto no_memory; }
    for (int64_t i = 0; i < f->layers; i++) {
        kv.k = c->memory + 2 * i * c->layer_bytes;
        kv.v = (char *)kv.k + c->layer_bytes;
        c->kv[i] = kv;
    }
    return c;
no_memory:
    snprintf(err, errn, "no memory for a cache of %lld sequences of %lld tokens", (long long)lanes, (long long)ctx);
    lm_cache_close(c);
    return 0;
}

void lm_cache_close(lm_cache *c)
{
    if (!c) return;
    if (c->memory) munmap(c->memory, (size_t)c->memory_bytes);
    free(c->table); free(c->free); free(c->length); free(c->kv); free(c);
}

int64_t lm_cache_length(const lm_cache *c, int64_t lane) { return c->length[lane]; }
int64_t lm_cache_token_bytes(const lm_cache *c)
{
    return 2 * c->model->config.layers * c->kv[0].heads * oct_kv_row_bytes(&c->kv[0]);
}

void lm_cache_clear(lm_cache *c, int64_t lane)
{
    const int64_t held = (c->length[lane] + PAGE - 1) / PAGE;
    for (int64_t i = held; i-- > 0;) c->free[c->free_count++] = c->table[lane * c->pages_a_lane + i];
    c->length[lane] = 0;
}

int64_t lm_cache_grow(lm_cache *c, int64_t lane, int64_t more)
{
    const int64_t first = c->length[lane];
    if (lane < 0 || lane >= c->lanes || more > c->ctx - first) return -1;
    for (int64_t i = (first + PAGE - 1) / PAGE; i * PAGE < first + more; i++)
        c->table[lane * c->pages_a_lane + i] = c->free_count ? c->free[--c->free_count] : (int32_t)c->used++;
    c->length[lane] = first + more;
    return first;
}
