/* split.c - see split.h. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "split.h"

#include <stdlib.h>
#include <string.h>

#include <pcre2.h>

#include "json.h"

struct lm_split {
    pcre2_code *code;
};

struct lm_split_run {
    pcre2_match_data *match;
    pcre2_match_context *limits;
};

/* Letters and numbers that Unicode 15 and 16 added. The `tokenizers` package knows them; PCRE2 10.42 knows Unicode
 * 14. To name one twice does no harm, so a newer PCRE2 changes nothing. */
#define NEW_LETTERS                                                                                                    \
    "\\x{1c89}\\x{1c8a}\\x{a7cb}-\\x{a7cd}\\x{a7da}-\\x{a7dc}\\x{105c0}-\\x{105f3}\\x{10d4a}-\\x{10d65}"               \
    "\\x{10d6f}-\\x{10d85}\\x{10ec2}-\\x{10ec4}\\x{1123f}\\x{11240}\\x{11380}-\\x{11389}\\x{1138b}\\x{1138e}"          \
    "\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}\\x{113d3}\\x{11bc0}-\\x{11be0}\\x{11f02}\\x{11f04}-\\x{11f10}"          \
    "\\x{11f12}-\\x{11f33}\\x{1342f}\\x{13441}-\\x{13446}\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}"                   \
    "\\x{16d40}-\\x{16d6c}\\x{18cff}\\x{1b132}\\x{1b155}\\x{1df25}-\\x{1df2a}\\x{1e030}-\\x{1e06d}"                    \
    "\\x{1e4d0}-\\x{1e4eb}\\x{1e5d0}-\\x{1e5ed}\\x{1e5f0}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"
#define NEW_NUMBERS                                                                                                    \
    "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}\\x{16130}-\\x{16139}"        \
    "\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}"

/* Unicode's White_Space. PCRE2's own \s has U+180E besides, which has not been a space since Unicode 6.3. */
#define SPACES "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

/* What the classes that need it are rewritten to; neg: the opposite set. */
static const struct {
    const char *name, *set;
    int neg;
} classes[] = {
    { "\\s", SPACES, 0 },
    { "\\S", SPACES, 1 },
    { "\\p{L}", "\\p{L}" NEW_LETTERS, 0 },
    { "\\P{L}", "\\p{L}" NEW_LETTERS, 1 },
    { "\\p{N}", "\\p{N}" NEW_NUMBERS, 0 },
    { "\\P{N}", "\\p{N}" NEW_NUMBERS, 1 },
};
#define LONGEST_SET 1000 /* more than any of them, with brackets */

/* What the translation of a pattern has come to. */
typedef struct {
    const char *at; /* the rest of the pattern */
    char *out;
    int in_class, class_empty; /* inside [...]; nothing in it yet */
    int quantified;            /* a {n,m} has just ended */
} rewriter;

static void emit(rewriter *w, const char *s, size_t n)
{
    memcpy(w->out, s, n);
    w->out += n;
}

/* An escape sequence. Returns what is wrong with it, or NULL. */
static const char *rewrite_escape(rewriter *w)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        size_t n = strlen(classes[i].name);
        if (strncmp(w->at, classes[i].name, n) != 0) continue;
        if (w->in_class && classes[i].neg) return "a negated class such as \\S inside [...] is not supported";
        if (!w->in_class) emit(w, classes[i].neg ? "[^" : "[", classes[i].neg ? 2 : 1);
        emit(w, classes[i].set, strlen(classes[i].set));
        if (!w->in_class) emit(w, "]", 1);
        w->at += n;
        if (w->in_class && w->at[0] == '-' && w->at[1] != ']') return "a range cannot begin with a class";
        return NULL;
    }
    char c = w->at[1];
    size_t n = 2;
    if (c == 'p' || c == 'P') {
        const char *close = w->at[2] == '{' ? strchr(w->at, '}') : NULL;
        if (close == NULL) return "\\p is only supported as \\p{...}";
        n = (size_t)(close - w->at) + 1;
    } else if (c == '\0' || (strchr("rntfdD", c) == NULL &&
                             ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')))) {
        return "it has an escape other than \\s \\S \\d \\D \\r \\n \\t \\f \\p{...}";
    }
    emit(w, w->at, n);
    w->at += n;
    return NULL;
}

