/* sample.h - the next token from logits. */
#ifndef OCTAVO_LLAMA_SAMPLE_H
#define OCTAVO_LLAMA_SAMPLE_H
#include <stdint.h>

typedef struct {
    float temperature; /* 0: the largest logit (the lowest id among equals) */
    float top_p;       /* of the most probable tokens, as few as reach this probability; 1: all */
    uint64_t state;    /* the seed; changes with every draw */
    struct lm_candidate { float p; int32_t id; } *room; /* [vocab], for temperature > 0 */
} lm_sampler;

int32_t lm_argmax(const float *logits, int64_t n);
int32_t lm_sample(lm_sampler *s, const float *logits, int64_t n);
#endif
