/* json.c - see json.h. cJSON does the parsing; this file bounds what it is given. */
#define _GNU_SOURCE
#include "json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 64
#define MAX_VALUES 8000000

int lm_fail(char *err, size_t errn, const char *fmt, ...)
{
    if (err == NULL || errn == 0) return -1;
    va_list args;
    va_start(args, fmt);
    vsnprintf(err, errn, fmt, args);
    va_end(args);
    for (char *c = err; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    return -1;
}

char *lm_path_join(const char *dir, const char *name)
{
    size_t a = strlen(dir), b = strlen(name);
    char *path = malloc(a + b + 2);
    if (path == NULL) return NULL;
    memcpy(path, dir, a);
    path[a] = '/';
    memcpy(path + a + 1, name, b + 1);
    return path;
}

/* Reads exactly n bytes, through short reads and signals. */
static int read_all(int fd, char *to, size_t n)
{
    while (n > 0) {
        ssize_t got = read(fd, to, n);
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) errno = EIO; /* shorter than fstat said: someone is writing it */
        if (got <= 0) return -1;
        to += got;
        n -= (size_t)got;
    }
    return 0;
}

char *lm_read_file(const char *path, size_t max, size_t *n, char *err, size_t errn)
{
    *n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* O_NONBLOCK: a FIFO must not hang us */
    if (fd < 0) {
        *n = errno == ENOENT ? SIZE_MAX : 0;
        lm_fail(err, errn, "%s: cannot open: %s", path, strerror(errno));
        return NULL;
    }
    struct stat st;
    char *text = NULL;
    if (fstat(fd, &st) != 0) lm_fail(err, errn, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode)) lm_fail(err, errn, "%s: not a regular file", path);
    else if ((uint64_t)st.st_size > max)
        lm_fail(err, errn, "%s: %lld bytes, more than the %zu that such a file may have", path, (long long)st.st_size,
                max);
    else if ((text = malloc((size_t)st.st_size + 1)) == NULL)
        lm_fail(err, errn, "%s: out of memory for %lld bytes", path, (long long)st.st_size);
    else if (read_all(fd, text, (size_t)st.st_size) != 0) {
        lm_fail(err, errn, "%s: cannot read: %s", path, strerror(errno));
        free(text);
        text = NULL;
    } else {
        *n = (size_t)st.st_size;
        text[*n] = '\0';
    }
    close(fd);
    return text;
}

/* One pass over the bytes before cJSON allocates a node for each value: bounds depth and count. Every value but
 * the first stands behind a '[', a '{' or a ',' outside a string. */
static const char *too_much(const char *text, size_t n)
{
    int depth = 0, in_string = 0;
    long values = 1;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') i++;
            else if (c == '"') in_string = 0;
            continue;
        }
        if (c == '"') in_string = 1;
        if (c == '[' || c == '{') depth++;
        if (c == ']' || c == '}') depth--;
        values += c == '[' || c == '{' || c == ',';
        if (depth > MAX_DEPTH) return "nested more than 64 levels deep";
        if (values > MAX_VALUES) return "more than 8000000 values";
    }
    return NULL;
}

cJSON *lm_json_parse(const char *text, size_t n, const char *what, char *err, size_t errn)
{
    if (memchr(text, 0, n) != NULL) {
        lm_fail(err, errn, "%s: not JSON: it has NUL bytes", what);
        return NULL;
    }
    const char *bad = too_much(text, n);
    if (bad != NULL) {
        lm_fail(err, errn, "%s: JSON refused: %s", what, bad);
        return NULL;
    }
    /* A terminated copy: cJSON before 1.7.18 may look one byte past a buffer that ends inside an object. */
    char *copy = malloc(n + 1);
    if (copy == NULL) {
        lm_fail(err, errn, "%s: out of memory", what);
        return NULL;
    }
    memcpy(copy, text, n);
    copy[n] = '\0';
    const char *end = copy;
    cJSON *top = cJSON_ParseWithLengthOpts(copy, n + 1, &end, 0);
    if (top == NULL) {
        lm_fail(err, errn, "%s: not JSON: error at byte %zu of %zu", what, (size_t)(end - copy), n);
    } else if (!cJSON_IsObject(top) || end[strspn(end, " \t\r\n")] != '\0') {
        lm_fail(err, errn, "%s: not one JSON object", what);
        cJSON_Delete(top);
        top = NULL;
    }
    free(copy);
    return top;
}

const cJSON *lm_json_get(const cJSON *o, const char *key)
{
    const cJSON *found = NULL, *v;
    if (!cJSON_IsObject(o)) return NULL;
    cJSON_ArrayForEach(v, o) if (strcmp(v->string, key) == 0) found = v;
    return cJSON_IsNull(found) ? NULL : found;
}

const char *lm_json_text(const cJSON *o, const char *key)
{
    const cJSON *v = lm_json_get(o, key);
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

int lm_json_true(const cJSON *o, const char *key, int fallback)
{
    const cJSON *v = lm_json_get(o, key);
    return cJSON_IsBool(v) ? cJSON_IsTrue(v) : fallback;
}

int64_t lm_json_whole(const cJSON *v)
{
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 9007199254740992.0)) return -1;
    int64_t i = (int64_t)v->valuedouble;
    return (double)i == v->valuedouble ? i : -1;
}
