/* safetensors_write.c - the streaming writer; safetensors.h has the contract. */
#define _GNU_SOURCE
#include "safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"

/* One declared tensor: where its bytes lie in the file and how many have come. */
typedef struct {
    int64_t begin, bytes, done;
    int bits;
    int64_t order; /* its place in the declaration */
} wr_slot;

struct lm_writer {
    char *path;
    int fd;
    int64_t count;
    wr_slot *slots;
};

/* Larger elements first; among equals as declared. */
static int by_bits(const void *a, const void *b)
{
    const wr_slot *x = a, *y = b;
    if (x->bits != y->bits) return x->bits > y->bits ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static int by_order(const void *a, const void *b)
{
    const wr_slot *x = a, *y = b;
    return (x->order > y->order) - (x->order < y->order);
}

/* Writes all of it at the offset, through short writes and signals. */
static int write_all(int fd, const char *from, int64_t n, int64_t at)
{
    while (n > 0) {
        ssize_t put = pwrite(fd, from, (size_t)(n < 1 << 30 ? n : 1 << 30), at);
        if (put < 0 && errno == EINTR) continue;
        if (put == 0) errno = ENOSPC;
        if (put <= 0) return -1;
        from += put;
        at += put;
        n -= put;
    }
    return 0;
}

/* A JSON string; other bytes than these stand for themselves. */
static void put_string(FILE *f, const char *s)
{
    putc('"', f);
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') fprintf(f, "\\%c", c);
        else if (c < 0x20) fprintf(f, "\\u%04x", c);
        else putc(c, f);
    }
    putc('"', f);
}

/* Sizes and offsets of the data; -1 and err when a declaration makes no sense. Leaves slots in declared order. */
static int lay_out(wr_slot *slots, const lm_tensor *list, int64_t count, const char *path, char *err, size_t errn)
{
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        int bits = lm_dtype_bits(list[i].dtype);
        int64_t n = list[i].rank >= 0 && list[i].rank <= LM_MAX_RANK ? lm_shape_count(list[i].shape, list[i].rank) : -1;
        if (bits == 0 || n < 0 || __builtin_mul_overflow(n, (int64_t)bits, &n) || n % 8 != 0)
            return lm_fail(err, errn, "%s: tensor %.200s: dtype or shape cannot be written", path, list[i].name);
        slots[i] = (wr_slot){ .bytes = n / 8, .bits = bits, .order = i };
    }
    if (count > 0) qsort(slots, (size_t)count, sizeof *slots, by_bits);
    for (int64_t i = 0; i < count; i++) {
        slots[i].begin = at;
        if (__builtin_add_overflow(at, slots[i].bytes, &at) || at > INT64_MAX / 2)
            return lm_fail(err, errn, "%s: too large", path);
    }
    if (count > 0) qsort(slots, (size_t)count, sizeof *slots, by_order);
    return 0;
}

/* The file's first bytes: length and JSON, padded by spaces to a multiple of 8. NULL when memory is out. */
static char *make_header(const wr_slot *slots, const lm_tensor *list, int64_t count, size_t *n)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, n);
    if (f == NULL) return NULL;
    fwrite("\0\0\0\0\0\0\0", 1, 8, f); /* the length, below */
    /* transformers refuses a file that does not say for which framework it was saved */
    fputs("{\"__metadata__\":{\"format\":\"pt\"}", f);
    for (int64_t i = 0; i < count; i++) {
        putc(',', f);
        put_string(f, list[i].name);
        fprintf(f, ":{\"dtype\":\"%s\",\"shape\":[", lm_dtype_name(list[i].dtype));
        for (int d = 0; d < list[i].rank; d++) fprintf(f, "%s%" PRId64, d > 0 ? "," : "", list[i].shape[d]);
        fprintf(f, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", slots[i].begin, slots[i].begin + slots[i].bytes);
    }
    putc('}', f);
    fflush(f);
    while (*n % 8 != 0) {
        putc(' ', f);
        fflush(f);
    }
    int bad = ferror(f);
    if (fclose(f) != 0 || bad) {
        free(text);
        return NULL;
    }
    uint64_t len = (uint64_t)*n - 8;
    for (int i = 0; i < 8; i++) text[i] = (char)(unsigned char)(len >> (8 * i) & 255);
    return text;
}

