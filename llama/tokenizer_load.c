/* tokenizer_load.c - tokenizer.json into an lm_tokenizer. What it cannot reproduce exactly it refuses by name. */
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "tokenizer_impl.h"

#define MAX_FILE ((size_t)256 << 20)
#define MAX_ID (1 << 22)
#define MAX_ADDED_BYTES 4096 /* of one added token */

/* GPT-2's pattern, which ByteLevel implies; and what Digits finds. */
#define GPT2 "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* The file being read, and where its error goes. */
typedef struct {
    lm_tokenizer *tk;
    const cJSON *top, *model;
    const char *what;
    char *err;
    size_t errn;
} loader;

#define FAIL(l, ...) lm_fail((l)->err, (l)->errn, __VA_ARGS__)

/* The "type" of a component, for messages and choices; "" when there is none. */
static const char *type_of(const cJSON *o)
{
    const char *type = lm_json_text(o, "type");
    return type != NULL ? type : "";
}

/* Refuses what would change the ids and is not done here. */
static int check_features(const loader *l)
{
    const cJSON *normalizer = lm_json_get(l->top, "normalizer"), *dropout = lm_json_get(l->model, "dropout");
    const cJSON *none = lm_json_get(normalizer, "normalizers");
    const char *type = type_of(l->model), *prefix = lm_json_text(l->model, "continuing_subword_prefix");
    const char *suffix = lm_json_text(l->model, "end_of_word_suffix");
    if (!cJSON_IsObject(l->model) || (strcmp(type, "BPE") != 0 && *type != '\0'))
        return FAIL(l, "%s: model type \"%.100s\" is not supported; BPE is", l->what, type);
    if (normalizer != NULL && !(cJSON_IsArray(none) && none->child == NULL))
        return FAIL(l, "%s: normalizer \"%.100s\" is not supported; only null is", l->what, type_of(normalizer));
    if (strcmp(type_of(lm_json_get(l->top, "decoder")), "ByteLevel") != 0)
        return FAIL(l, "%s: decoder \"%.100s\" is not supported; ByteLevel is", l->what,
                    type_of(lm_json_get(l->top, "decoder")));
    if ((prefix != NULL && *prefix != '\0') || (suffix != NULL && *suffix != '\0') ||
        lm_json_true(l->model, "byte_fallback", 0) ||
        (dropout != NULL && !(cJSON_IsNumber(dropout) && dropout->valuedouble == 0)))
        return FAIL(l,
                    "%s: BPE with continuing_subword_prefix, end_of_word_suffix, byte_fallback or dropout is not "
                    "supported",
                    l->what);
    return 0;
}

/* Adds the model's vocabulary; room is made for the added tokens as well. */
static int read_vocab(const loader *l, const cJSON *added)
{
    const cJSON *vocab = lm_json_get(l->model, "vocab"), *v;
    int64_t top = -1, count = 0;
    if (!cJSON_IsObject(vocab)) return FAIL(l, "%s: model has no vocab", l->what);
    cJSON_ArrayForEach(v, vocab)
    {
        int64_t id = lm_json_whole(v);
        if (id < 0 || id >= MAX_ID)
            return FAIL(l, "%s: token %.200s: its id is no whole number below %d", l->what, v->string, MAX_ID);
        top = id > top ? id : top;
        count++;
    }
    cJSON_ArrayForEach(v, added)
    {
        int64_t id = lm_json_whole(lm_json_get(v, "id"));
        if (id < 0 || id >= MAX_ID || lm_json_text(v, "content") == NULL)
            return FAIL(l, "%s: an added token has no content, or no id below %d", l->what, MAX_ID);
        top = id > top ? id : top;
        count++;
    }
    lm_bpe *b = &l->tk->bpe;
    if (lm_bpe_init(b, top + 1, count) != 0) return FAIL(l, "%s: out of memory", l->what);
    cJSON_ArrayForEach(v, vocab)
    {
        int32_t id = (int32_t)v->valuedouble;
        size_t n = strlen(v->string);
        if (b->pieces[id].text != NULL || lm_bpe_find(b, v->string, n) >= 0)
            return FAIL(l, "%s: token %.200s: the token or its id %d occurs twice", l->what, v->string, (int)id);
        if (lm_bpe_add(b, id, v->string, n) != 0) return FAIL(l, "%s: out of memory", l->what);
    }
    const char *unk = lm_json_text(l->model, "unk_token");
    b->unk = unk != NULL ? lm_bpe_find(b, unk, strlen(unk)) : -1;
    b->fuse_unk = lm_json_true(l->model, "fuse_unk", 0);
    b->ignore_merges = lm_json_true(l->model, "ignore_merges", 0);
    lm_bpe_find_bytes(b);
    return 0;
}

