/* split.h - the regular expressions that cut text into words. Private to the tokenizer.
 *
 * Patterns in tokenizer.json are Oniguruma's; PCRE2 runs them here. split.c rewrites the few things on which the
 * two disagree, and refuses what it cannot vouch for, because a wrong cut gives wrong ids without any error. */
#ifndef OCTAVO_LLAMA_SPLIT_H
#define OCTAVO_LLAMA_SPLIT_H

#include <stddef.h>
#include <stdint.h>

typedef struct lm_split lm_split;
typedef struct lm_split_run lm_split_run; /* the state of one thread */

/* pattern is UTF-8; literal: it stands for itself. NULL and err on failure. Immutable, so threads may share it. */
lm_split *lm_split_new(const char *pattern, int literal, char *err, size_t errn);
void lm_split_free(lm_split *s);

lm_split_run *lm_split_run_new(void); /* NULL when memory is out */
void lm_split_run_free(lm_split_run *r);

/* The next non-empty match in text[*at..n), which must be valid UTF-8. 1: it is [*begin, *end), and *at is moved
 * behind it; 0: there is none; -1: the pattern gave up (backtracking limit). */
int lm_split_next(const lm_split *s, lm_split_run *r, const uint8_t *text, size_t n, size_t *at, size_t *begin,
                  size_t *end);

#endif
