/* bpe.c - see bpe.h. */
#include "bpe.h"

#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    return x ^ x >> 33;
}

static uint64_t hash_text(const char *s, size_t n)
{
    uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001b3ull;
    return mix(h);
}

/* A power of two that leaves at least half of a table empty. */
static uint64_t table_size(uint64_t keys)
{
    uint64_t size = 16;
    while (size < 2 * keys) size *= 2;
    return size;
}

int lm_map_init(lm_map *m, uint64_t keys)
{
    uint64_t size = table_size(keys);
    m->cells = malloc((size_t)size * 2 * sizeof *m->cells);
    if (m->cells == NULL) return -1;
    memset(m->cells, 0xff, (size_t)size * 2 * sizeof *m->cells); /* every value is LM_NONE */
    m->mask = size - 1;
    return 0;
}

void lm_map_free(lm_map *m)
{
    free(m->cells);
    m->cells = NULL;
}

/* The cell that holds the key, or the empty one where it would go. */
static uint64_t *map_cell(const lm_map *m, uint64_t key)
{
    uint64_t i = mix(key) & m->mask;
    while (m->cells[2 * i + 1] != LM_NONE && m->cells[2 * i] != key) i = (i + 1) & m->mask;
    return &m->cells[2 * i];
}

void lm_map_set(lm_map *m, uint64_t key, uint64_t value)
{
    uint64_t *cell = map_cell(m, key);
    cell[0] = key;
    cell[1] = value;
}

uint64_t lm_map_get(const lm_map *m, uint64_t key) { return m->cells != NULL ? map_cell(m, key)[1] : LM_NONE; }

/* GPT-2's alphabet. Bytes that print stand for themselves, the others for 256, 257, ... in their order. */
static unsigned spelling_of(unsigned byte)
{
    if (byte <= 0x20) return 256 + byte;
    if (byte >= 0x7f && byte <= 0xa0) return 256 + 33 + (byte - 0x7f);
    return byte == 0xad ? 256 + 67 : byte;
}

/* The byte that a character spells, or -1. */
static int byte_of(unsigned c)
{
    if (c >= 256 && c < 256 + 33) return (int)(c - 256);
    if (c >= 256 + 33 && c < 256 + 67) return (int)(c - 256 - 33 + 0x7f);
    if (c == 256 + 67) return 0xad;
    return c < 256 && spelling_of(c) == c ? (int)c : -1;
}

size_t lm_bpe_spell(const uint8_t *bytes, size_t n, char *out)
{
    char *to = out;
    for (size_t i = 0; i < n; i++) {
        unsigned c = spelling_of(bytes[i]);
        if (c >= 0x80) *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
    }
    return (size_t)(to - out);
}

/* The opposite. Returns the number of bytes, or -1 when the text is not in the alphabet throughout. */
static int64_t unspell(const char *text, size_t n, uint8_t *out)
{
    int64_t count = 0;
    for (size_t i = 0; i < n; count++) {
        unsigned c = (unsigned char)text[i++];
        if (c >= 0xc2 && c < 0xe0 && i < n && ((unsigned char)text[i] & 0xc0) == 0x80)
            c = (c & 0x1f) << 6 | ((unsigned char)text[i++] & 0x3f);
        else if (c >= 0x80) return -1;
        int byte = byte_of(c);
        if (byte < 0) return -1;
        out[count] = (uint8_t)byte;
    }
    return count;
}

int lm_bpe_init(lm_bpe *b, int64_t size, int64_t tokens)
{
    uint64_t slots = table_size((uint64_t)tokens);
    memset(b, 0, sizeof *b);
    b->unk = -1;
    memset(b->byte_id, 0xff, sizeof b->byte_id); /* -1 */
    b->pieces = calloc((size_t)(size > 0 ? size : 1), sizeof *b->pieces);
    b->slots = malloc((size_t)slots * sizeof *b->slots);
    if (b->pieces == NULL || b->slots == NULL) return -1; /* lm_bpe_free takes what there is */
    memset(b->slots, 0xff, (size_t)slots * sizeof *b->slots);
    b->mask = slots - 1;
    b->size = size;
    return 0;
}

void lm_bpe_free(lm_bpe *b)
{
    for (int64_t i = 0; i < b->size; i++) free(b->pieces[i].text);
    free(b->pieces);
    free(b->slots);
    lm_map_free(&b->merges);
}

/* The slot that holds the text's id, or the empty one where it would go. */
static int32_t *text_slot(const lm_bpe *b, const char *text, size_t n)
{
    uint64_t i = hash_text(text, n) & b->mask;
    for (;; i = (i + 1) & b->mask) {
        int32_t id = b->slots[i];
        if (id < 0 || (b->pieces[id].text_n == n && memcmp(b->pieces[id].text, text, n) == 0)) return &b->slots[i];
    }
}

int32_t lm_bpe_find(const lm_bpe *b, const char *text, size_t n) { return *text_slot(b, text, n); }

