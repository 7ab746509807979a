/* sample.c - greedy choice, and nucleus sampling. */
#include "llama/sample.h"
#include <math.h>
#include <stdlib.h>

int32_t lm_argmax(const float *logits, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

static int by_p(const void *a, const void *b)
{
    const struct lm_candidate *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p) - (x->p > y->p) : (x->id > y->id) - (x->id < y->id);
}

/* splitmix64, the upper 53 bits as a number in [0, 1). */
static double draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ULL;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

int32_t lm_sample(lm_sampler *s, const float *logits, int64_t n)
{
    const int32_t top = lm_argmax(logits, n);
    if (!(s->temperature > 0)) return top;
    double sum = 0, kept = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        const float p = expf((logits[i] - logits[top]) / s->temperature);
        sum += p;
        if (p > 1e-8f) s->room[count++] = (struct lm_candidate){ p, (int32_t)i }; /* what 2^53 draws would hardly meet */
    }
    qsort(s->room, (size_t)count, sizeof *s->room, by_p);
    int64_t end = 0;
    while (end < count && kept < s->top_p * sum) kept += s->room[end++].p;
    double r = draw(&s->state) * kept;
    for (int64_t i = 0; i < end; i++)
        if ((r -= s->room[i].p) < 0) return s->room[i].id;
    return top;
}
