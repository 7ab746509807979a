/* tokenizer_impl.h - what tokenizer_load.c fills in and tokenizer.c uses. */
#ifndef OCTAVO_LLAMA_TOKENIZER_IMPL_H
#define OCTAVO_LLAMA_TOKENIZER_IMPL_H

#include "bpe.h"
#include "split.h"
#include "tokenizer.h"

#define LM_MAX_STEPS 16 /* of pre-tokenization */

/* One step of pre-tokenization: a space is put in front where the text has none, then the text is cut. */
typedef struct {
    int prefix_space;
    lm_split *split; /* NULL: no cut */
} lm_step;

/* A token that is looked for in the text before anything else. */
typedef struct {
    int32_t id;
    int lstrip, rstrip, single_word;
} lm_added;

/* A set of added tokens as a trie over bytes: (node << 8 | byte) -> child; ends[node] is an index into added, or
 * -1. Node 0 is the root. */
typedef struct {
    lm_map children;
    int32_t *ends;
    uint64_t nodes;
    uint8_t first[256]; /* 1: some token begins with this byte */
} lm_trie;

struct lm_tokenizer {
    lm_bpe bpe;
    lm_added *added;
    int64_t added_count;
    lm_trie tries[2]; /* found in the text as given, then in what is left (normalized: true) */
    lm_step steps[LM_MAX_STEPS];
    int steps_count;
    lm_split *word;           /* one word character, for single_word */
    int32_t *prefix, *suffix; /* of the post-processor */
    int prefix_count, suffix_count;
};

#endif
