/* tokenizer.c - encoding and decoding; tokenizer_load.c reads the file.
 *
 * Text goes through: repair of UTF-8, added tokens (two passes), the steps of pre-tokenization, BPE of each word.
 * Every stage hands slices of the text to the next, down to lm_bpe_word, which appends ids. */
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "tokenizer_impl.h"

#define MAX_TEXT ((size_t)1 << 29) /* three times as much after repair still counts in an int32_t */

/* One call of encode. */
typedef struct {
    const lm_tokenizer *tk;
    lm_bpe_scratch scratch;
    lm_split_run *run;
    int32_t *ids;
    size_t count, room;
    const char *why; /* of a failure */
} encoder;

/* Space for more ids at e->ids + e->count. */
static int reserve(encoder *e, size_t more)
{
    if (e->room - e->count >= more) return 0;
    size_t room = 2 * e->room + more + 64;
    int32_t *ids = realloc(e->ids, room * sizeof *ids);
    if (ids == NULL) {
        e->why = "out of memory";
        return -1;
    }
    e->ids = ids;
    e->room = room;
    return 0;
}

static int append(encoder *e, const int32_t *ids, size_t n)
{
    if (reserve(e, n) != 0) return -1;
    if (n > 0) memcpy(e->ids + e->count, ids, n * sizeof *ids);
    e->count += n;
    return 0;
}

/* The length of the valid UTF-8 sequence at s, or minus the length of the invalid one, which is the longest
 * beginning of a valid sequence, at least one byte (Unicode's "maximal subpart"). n > 0. */
static int sequence(const uint8_t *s, size_t n)
{
    uint8_t c = s[0], low = 0x80, high = 0xbf;
    int need = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    if (need < 2) return need == 1 ? 1 : -1;
    if (c == 0xe0) low = 0xa0;  /* below: too long for what it says */
    if (c == 0xed) high = 0x9f; /* above: surrogates */
    if (c == 0xf0) low = 0x90;
    if (c == 0xf4) high = 0x8f; /* above: beyond U+10FFFF */
    for (int i = 1; i < need; i++) {
        if ((size_t)i >= n || s[i] < low || s[i] > high) return -i;
        low = 0x80;
        high = 0xbf;
    }
    return need;
}

/* A copy with U+FFFD for invalid sequences, to free; *n is its length. NULL in *out: the text is valid as it is. */
static int repair(const uint8_t *text, size_t *n, uint8_t **out)
{
    size_t at = 0, to = 0;
    *out = NULL;
    for (int len; at < *n && (len = sequence(text + at, *n - at)) > 0;) at += (size_t)len;
    if (at == *n) return 0;
    *out = malloc(3 * *n);
    if (*out == NULL) return -1;
    for (at = 0; at < *n;) {
        int len = sequence(text + at, *n - at);
        memcpy(*out + to, len > 0 ? text + at : (const uint8_t *)"\xef\xbf\xbd", len > 0 ? (size_t)len : 3);
        to += len > 0 ? (size_t)len : 3;
        at += (size_t)(len > 0 ? len : -len);
    }
    *n = to;
    return 0;
}

/* The last stage: one word. */
static int encode_word(encoder *e, const uint8_t *text, size_t n)
{
    if (reserve(e, n) != 0) return -1;
    int64_t count = lm_bpe_word(&e->tk->bpe, &e->scratch, text, n, e->ids + e->count);
    if (count < 0) {
        e->why = "out of memory";
        return -1;
    }
    e->count += (size_t)count;
    return 0;
}

/* Pre-tokenization from the given step on: cuts the text at the step's matches, and hands matches and what lies
 * between them to the next step. Recursion is as deep as there are steps. */