/* One merge, either "left right" or ["left", "right"]: both halves, which lie in m. 0, or -1 when it is neither. */
static int halves(const cJSON *m, const char **left, size_t *left_n, const char **right)
{
    if (cJSON_IsString(m)) {
        const char *space = strchr(m->valuestring, ' ');
        if (space == NULL || strchr(space + 1, ' ') != NULL) return -1;
        *left = m->valuestring;
        *left_n = (size_t)(space - m->valuestring);
        *right = space + 1;
        return 0;
    }
    const cJSON *a = cJSON_IsArray(m) ? m->child : NULL, *b = a != NULL ? a->next : NULL;
    if (!cJSON_IsString(a) || !cJSON_IsString(b) || b->next != NULL) return -1;
    *left = a->valuestring;
    *left_n = strlen(*left);
    *right = b->valuestring;
    return 0;
}

static int read_merges(const loader *l)
{
    const cJSON *merges = lm_json_get(l->model, "merges"), *m;
    lm_bpe *b = &l->tk->bpe;
    size_t longest = 0, left_n = 0, right_n;
    const char *left = NULL, *right = NULL;
    if (!cJSON_IsArray(merges)) return FAIL(l, "%s: model has no merges", l->what);
    uint64_t rank = 0;
    cJSON_ArrayForEach(m, merges)
    {
        if (halves(m, &left, &left_n, &right) != 0)
            return FAIL(l, "%s: merge %llu is neither \"a b\" nor [\"a\", \"b\"]", l->what, (unsigned long long)rank);
        right_n = strlen(right);
        longest = left_n + right_n > longest ? left_n + right_n : longest;
        rank++;
    }
    char *both = malloc(longest + 1);
    if (both == NULL || lm_map_init(&b->merges, rank) != 0) {
        free(both);
        return FAIL(l, "%s: out of memory", l->what);
    }
    int bad = 0;
    rank = 0;
    cJSON_ArrayForEach(m, merges)
    {
        halves(m, &left, &left_n, &right);
        right_n = strlen(right);
        memcpy(both, left, left_n);
        memcpy(both + left_n, right, right_n);
        int32_t x = lm_bpe_find(b, left, left_n), y = lm_bpe_find(b, right, right_n);
        int32_t xy = lm_bpe_find(b, both, left_n + right_n);
        if (x < 0 || y < 0 || xy < 0) {
            bad = FAIL(l, "%s: merge %llu (%.*s %.100s) names a token that the vocab lacks", l->what,
                       (unsigned long long)rank, (int)(left_n < 100 ? left_n : 100), left, right);
            break;
        }
        lm_map_set(&b->merges, (uint64_t)(uint32_t)x << 32 | (uint32_t)y, rank << 32 | (uint32_t)xy);
        rank++;
    }
    free(both);
    return bad;
}

/* Adds a text to a trie whose map has room for it. */
static void trie_add(lm_trie *t, const uint8_t *text, size_t n, int32_t index)
{
    uint64_t node = 0;
    t->first[text[0]] = 1;
    for (size_t i = 0; i < n; i++) {
        uint64_t key = node << 8 | text[i], child = lm_map_get(&t->children, key);
        if (child == LM_NONE) {
            child = t->nodes++;
            t->ends[child] = -1;
            lm_map_set(&t->children, key, child);
        }
        node = child;
    }
    t->ends[node] = index;
}

static int trie_init(lm_trie *t, uint64_t bytes)
{
    t->ends = malloc((size_t)(bytes + 1) * sizeof *t->ends);
    if (t->ends == NULL || lm_map_init(&t->children, bytes) != 0) return -1;
    t->ends[0] = -1;
    t->nodes = 1;
    return 0;
}

