/* model_impl.h - the inside of lm_model and lm_cache, shared by load.c, cache.c and model.c. */
#ifndef OCTAVO_LLAMA_MODEL_IMPL_H
#define OCTAVO_LLAMA_MODEL_IMPL_H

#include "llama/model.h"

/* y = x w^T + bias, with n rows of w. FP8: a scale a row. */
typedef struct {
    int64_t n, k;
    int32_t dtype; /* OCT_BF16, OCT_F8E4M3FN */
    void *w;       /* [n][k] */
    float *scale;  /* [n], or NULL */
    float *bias;   /* [n], or NULL */
} linear;

/* Linears that read the same x: their rows stand one after another, and their outputs side by side. One part a dtype
 * change: q, k, v are a single matrix unless a recipe quantized only some of them. */
typedef struct {
    int parts;
    linear part[3];
    int64_t n;
} linear_group;

typedef struct {
    float *attn_norm, *ffn_norm; /* [hidden] */
    linear_group qkv, o, gate_up, down;
} layer;

/* A stretch of memory that holds weights, itself at its beginning. */
typedef struct weight_block {
    struct weight_block *next;
    int64_t bytes, used;
} weight_block;

struct lm_model {
    lm_config config;
    lm_options options;
    oct_on on;
    weight_block *blocks;
    layer *layers;
    float *final_norm;
    uint16_t *embedding; /* bf16 [vocab][hidden] */
    linear_group head;   /* its w is the embedding when tied */
    float ub;            /* bound of activation maxima */
    int64_t bytes;

    float *rope_table; /* [rope_len][head_dim] */
    int64_t rope_len;

    /* Buffers of a pass over up to `room` tokens. */
    int64_t room;
    float *residual, *delta, *gate_up, *x_scale;
    void *x8;                        /* quantized activations */
    uint16_t *x, *qkv, *attn, *act;
    int32_t *pos, *len;
};

struct lm_cache {
    const lm_model *model;
    int64_t lanes, ctx, pages_a_lane, pages, used;
    int32_t *table;    /* [lanes][pages_a_lane] */
    int32_t *free;     /* pages given back */
    int64_t free_count;
    int64_t *length;   /* [lanes] */
    oct_kv *kv;        /* [layers] */
    char *memory;
    int64_t memory_bytes, layer_bytes;
};

/* Zeroed memory aligned to 64 bytes, in large pages where the system has them; NULL when there is none. */
void *lm_alloc(int64_t bytes);
void lm_free(void *p);

/* cache.c: makes room for `more` tokens in a lane; the number of the first one, or -1 when ctx is reached. */
int64_t lm_cache_grow(lm_cache *c, int64_t lane, int64_t more);

#endif