/* Any other character. Returns what is wrong with it, or NULL. */
static const char *rewrite_plain(rewriter *w)
{
    const char *at = w->at;
    int quantified = w->quantified;
    w->quantified = 0;
    if (w->in_class) {
        if (*at == '[' || (at[0] == '&' && at[1] == '&')) return "nested classes and && are not supported";
        if (*at == ']' && w->class_empty) return "] as the first character of a class is not supported";
        w->in_class = *at != ']';
        w->class_empty = 0;
    } else if (*at == '[') {
        w->in_class = w->class_empty = 1;
        if (at[1] == '^') {
            emit(w, at, 1);
            w->at++;
        }
    } else if (*at == '}') {
        w->quantified = 1;
    } else if (*at == '+' && quantified) {
        return "{n,m}+ is not supported"; /* possessive for PCRE2, a repeated group for Oniguruma */
    } else if (at[0] == '(' && at[1] == '?' && strchr(":=!>", at[2]) == NULL && strncmp(at, "(?<=", 4) != 0 &&
               strncmp(at, "(?<!", 4) != 0 && strncmp(at, "(?i:", 4) != 0) {
        return "it has a group other than (?: (?i: (?= (?! (?<= (?<! (?>";
    } else if (at[0] == '(' && at[1] == '*') {
        return "(* is not supported";
    }
    emit(w, w->at, 1);
    w->at++;
    return NULL;
}

/* The pattern for PCRE2, to free; NULL and *why when it cannot be vouched for. */
static char *rewrite(const char *pattern, const char **why)
{
    size_t n = strlen(pattern);
    *why = n > 10000 ? "it is longer than 10000 bytes" : NULL;
    char *out = *why == NULL ? malloc(n * LONGEST_SET / 2 + 1) : NULL; /* a rewritten class has 2 bytes at least */
    if (out == NULL) {
        if (*why == NULL) *why = "out of memory";
        return NULL;
    }
    rewriter w = { .at = pattern, .out = out };
    while (*w.at != '\0' && *why == NULL) {
        if (*w.at == '\\') {
            *why = rewrite_escape(&w);
            w.class_empty = w.quantified = 0;
        } else {
            *why = rewrite_plain(&w);
        }
    }
    *w.out = '\0';
    if (*why != NULL) {
        free(out);
        return NULL;
    }
    return out;
}

lm_split *lm_split_new(const char *pattern, int literal, char *err, size_t errn)
{
    const char *why = NULL;
    char *rewritten = literal ? NULL : rewrite(pattern, &why);
    if (why != NULL) {
        lm_fail(err, errn, "pattern %.200s: %s", pattern, why);
        return NULL;
    }
    lm_split *s = calloc(1, sizeof *s);
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    int code = PCRE2_ERROR_NOMEMORY;
    PCRE2_SIZE where = 0;
    if (s != NULL && context != NULL) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        /* MULTILINE: in Oniguruma's Ruby syntax ^ and $ always mean lines. */
        uint32_t options = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE);
        s->code = pcre2_compile((PCRE2_SPTR)(literal ? pattern : rewritten), PCRE2_ZERO_TERMINATED, options, &code,
                                &where, context);
    }
    pcre2_compile_context_free(context);
    free(rewritten);
    if (s == NULL || s->code == NULL) {
        char text[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        lm_fail(err, errn, "pattern %.200s: %s", pattern, text);
        free(s);
        return NULL;
    }
    pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE); /* where there is no JIT, matching is interpreted */
    return s;
}

void lm_split_free(lm_split *s)
{
    if (s == NULL) return;
    pcre2_code_free(s->code);
    free(s);
}

lm_split_run *lm_split_run_new(void)
{
    lm_split_run *r = calloc(1, sizeof *r);
    if (r == NULL) return NULL;
    r->match = pcre2_match_data_create(1, NULL);
    r->limits = pcre2_match_context_create(NULL);
    if (r->match == NULL || r->limits == NULL) {
        lm_split_run_free(r);
        return NULL;
    }
    /* A run of n spaces costs up to n steps with the patterns in use; the default of 10 million is a bit small for
     * whole files, and a bound there must be, because a pattern may need exponential time. */
    pcre2_set_match_limit(r->limits, 100000000);
    return r;
}

void lm_split_run_free(lm_split_run *r)
{
    if (r == NULL) return;
    pcre2_match_data_free(r->match);
    pcre2_match_context_free(r->limits);
    free(r);
}

int lm_split_next(const lm_split *s, lm_split_run *r, const uint8_t *text, size_t n, size_t *at, size_t *begin,
                  size_t *end)
{
    while (*at < n) {
        int rc = pcre2_match(s->code, text, n, *at, PCRE2_NO_UTF_CHECK, r->match, r->limits);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
            rc = pcre2_match(s->code, text, n, *at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, r->match, r->limits);
        if (rc == PCRE2_ERROR_NOMATCH) return 0;
        if (rc < 0) return -1;
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(r->match);
        *begin = span[0];
        *end = span[1];
        if (*end > *begin) {
            *at = *end;
            return 1;
        }
        /* An empty match, at or behind *at, cuts nothing: look on from the next character. */
        *at = (*begin > *at ? *begin : *at) + 1;
        while (*at < n && (text[*at] & 0xc0) == 0x80) ++*at;
    }
    return 0;
}