static int pre_tokenize(encoder *e, int step, const uint8_t *text, size_t n)
{
    if (n == 0) return 0;
    if (step == e->tk->steps_count) return encode_word(e, text, n);
    const lm_step *s = &e->tk->steps[step];
    uint8_t *spaced = NULL;
    if (s->prefix_space && text[0] != ' ') {
        spaced = malloc(n + 1);
        if (spaced == NULL) {
            e->why = "out of memory";
            return -1;
        }
        spaced[0] = ' ';
        memcpy(spaced + 1, text, n);
        text = spaced;
        n++;
    }
    size_t at = 0, done = 0, begin, end;
    int more = 0, bad = 0;
    while (s->split != NULL && !bad && (more = lm_split_next(s->split, e->run, text, n, &at, &begin, &end)) > 0) {
        bad = pre_tokenize(e, step + 1, text + done, begin - done) ||
              pre_tokenize(e, step + 1, text + begin, end - begin);
        done = end;
    }
    if (more < 0) {
        e->why = "the pre-tokenizer's pattern needs too many steps on this text";
        bad = 1;
    }
    bad = bad || pre_tokenize(e, step + 1, text + done, n - done) != 0;
    free(spaced);
    return bad ? -1 : 0;
}

/* Where the character before text[at] begins; at > 0. */
static size_t before(const uint8_t *text, size_t at)
{
    do at--;
    while (at > 0 && (text[at] & 0xc0) == 0x80);
    return at;
}

/* Unicode's White_Space, by the UTF-8 bytes of one character at s of n. Returns its length, or 0. */
static size_t space_at(const uint8_t *s, size_t n)
{
    if (n >= 1 && (s[0] == ' ' || (s[0] >= 9 && s[0] <= 13))) return 1;
    if (n >= 2 && s[0] == 0xc2 && (s[1] == 0x85 || s[1] == 0xa0)) return 2;
    if (n < 3) return 0;
    unsigned c = (unsigned)s[0] << 16 | (unsigned)s[1] << 8 | s[2];
    int is = c == 0xe19a80 /* 1680 */ || (c >= 0xe28080 && c <= 0xe2808a) /* 2000-200A */ || c == 0xe280a8 ||
             c == 0xe280a9 /* 2028, 2029 */ || c == 0xe280af /* 202F */ || c == 0xe2819f /* 205F */ ||
             c == 0xe38080 /* 3000 */;
    return is ? 3 : 0;
}

/* 1 when the character at s is a word character. */
static int word_at(encoder *e, const uint8_t *s, size_t n)
{
    size_t at = 0, begin, end, len = 1;
    while (len < n && (s[len] & 0xc0) == 0x80) len++;
    return n > 0 && lm_split_next(e->tk->word, e->run, s, len, &at, &begin, &end) == 1;
}

/* The longest token of a trie that the text begins with: an index into added, and its length; or -1. */
static int32_t longest(const lm_trie *t, const uint8_t *text, size_t n, size_t *len)
{
    int32_t found = -1;
    uint64_t node = 0;
    if (n == 0 || !t->first[text[0]]) return -1;
    for (size_t i = 0; i < n; i++) {
        node = lm_map_get(&t->children, node << 8 | text[i]);
        if (node == LM_NONE) break;
        if (t->ends[node] >= 0) {
            found = t->ends[node];
            *len = i + 1;
        }
    }
    return found;
}

/* Finds the added tokens of one pass; what lies between them goes to the next pass, or to pre-tokenization. */
static int find_added(encoder *e, int pass, const uint8_t *text, size_t n)
{
    if (pass == 2) return pre_tokenize(e, 0, text, n);
    const lm_trie *t = &e->tk->tries[pass];
    size_t done = 0, len = 0;
    for (size_t at = 0; at < n;) {
        int32_t found = longest(t, text + at, n - at, &len);
        if (found < 0) {
            at++;
            continue;
        }
        const lm_added *a = &e->tk->added[found];
        size_t begin = at, end = at + len;
        at = end;
        if (a->single_word && ((begin > 0 && word_at(e, text + before(text, begin), n - before(text, begin))) ||
                               (end < n && word_at(e, text + end, n - end))))
            continue;
        while (a->lstrip && begin > done && space_at(text + before(text, begin), n - before(text, begin)) > 0)
            begin = before(text, begin);
        for (size_t space; a->rstrip && (space = space_at(text + end, n - end)) > 0;) end += space;
        if (begin > done && find_added(e, pass + 1, text + done, begin - done) != 0) return -1;
        if (append(e, &a->id, 1) != 0) return -1;
        done = end; /* may go back, where rstrip took in this token: so it does in the `tokenizers` package */
    }
    return done < n ? find_added(e, pass + 1, text + done, n - done) : 0;
}