static int read_added(const loader *l, const cJSON *list)
{
    lm_tokenizer *tk = l->tk;
    lm_bpe *b = &tk->bpe;
    uint64_t bytes = 0;
    const cJSON *v;
    int words = 0;
    cJSON_ArrayForEach(v, list) bytes += strlen(lm_json_text(v, "content"));
    tk->added = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *tk->added);
    if (tk->added == NULL || trie_init(&tk->tries[0], bytes) != 0 || trie_init(&tk->tries[1], bytes) != 0)
        return FAIL(l, "%s: out of memory", l->what);
    cJSON_ArrayForEach(v, list)
    {
        const char *content = lm_json_text(v, "content");
        size_t n = strlen(content);
        if (n == 0) continue; /* as the `tokenizers` package does */
        if (n > MAX_ADDED_BYTES)
            return FAIL(l, "%s: added token %.50s...: longer than %d bytes", l->what, content, MAX_ADDED_BYTES);
        int32_t id = lm_bpe_find(b, content, n);
        if (id < 0) {
            id = (int32_t)lm_json_whole(lm_json_get(v, "id"));
            if (b->pieces[id].text != NULL)
                return FAIL(l, "%s: added token %.200s: id %d is taken by %.200s", l->what, content, (int)id,
                            b->pieces[id].text);
            if (lm_bpe_add(b, id, content, n) != 0) return FAIL(l, "%s: out of memory", l->what);
            b->pieces[id].outside = 1;
        }
        int special = lm_json_true(v, "special", 0);
        b->pieces[id].special = special;
        lm_added *a = &tk->added[tk->added_count];
        a->id = id;
        a->lstrip = lm_json_true(v, "lstrip", 0);
        a->rstrip = lm_json_true(v, "rstrip", 0);
        a->single_word = lm_json_true(v, "single_word", 0);
        words |= a->single_word;
        trie_add(&tk->tries[lm_json_true(v, "normalized", !special)], (const uint8_t *)content, n,
                 (int32_t)tk->added_count++);
    }
    if (words) {
        tk->word = lm_split_new("[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}]", 0, l->err, l->errn);
        return tk->word != NULL ? 0 : -1;
    }
    return 0;
}

/* A new step of pre-tokenization. */
static int add_step(const loader *l, const char *pattern, int literal, int prefix_space)
{
    lm_tokenizer *tk = l->tk;
    char why[512] = "";
    if (tk->steps_count == LM_MAX_STEPS)
        return FAIL(l, "%s: pre_tokenizer has more than %d steps", l->what, LM_MAX_STEPS);
    lm_step *s = &tk->steps[tk->steps_count];
    s->prefix_space = prefix_space;
    if (pattern != NULL && (s->split = lm_split_new(pattern, literal, why, sizeof why)) == NULL)
        return FAIL(l, "%s: pre_tokenizer: %s", l->what, why);
    tk->steps_count++;
    return 0;
}

static int read_step(const loader *l, const cJSON *p, int last)
{
    const char *type = type_of(p);
    if (last != (strcmp(type, "ByteLevel") == 0))
        return FAIL(l, "%s: pre_tokenizer \"%.100s\" is not supported %s; Split and Digits are, then one ByteLevel",
                    l->what, type, last ? "at the end" : "before others");
    if (last)
        return add_step(l, lm_json_true(p, "use_regex", 1) ? GPT2 : NULL, 0, lm_json_true(p, "add_prefix_space", 1));
    if (strcmp(type, "Digits") == 0)
        return add_step(l, lm_json_true(p, "individual_digits", 0) ? "\\p{N}" : "\\p{N}+", 0, 0);
    if (strcmp(type, "Split") != 0)
        return FAIL(l, "%s: pre_tokenizer \"%.100s\" is not supported; Split, Digits and ByteLevel are", l->what, type);

    const cJSON *pattern = lm_json_get(p, "pattern");
    const char *regex = lm_json_text(pattern, "Regex"), *literal = lm_json_text(pattern, "String");
    const char *behavior = lm_json_text(p, "behavior");
    if (behavior == NULL || strcmp(behavior, "Isolated") != 0 || lm_json_true(p, "invert", 0))
        return FAIL(l, "%s: pre_tokenizer Split with behavior %.50s%s is not supported; Isolated is", l->what,
                    behavior != NULL ? behavior : "(none)", lm_json_true(p, "invert", 0) ? ", inverted," : "");
    if (regex == NULL && literal == NULL) return FAIL(l, "%s: pre_tokenizer Split has no pattern", l->what);
    return add_step(l, regex != NULL ? regex : literal, regex == NULL, 0);
}

static int read_pre_tokenizer(const loader *l)
{
    const cJSON *p = lm_json_get(l->top, "pre_tokenizer"), *v;
    if (strcmp(type_of(p), "Sequence") != 0) return read_step(l, p, 1);
    const cJSON *list = lm_json_get(p, "pretokenizers");
    if (!cJSON_IsArray(list) || list->child == NULL) return FAIL(l, "%s: pre_tokenizer Sequence is empty", l->what);
    cJSON_ArrayForEach(v, list) if (read_step(l, v, v->next == NULL) != 0) return -1;
    return 0;
}

