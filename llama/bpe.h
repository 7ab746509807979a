/* bpe.h - byte-level BPE: a vocabulary, its merges, and the merging of one word. Private to the tokenizer.
 *
 * A byte-level vocabulary spells each byte as one visible character (GPT-2's alphabet: '!'..'~' and most of
 * Latin-1 stand for themselves, the 68 others for U+0100..U+0143). Encoding works on bytes and ids throughout; the
 * spelling matters only while loading, and for looking a token up by its text. */
#ifndef OCTAVO_LLAMA_BPE_H
#define OCTAVO_LLAMA_BPE_H

#include <stddef.h>
#include <stdint.h>

/* A map from uint64_t to uint64_t for at most the number of keys it was made for. The value LM_NONE is reserved. */
#define LM_NONE UINT64_MAX
typedef struct {
    uint64_t *cells; /* key, value, key, value, ... */
    uint64_t mask;
} lm_map;

int lm_map_init(lm_map *m, uint64_t keys); /* 0, or -1 when memory is out */
void lm_map_free(lm_map *m);
void lm_map_set(lm_map *m, uint64_t key, uint64_t value);
uint64_t lm_map_get(const lm_map *m, uint64_t key); /* LM_NONE when absent; also for an all-zero map */

/* One token: its spelling in the vocabulary, and the bytes that it stands for. text is NULL for an unused id. */
typedef struct {
    char *text; /* one allocation for both */
    const uint8_t *bytes;
    uint32_t text_n, bytes_n;
    int special; /* an added token that is marked so */
    int outside; /* an added token that the model's own vocabulary lacks: words never become it */
} lm_piece;

typedef struct {
    lm_piece *pieces; /* by id */
    int64_t size;     /* ids are 0..size-1 */
    int32_t *slots;   /* hash table of ids by text; -1 is empty */
    uint64_t mask;
    int32_t byte_id[256]; /* the token of one byte, or -1 */
    lm_map merges;        /* left id << 32 | right id  ->  rank << 32 | id of both */
    int32_t unk;          /* takes the place of bytes without a token; -1: they are dropped */
    int fuse_unk;         /* neighbouring ones become one */
    int ignore_merges;    /* a word that is a token as a whole is not put together by merges */
} lm_bpe;

/* Room for ids below size and for tokens texts. 0, or -1 when memory is out. */
int lm_bpe_init(lm_bpe *b, int64_t size, int64_t tokens);
void lm_bpe_free(lm_bpe *b);

/* Gives an unused id its text, which no other token has. 0, or -1 when memory is out. */
int lm_bpe_add(lm_bpe *b, int32_t id, const char *text, size_t n);

/* Fills byte_id, once all tokens are there. */
void lm_bpe_find_bytes(lm_bpe *b);

/* The id of a text, or -1. */
int32_t lm_bpe_find(const lm_bpe *b, const char *text, size_t n);

/* Spells n bytes; out takes at most 2 n bytes. Returns how many. */
size_t lm_bpe_spell(const uint8_t *bytes, size_t n, char *out);

/* Scratch for words, grown as needed; zero at first. */
typedef struct {
    int32_t *id, *prev, *next;
    uint64_t *heap;
    char *spelled;
    size_t room;
} lm_bpe_scratch;

void lm_bpe_scratch_free(lm_bpe_scratch *s);

/* Encodes one word of n bytes, n < 2^31; appends at most n ids at out. Returns how many, or -1 when memory is out. */
int64_t lm_bpe_word(const lm_bpe *b, lm_bpe_scratch *s, const uint8_t *word, size_t n, int32_t *out);

#endif