/* Deletes an unfinished file; not a device, should one have been named. */
static void discard(const lm_writer *w)
{
    struct stat st;
    if (w->fd >= 0 && fstat(w->fd, &st) == 0 && S_ISREG(st.st_mode)) unlink(w->path);
}

static void free_writer(lm_writer *w)
{
    if (w->fd >= 0) close(w->fd);
    free(w->path);
    free(w->slots);
    free(w);
}

lm_writer *lm_writer_open(const char *path, const lm_tensor *list, int64_t count, char *err, size_t errn)
{
    lm_writer *w = calloc(1, sizeof *w);
    if (w == NULL) {
        lm_fail(err, errn, "%s: out of memory", path);
        return NULL;
    }
    w->fd = -1;
    w->count = count;
    w->path = strdup(path);
    w->slots = calloc((size_t)(count > 0 ? count : 1), sizeof *w->slots);
    if (w->path == NULL || w->slots == NULL) {
        lm_fail(err, errn, "%s: out of memory", path);
        free_writer(w);
        return NULL;
    }
    if (lay_out(w->slots, list, count, path, err, errn) != 0) {
        free_writer(w);
        return NULL;
    }
    size_t n = 0;
    char *header = make_header(w->slots, list, count, &n);
    if (header == NULL) {
        lm_fail(err, errn, "%s: out of memory", path);
        free_writer(w);
        return NULL;
    }
    int64_t total = (int64_t)n;
    for (int64_t i = 0; i < count; i++) {
        w->slots[i].begin += (int64_t)n;
        total += w->slots[i].bytes;
    }
    w->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int bad = w->fd < 0;
    /* Ask for all the space now, so that a full disk shows at once; not every file system can say. */
    if (!bad && fallocate(w->fd, 0, 0, total) != 0) bad = errno == ENOSPC || errno == EFBIG || errno == EDQUOT;
    bad = bad || write_all(w->fd, header, (int64_t)n, 0) != 0;
    free(header);
    if (bad) {
        lm_fail(err, errn, "%s: cannot write: %s", path, strerror(errno));
        discard(w);
        free_writer(w);
        return NULL;
    }
    return w;
}

int lm_writer_append(lm_writer *w, int64_t i, const void *data, int64_t bytes, char *err, size_t errn)
{
    if (i < 0 || i >= w->count || bytes < 0 || bytes > w->slots[i].bytes - w->slots[i].done)
        return lm_fail(err, errn, "%s: more data than tensor %lld has room for", w->path, (long long)i);
    if (write_all(w->fd, data, bytes, w->slots[i].begin + w->slots[i].done) != 0)
        return lm_fail(err, errn, "%s: cannot write: %s", w->path, strerror(errno));
    w->slots[i].done += bytes;
    return 0;
}

int lm_writer_close(lm_writer *w, char *err, size_t errn)
{
    int bad = 0;
    for (int64_t i = 0; i < w->count && !bad; i++)
        if (w->slots[i].done != w->slots[i].bytes)
            bad = lm_fail(err, errn, "%s: tensor %lld has %lld of its %lld bytes", w->path, (long long)i,
                          (long long)w->slots[i].done, (long long)w->slots[i].bytes);
    if (!bad && fsync(w->fd) != 0) bad = lm_fail(err, errn, "%s: cannot write: %s", w->path, strerror(errno));
    int closed = close(w->fd);
    w->fd = -1;
    if (!bad && closed != 0) bad = lm_fail(err, errn, "%s: cannot write: %s", w->path, strerror(errno));
    free_writer(w);
    return bad;
}

void lm_writer_abort(lm_writer *w)
{
    if (w == NULL) return;
    discard(w);
    free_writer(w);
}
