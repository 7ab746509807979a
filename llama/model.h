/* model.h - a Llama decoder made of octavo's public ops: weights, KV cache, forward pass. */
#ifndef OCTAVO_LLAMA_MODEL_H
#define OCTAVO_LLAMA_MODEL_H

#include "llama/config.h"
#include "octavo.h"

typedef struct lm_model lm_model;
typedef struct lm_cache lm_cache;

typedef struct {
    int threads;    /* 0: all */
    int act_bf16;   /* 1: FP8 weights meet BF16 activations (weight only); 0: FP8 activations, as the recipe says */
    /* Called while weights are read, done of total bytes; may be NULL. */
    void (*progress)(double done, double total);
} lm_options;

/* Reads a Hugging Face Llama folder: BF16, F16 or F32 weights, or the fbgemm_fp8 layout. NULL and err on failure. */
lm_model *lm_model_open(const char *dir, const lm_options *o, char *err, size_t errn);
void lm_model_close(lm_model *m); /* NULL is allowed */
const lm_config *lm_model_config(const lm_model *m);
int64_t lm_model_bytes(const lm_model *m); /* of all weights, scales and biases, a tied head counted once */

/* A paged cache for `lanes` sequences of up to ctx tokens each; pages are taken as sequences grow.
 * format: OCT_KV_BF16, OCT_KV_F8_TOKEN, OCT_KV_I4 (with groups: 1, 2, 4 or 8, as the head size allows). */
lm_cache *lm_cache_open(const lm_model *m, int64_t lanes, int64_t ctx, int32_t format, int32_t groups, char *err,
                        size_t errn);
void lm_cache_close(lm_cache *c);
void lm_cache_clear(lm_cache *c, int64_t lane);        /* the lane is empty again; its pages are free */
int64_t lm_cache_length(const lm_cache *c, int64_t lane);
int64_t lm_cache_token_bytes(const lm_cache *c);       /* of a token, all layers */

/* One forward pass over n tokens; token[i] is appended to lane[i], after what the lane holds and what stands before it
 * in this call. Then logits[j] (vocab floats each) = those after token want[j], want[] ascending indices into the call.
 * 0, or -1 and err. */
int lm_forward(lm_model *m, lm_cache *c, int64_t n, const int32_t *token, const int32_t *lane, int64_t want_count,
               const int32_t *want, float *logits, char *err, size_t errn);

#endif