int lm_bpe_add(lm_bpe *b, int32_t id, const char *text, size_t n)
{
    lm_piece *p = &b->pieces[id];
    p->text = malloc(2 * n + 2);
    if (p->text == NULL) return -1;
    memcpy(p->text, text, n);
    p->text[n] = '\0';
    p->text_n = (uint32_t)n;
    uint8_t *bytes = (uint8_t *)p->text + n + 1;
    int64_t count = unspell(text, n, bytes);
    /* What is not in the alphabet, as a special token may be, stands for its own text. */
    p->bytes = count >= 0 ? bytes : (uint8_t *)p->text;
    p->bytes_n = (uint32_t)(count >= 0 ? count : (int64_t)n);
    *text_slot(b, text, n) = id;
    return 0;
}

void lm_bpe_find_bytes(lm_bpe *b)
{
    for (unsigned i = 0; i < 256; i++) {
        uint8_t byte = (uint8_t)i;
        char text[2];
        b->byte_id[i] = lm_bpe_find(b, text, lm_bpe_spell(&byte, 1, text));
    }
}

void lm_bpe_scratch_free(lm_bpe_scratch *s)
{
    free(s->id);
    free(s->prev);
    free(s->next);
    free(s->heap);
    free(s->spelled);
    memset(s, 0, sizeof *s);
}

static int grow(lm_bpe_scratch *s, size_t n)
{
    if (n <= s->room) return 0;
    lm_bpe_scratch_free(s);
    size_t room = n < 256 ? 256 : n + n / 2;
    s->id = malloc(room * sizeof *s->id);
    s->prev = malloc(room * sizeof *s->prev);
    s->next = malloc(room * sizeof *s->next);
    s->heap = malloc(2 * room * sizeof *s->heap); /* each merge takes one entry and adds at most two */
    s->spelled = malloc(2 * room);
    if (!s->id || !s->prev || !s->next || !s->heap || !s->spelled) return -1;
    s->room = room;
    return 0;
}

/* A binary heap of rank << 32 | position: the smallest rank first, then the leftmost. */
static void push(uint64_t *heap, size_t *n, uint64_t x)
{
    size_t i = (*n)++;
    for (; i > 0 && heap[(i - 1) / 2] > x; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = x;
}

static uint64_t pop(uint64_t *heap, size_t *n)
{
    uint64_t top = heap[0], x = heap[--*n];
    size_t i = 0;
    for (size_t child = 1; child < *n; child = 2 * i + 1) {
        if (child + 1 < *n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= x) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = x;
    return top;
}

/* What the pair that starts at position i merges to: rank << 32 | id, or LM_NONE. */
static uint64_t pair_at(const lm_bpe *b, const lm_bpe_scratch *s, int32_t i)
{
    if (i < 0 || s->next[i] < 0) return LM_NONE;
    return lm_map_get(&b->merges, (uint64_t)(uint32_t)s->id[i] << 32 | (uint32_t)s->id[s->next[i]]);
}

static void push_pair(const lm_bpe *b, lm_bpe_scratch *s, size_t *n, int32_t i)
{
    uint64_t pair = pair_at(b, s, i);
    if (pair != LM_NONE) push(s->heap, n, (pair >> 32 << 32) | (uint32_t)i);
}

int64_t lm_bpe_word(const lm_bpe *b, lm_bpe_scratch *s, const uint8_t *word, size_t n, int32_t *out)
{
    if (grow(s, n) != 0) return -1;
    if (b->ignore_merges) {
        int32_t id = lm_bpe_find(b, s->spelled, lm_bpe_spell(word, n, s->spelled));
        if (id >= 0 && !b->pieces[id].outside) {
            out[0] = id;
            return 1;
        }
    }

    /* A linked list of symbols, at first one a byte. */
    int32_t count = 0;
    int after_unk = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = b->byte_id[word[i]];
        int unk = id < 0;
        if (unk && (b->unk < 0 || (b->fuse_unk && after_unk))) continue;
        after_unk = unk;
        s->id[count] = unk ? b->unk : id;
        s->prev[count] = count - 1;
        s->next[count] = count + 1;
        count++;
    }
    if (count == 0) return 0;
    s->next[count - 1] = -1;

    size_t heap_n = 0;
    for (int32_t i = 0; i < count; i++) push_pair(b, s, &heap_n, i);
    while (heap_n > 0) {
        uint64_t top = pop(s->heap, &heap_n);
        int32_t i = (int32_t)(uint32_t)top;
        uint64_t pair = s->id[i] >= 0 ? pair_at(b, s, i) : LM_NONE;
        if (pair == LM_NONE || pair >> 32 != top >> 32) continue; /* the symbols here have changed since */
        int32_t gone = s->next[i], after = s->next[gone];
        s->id[i] = (int32_t)(uint32_t)pair;
        s->id[gone] = -1;
        s->next[i] = after;
        if (after >= 0) s->prev[after] = i;
        push_pair(b, s, &heap_n, s->prev[i]);
        push_pair(b, s, &heap_n, i);
    }
    int64_t ids = 0;
    for (int32_t i = 0; i >= 0; i = s->next[i]) /* symbol 0 is never the right half of a pair, so it lives */
        out[ids++] = s->id[i];
    return ids;
}
