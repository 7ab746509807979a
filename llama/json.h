/* json.h - what every reader of a model folder shares: error text, whole files, and JSON that cannot hurt us.
 *
 * Errors are one sentence written into the caller's buffer: err[0..errn), always terminated, control bytes
 * replaced by '?', because names in them come from files that nobody has vetted.
 */
#ifndef OCTAVO_LLAMA_JSON_H
#define OCTAVO_LLAMA_JSON_H

#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

/* Writes the sentence into err (NULL or errn == 0: nowhere) and returns -1, so that callers can `return lm_fail(...)`.
 */
int lm_fail(char *err, size_t errn, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* dir + "/" + name, in memory to free; NULL when memory is out. */
char *lm_path_join(const char *dir, const char *name);

/* Reads a regular file of at most max bytes; one NUL is added behind the n bytes. NULL and err on failure.
 * A missing file gives *n = SIZE_MAX beside the error, so that optional files can be told from damaged ones. */
char *lm_read_file(const char *path, size_t max, size_t *n, char *err, size_t errn);

/* Parses n bytes. Refused: no object at the top, anything behind it, NUL bytes, more than 64 levels, more than
 * 8 million values (a bound on memory: about 1 GB). what names the source in errors. Free with cJSON_Delete. */
cJSON *lm_json_parse(const char *text, size_t n, const char *what, char *err, size_t errn);

/* The member of an object by its exact name, the last one where it is repeated (as Python's json does);
 * NULL when o is no object, the member is absent, or it is null. */
const cJSON *lm_json_get(const cJSON *o, const char *key);

/* A member's text; NULL when it is absent or no string. */
const char *lm_json_text(const cJSON *o, const char *key);

/* A member's truth; fallback when it is absent or neither true nor false. */
int lm_json_true(const cJSON *o, const char *key, int fallback);

/* The value as a whole number in [0, 2^53], or -1 when it is none. */
int64_t lm_json_whole(const cJSON *v);

#endif