int lm_tokenizer_encode(const lm_tokenizer *tk, const char *text, size_t n, int add_special, int32_t **ids,
                        size_t *count, char *err, size_t errn)
{
    *ids = NULL;
    *count = 0;
    if (n > MAX_TEXT) return lm_fail(err, errn, "text of %zu bytes: at most %zu can be encoded at once", n, MAX_TEXT);
    encoder e = { .tk = tk, .why = "out of memory" };
    uint8_t *repaired = NULL;
    int bad = reserve(&e, 1) != 0 || (e.run = lm_split_run_new()) == NULL ||
              repair((const uint8_t *)text, &n, &repaired) != 0;
    if (!bad && add_special) bad = append(&e, tk->prefix, (size_t)tk->prefix_count);
    if (!bad) bad = find_added(&e, 0, repaired != NULL ? repaired : (const uint8_t *)text, n);
    if (!bad && add_special) bad = append(&e, tk->suffix, (size_t)tk->suffix_count);
    free(repaired);
    lm_split_run_free(e.run);
    lm_bpe_scratch_free(&e.scratch);
    if (bad) {
        free(e.ids);
        return lm_fail(err, errn, "cannot encode the text: %s", e.why);
    }
    *ids = e.ids;
    *count = e.count;
    return 0;
}

/* The piece of an id, or NULL. */
static const lm_piece *piece(const lm_tokenizer *tk, int32_t id)
{ return id >= 0 && id < tk->bpe.size && tk->bpe.pieces[id].text != NULL ? &tk->bpe.pieces[id] : NULL; }

const char *lm_tokenizer_bytes(const lm_tokenizer *tk, int32_t id, size_t *n)
{
    const lm_piece *p = piece(tk, id);
    *n = p != NULL ? p->bytes_n : 0;
    return p != NULL ? (const char *)p->bytes : "";
}

int lm_tokenizer_decode(const lm_tokenizer *tk, const int32_t *ids, size_t count, int skip_special, char **text,
                        size_t *n)
{
    size_t total = 0, len;
    for (size_t i = 0; i < count; i++) {
        lm_tokenizer_bytes(tk, ids[i], &len);
        if (__builtin_add_overflow(total, len, &total)) return -1;
    }
    *text = total < SIZE_MAX ? malloc(total + 1) : NULL;
    *n = 0;
    if (*text == NULL) return -1;
    for (size_t i = 0; i < count; i++) {
        const char *bytes = lm_tokenizer_bytes(tk, ids[i], &len);
        if (skip_special && lm_tokenizer_is_special(tk, ids[i])) continue;
        memcpy(*text + *n, bytes, len);
        *n += len;
    }
    (*text)[*n] = '\0';
    return 0;
}

int64_t lm_tokenizer_size(const lm_tokenizer *tk) { return tk->bpe.size; }

int32_t lm_tokenizer_find(const lm_tokenizer *tk, const char *token)
{ return lm_bpe_find(&tk->bpe, token, strlen(token)); }

const char *lm_tokenizer_token(const lm_tokenizer *tk, int32_t id)
{
    const lm_piece *p = piece(tk, id);
    return p != NULL ? p->text : NULL;
}

int lm_tokenizer_is_special(const lm_tokenizer *tk, int32_t id)
{
    const lm_piece *p = piece(tk, id);
    return p != NULL && p->special;
}