/* Appends the ids of one special token of a template to *ids. */
static int add_template_ids(const loader *l, const cJSON *p, const char *name, int32_t **ids, int *count)
{
    const cJSON *list = lm_json_get(lm_json_get(lm_json_get(p, "special_tokens"), name), "ids"), *v;
    if (!cJSON_IsArray(list)) return FAIL(l, "%s: post_processor: special token %.200s has no ids", l->what, name);
    int32_t *grown = realloc(*ids, (size_t)(*count + cJSON_GetArraySize(list) + 1) * sizeof *grown);
    if (grown == NULL) return FAIL(l, "%s: out of memory", l->what);
    *ids = grown;
    cJSON_ArrayForEach(v, list)
    {
        int64_t id = lm_json_whole(v);
        if (id < 0 || id >= l->tk->bpe.size)
            return FAIL(l, "%s: post_processor: special token %.200s has an id outside the vocabulary", l->what, name);
        grown[(*count)++] = (int32_t)id;
    }
    return 0;
}

/* ByteLevel changes offsets only; TemplateProcessing says what stands around the text. */
static int read_post_processor(const loader *l, const cJSON *p)
{
    lm_tokenizer *tk = l->tk;
    const char *type = type_of(p);
    const cJSON *v;
    if (p == NULL || strcmp(type, "ByteLevel") == 0) return 0;
    if (strcmp(type, "Sequence") == 0 && lm_json_get(p, "processors") != NULL) {
        cJSON_ArrayForEach(v, lm_json_get(p, "processors"))
        {
            if (strcmp(type_of(v), "Sequence") == 0) /* so that the recursion ends here */
                return FAIL(l, "%s: post_processor Sequence in a Sequence is not supported", l->what);
            if (read_post_processor(l, v) != 0) return -1;
        }
        return 0;
    }
    if (strcmp(type, "TemplateProcessing") != 0 || tk->prefix != NULL || tk->suffix != NULL)
        return FAIL(l, "%s: post_processor \"%.100s\" is not supported; ByteLevel and one TemplateProcessing are",
                    l->what, type);
    int behind = 0; /* 1: the text has had its place */
    cJSON_ArrayForEach(v, lm_json_get(p, "single"))
    {
        const char *name = lm_json_text(lm_json_get(v, "SpecialToken"), "id");
        if (name == NULL && (behind || lm_json_get(v, "Sequence") == NULL))
            return FAIL(l, "%s: post_processor: template with parts other than one text and special tokens", l->what);
        if (name == NULL) behind = 1;
        else if (add_template_ids(l, p, name, behind ? &tk->suffix : &tk->prefix,
                                  behind ? &tk->suffix_count : &tk->prefix_count) != 0)
            return -1;
    }
    return behind ? 0 : FAIL(l, "%s: post_processor: template without the text", l->what);
}

lm_tokenizer *lm_tokenizer_open_mem(const char *json, size_t n, const char *what, char *err, size_t errn)
{
    cJSON *top = lm_json_parse(json, n, what, err, errn);
    if (top == NULL) return NULL;
    loader l = { calloc(1, sizeof *l.tk), top, lm_json_get(top, "model"), what, err, errn };
    const cJSON *added = lm_json_get(top, "added_tokens");
    int bad = l.tk == NULL ? FAIL(&l, "%s: out of memory", what) : 0;
    bad = bad || check_features(&l) || read_vocab(&l, added) || read_merges(&l) || read_added(&l, added) ||
          read_pre_tokenizer(&l) || read_post_processor(&l, lm_json_get(top, "post_processor"));
    cJSON_Delete(top);
    if (bad) {
        lm_tokenizer_close(l.tk);
        return NULL;
    }
    return l.tk;
}

lm_tokenizer *lm_tokenizer_open(const char *path, char *err, size_t errn)
{
    size_t n;
    char *text = lm_read_file(path, MAX_FILE, &n, err, errn);
    if (text == NULL) return NULL;
    lm_tokenizer *tk = lm_tokenizer_open_mem(text, n, path, err, errn);
    free(text);
    return tk;
}

void lm_tokenizer_close(lm_tokenizer *tk)
{
    if (tk == NULL) return;
    lm_bpe_free(&tk->bpe);
    for (int i = 0; i < 2; i++) {
        lm_map_free(&tk->tries[i].children);
        free(tk->tries[i].ends);
    }
    for (int i = 0; i < tk->steps_count; i++) lm_split_free(tk->steps[i].split);
    lm_split_free(tk->word);
    free(tk->added);
    free(tk->prefix);
    free(tk->suffix);
    free(tk);
}
