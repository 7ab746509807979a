/* safetensors.c - the reader; safetensors.h says what it checks. */
#define _GNU_SOURCE
#include "safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"

#define MAX_HEADER 100000000 /* the format's own limit */
#define MAX_SHARDS 10000

/* How a file's bytes are held, and so how they are given back. */
typedef enum { BORROWED, MAPPED, COPIED } holding;

typedef struct {
    char *path;
    uint8_t *bytes; /* the whole file; when COPIED, its data section only */
    size_t n;
    holding held;
} st_file;

struct lm_tensors {
    st_file *files;
    int64_t nfiles;
    lm_tensor *list; /* sorted by name once open */
    int64_t count, room;
};

/* Where an error goes. */
typedef struct {
    char *text;
    size_t n;
} st_err;

/* Reads dtype, shape and data_offsets of one header entry into x; x->data is left for the caller. Returns the
 * offset of its first byte, or -1 and err. */
static int64_t read_entry(const cJSON *entry, const char *file, int64_t data_bytes, lm_tensor *x, st_err e)
{
    const char *dtype = lm_json_text(entry, "dtype");
    const cJSON *shape = lm_json_get(entry, "shape"), *span = lm_json_get(entry, "data_offsets"), *v;

    if (dtype == NULL || !cJSON_IsArray(shape) || !cJSON_IsArray(span) || cJSON_GetArraySize(span) != 2)
        return lm_fail(e.text, e.n, "%s: tensor %.200s: dtype, shape or data_offsets is missing or malformed", file,
                       entry->string);
    x->dtype = lm_dtype_find(dtype);
    if (x->dtype == LM_DTYPES)
        return lm_fail(e.text, e.n, "%s: tensor %.200s: unknown dtype %.40s", file, entry->string, dtype);

    cJSON_ArrayForEach(v, shape)
    {
        int64_t extent = lm_json_whole(v);
        if (extent < 0)
            return lm_fail(e.text, e.n, "%s: tensor %.200s: an extent of its shape is no whole number", file,
                           entry->string);
        if (x->rank == LM_MAX_RANK)
            return lm_fail(e.text, e.n, "%s: tensor %.200s: more than %d dimensions", file, entry->string, LM_MAX_RANK);
        x->shape[x->rank++] = extent;
    }

    int64_t begin = lm_json_whole(span->child), end = lm_json_whole(span->child->next);
    if (begin < 0 || end < begin || end > data_bytes)
        return lm_fail(e.text, e.n, "%s: tensor %.200s: data_offsets outside the file's %lld bytes of data", file,
                       entry->string, (long long)data_bytes);
    x->bytes = end - begin;

    int64_t count = lm_shape_count(x->shape, x->rank), bits;
    if (count < 0 || __builtin_mul_overflow(count, (int64_t)lm_dtype_bits(x->dtype), &bits) || bits % 8 != 0 ||
        bits / 8 != x->bytes)
        return lm_fail(e.text, e.n, "%s: tensor %.200s: its %lld bytes do not match shape and dtype %s", file,
                       entry->string, (long long)x->bytes, dtype);
    return begin;
}

static int by_data(const void *a, const void *b)
{
    const lm_tensor *x = a, *y = b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* the empty ones first */
}

static int by_name(const void *a, const void *b)
{ return strcmp(((const lm_tensor *)a)->name, ((const lm_tensor *)b)->name); }

/* The format's rule: sorted by offset, the tensors tile the data section; no holes, no overlaps. */
static int check_tiling(lm_tensor *list, int64_t count, const uint8_t *data, int64_t data_bytes, const char *file,
                        st_err e)
{
    const uint8_t *at = data;
    if (count > 0) qsort(list, (size_t)count, sizeof *list, by_data);
    for (int64_t i = 0; i < count; i++) {
        if (list[i].data != at)
            return lm_fail(e.text, e.n, "%s: tensor %.200s: its data %s", file, list[i].name,
                           (const uint8_t *)list[i].data < at ? "overlaps another tensor's" : "follows a hole");
        at += list[i].bytes;
    }
    if (at != data + data_bytes)
        return lm_fail(e.text, e.n, "%s: %lld bytes behind the last tensor belong to none", file,
                       (long long)(data + data_bytes - at));
    return 0;
}

static void free_bytes(st_file *f)
{
    if (f->held == MAPPED) munmap(f->bytes, f->n);
    if (f->held == COPIED) free(f->bytes);
    f->bytes = NULL;
    f->held = BORROWED;
}

/* When a tensor of the file is not aligned to its element: replaces the mapping by a copy in which each is. */
static int align_data(st_file *f, lm_tensor *list, int64_t count, st_err e)
{
    int aligned = 1;
    size_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        int unit = lm_dtype_bits(list[i].dtype) / 8;
        if (unit > 1 && list[i].bytes > 0 && (uintptr_t)list[i].data % (unsigned)unit != 0) aligned = 0;
        total += ((size_t)list[i].bytes + 63) / 64 * 64;
    }
    if (aligned) return 0;
    uint8_t *copy = aligned_alloc(64, total);
    if (copy == NULL)
        return lm_fail(e.text, e.n, "%s: out of memory: its tensors are not aligned, so %zu bytes must be copied",
                       f->path, total);
    size_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        memcpy(copy + at, list[i].data, (size_t)list[i].bytes);
        list[i].data = copy + at;
        at += ((size_t)list[i].bytes + 63) / 64 * 64;
    }
    free_bytes(f);
    f->bytes = copy;
    f->n = total;
    f->held = COPIED;
    return 0;
}

/* A new, empty element at the end of t->list; NULL when memory is out. */
static lm_tensor *add_tensor(lm_tensors *t)
{
    if (t->count == t->room) {
        int64_t room = t->room > 0 ? 2 * t->room : 256;
        lm_tensor *list = realloc(t->list, (size_t)room * sizeof *list);
        if (list == NULL) return NULL;
        t->list = list;
        t->room = room;
    }
    lm_tensor *x = &t->list[t->count];
    memset(x, 0, sizeof *x);
    return x;
}

/* Adds the tensors of one file, whose bytes f already holds. */
static int read_header(lm_tensors *t, st_file *f, st_err e)
{
    uint64_t len = 0;
    if (f->n < 8) return lm_fail(e.text, e.n, "%s: %zu bytes are too few for a safetensors file", f->path, f->n);
    for (int i = 0; i < 8; i++) len |= (uint64_t)f->bytes[i] << (8 * i);
    if (len > MAX_HEADER || len > f->n - 8)
        return lm_fail(e.text, e.n,
                       "%s: a header of %llu bytes cannot be in a file of %zu (truncated, or not safetensors)", f->path,
                       (unsigned long long)len, f->n);
    const char *text = (const char *)f->bytes + 8;
    if (memmem(text, (size_t)len, "\\u0000", 6) != NULL) /* would cut a name short */
        return lm_fail(e.text, e.n, "%s: a name in the header has a NUL", f->path);
    cJSON *top = lm_json_parse(text, (size_t)len, f->path, e.text, e.n);
    if (top == NULL) return -1;

    const uint8_t *data = f->bytes + 8 + len;
    int64_t data_bytes = (int64_t)(f->n - 8 - len), first = t->count;
    int bad = 0;
    const cJSON *entry;
    cJSON_ArrayForEach(entry, top)
    {
        if (strcmp(entry->string, "__metadata__") == 0) continue;
        lm_tensor *x = add_tensor(t);
        if (x == NULL || (x->name = strdup(entry->string)) == NULL) {
            bad = lm_fail(e.text, e.n, "%s: out of memory", f->path);
            break;
        }
        t->count++; /* from here on lm_tensors_close frees the name */
        int64_t begin = read_entry(entry, f->path, data_bytes, x, e);
        if (begin < 0) {
            bad = -1;
            break;
        }
        x->data = data + begin;
        x->file = f->path;
    }
    cJSON_Delete(top);
    if (bad || t->count == first) /* no tensors at all: then there is nothing to tile either */
        return bad ? -1 : check_tiling(NULL, 0, data, data_bytes, f->path, e);
    lm_tensor *own = t->list + first;
    int64_t count = t->count - first;
    if (check_tiling(own, count, data, data_bytes, f->path, e) != 0) return -1;
    return align_data(f, own, count, e);
}

/* A new element of t->files with its path; NULL when memory is out. */
static st_file *add_file(lm_tensors *t, const char *path)
{
    st_file *files = realloc(t->files, (size_t)(t->nfiles + 1) * sizeof *files);
    if (files == NULL) return NULL;
    t->files = files;
    st_file *f = &files[t->nfiles];
    memset(f, 0, sizeof *f);
    f->path = strdup(path);
    if (f->path == NULL) return NULL;
    t->nfiles++;
    return f;
}

/* Maps a file and adds its tensors. */
static int add_path(lm_tensors *t, const char *path, st_err e)
{
    st_file *f = add_file(t, path);
    if (f == NULL) return lm_fail(e.text, e.n, "%s: out of memory", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return lm_fail(e.text, e.n, "%s: cannot open: %s", path, strerror(errno));
    struct stat st;
    int bad = 0;
    void *map = MAP_FAILED;
    if (fstat(fd, &st) != 0) bad = lm_fail(e.text, e.n, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode)) bad = lm_fail(e.text, e.n, "%s: not a regular file", path);
    else if (st.st_size < 8)
        bad = lm_fail(e.text, e.n, "%s: %lld bytes are too few for a safetensors file", path, (long long)st.st_size);
    else if ((map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        bad = lm_fail(e.text, e.n, "%s: cannot map: %s", path, strerror(errno));
    close(fd);
    if (bad) return -1;
    f->bytes = map;
    f->n = (size_t)st.st_size;
    f->held = MAPPED;
    return read_header(t, f, e);
}

/* Sorts by name and refuses a name that occurs twice. */
static int sort_names(lm_tensors *t, st_err e)
{
    if (t->count > 0) qsort(t->list, (size_t)t->count, sizeof *t->list, by_name);
    for (int64_t i = 1; i < t->count; i++)
        if (strcmp(t->list[i - 1].name, t->list[i].name) == 0)
            return lm_fail(e.text, e.n, "%s: tensor %.200s occurs twice (also in %s)", t->list[i].file, t->list[i].name,
                           t->list[i - 1].file);
    return 0;
}

static int by_shard(const void *a, const void *b)
{
    const cJSON *const *x = a, *const *y = b;
    return strcmp((*x)->valuestring, (*y)->valuestring);
}

/* Opens each shard that the index names, then looks for each tensor that it names. map: name -> shard. */
static int add_shards(lm_tensors *t, const char *dir, const char *index, const cJSON *map, st_err e)
{
    int count = cJSON_GetArraySize(map), bad = 0, n = 0;
    const cJSON **entries = malloc((size_t)(count > 0 ? count : 1) * sizeof *entries), *v;
    if (entries == NULL) return lm_fail(e.text, e.n, "%s: out of memory", index);
    cJSON_ArrayForEach(v, map)
    {
        const char *shard = cJSON_IsString(v) ? v->valuestring : "";
        if (*shard == '\0' || strchr(shard, '/') != NULL || strstr(shard, "..") != NULL) {
            bad = lm_fail(e.text, e.n, "%s: tensor %.200s: %s is no shard's name: only a plain file name is", index,
                          v->string, *shard != '\0' ? shard : "an empty string");
            break;
        }
        entries[n++] = v;
    }
    if (!bad && n > 0) qsort(entries, (size_t)n, sizeof *entries, by_shard);
    for (int i = 0; i < n && !bad; i++) {
        if (i > 0 && strcmp(entries[i]->valuestring, entries[i - 1]->valuestring) == 0) continue;
        char *path = lm_path_join(dir, entries[i]->valuestring);
        if (path == NULL || t->nfiles == MAX_SHARDS)
            bad = lm_fail(e.text, e.n, "%s: out of memory, or more than %d shards", index, MAX_SHARDS);
        else bad = add_path(t, path, e);
        free(path);
    }
    if (!bad) bad = sort_names(t, e);
    for (int i = 0; i < n && !bad; i++) {
        const lm_tensor *x = lm_tensors_find(t, entries[i]->string);
        const char *shard = x != NULL ? strrchr(x->file, '/') + 1 : NULL;
        if (shard == NULL || strcmp(shard, entries[i]->valuestring) != 0)
            bad = lm_fail(e.text, e.n, "%s: tensor %.200s is not in the shard that it names, %s", index,
                          entries[i]->string, entries[i]->valuestring);
    }
    free(entries);
    return bad;
}

/* The sharded case: reads the index. */
static int open_index(lm_tensors *t, const char *dir, const char *index, st_err e)
{
    size_t n;
    char *text = lm_read_file(index, MAX_HEADER, &n, e.text, e.n);
    if (text == NULL && n == SIZE_MAX)
        return lm_fail(e.text, e.n, "%s: has neither model.safetensors nor model.safetensors.index.json", dir);
    if (text == NULL) return -1;
    cJSON *top = lm_json_parse(text, n, index, e.text, e.n);
    free(text);
    if (top == NULL) return -1;
    const cJSON *map = lm_json_get(top, "weight_map");
    int bad = !cJSON_IsObject(map) || map->child == NULL ? lm_fail(e.text, e.n, "%s: has no weight_map", index)
                                                         : add_shards(t, dir, index, map, e);
    cJSON_Delete(top);
    return bad;
}

lm_tensors *lm_tensors_open(const char *dir, char *err, size_t errn)
{
    st_err e = { err, errn };
    lm_tensors *t = calloc(1, sizeof *t);
    char *single = lm_path_join(dir, "model.safetensors"), *index = lm_path_join(dir, "model.safetensors.index.json");
    int bad;
    if (t == NULL || single == NULL || index == NULL) bad = lm_fail(err, errn, "%s: out of memory", dir);
    else if (access(single, F_OK) == 0) bad = add_path(t, single, e) != 0 || sort_names(t, e) != 0;
    else bad = open_index(t, dir, index, e);
    free(single);
    free(index);
    if (bad) {
        lm_tensors_close(t);
        return NULL;
    }
    return t;
}

lm_tensors *lm_tensors_open_mem(const void *bytes, size_t n, const char *name, char *err, size_t errn)
{
    st_err e = { err, errn };
    lm_tensors *t = calloc(1, sizeof *t);
    st_file *f = t != NULL ? add_file(t, name) : NULL;
    if (f == NULL) {
        lm_fail(err, errn, "%s: out of memory", name);
        lm_tensors_close(t);
        return NULL;
    }
    f->bytes = (uint8_t *)(uintptr_t)bytes; /* BORROWED: only ever read */
    f->n = n;
    if (read_header(t, f, e) != 0 || sort_names(t, e) != 0) {
        lm_tensors_close(t);
        return NULL;
    }
    return t;
}

void lm_tensors_close(lm_tensors *t)
{
    if (t == NULL) return;
    for (int64_t i = 0; i < t->count; i++) free((char *)(uintptr_t)t->list[i].name);
    for (int64_t i = 0; i < t->nfiles; i++) {
        free_bytes(&t->files[i]);
        free(t->files[i].path);
    }
    free(t->list);
    free(t->files);
    free(t);
}

int64_t lm_tensors_count(const lm_tensors *t) { return t->count; }

const lm_tensor *lm_tensors_at(const lm_tensors *t, int64_t i) { return i >= 0 && i < t->count ? &t->list[i] : NULL; }

const lm_tensor *lm_tensors_find(const lm_tensors *t, const char *name)
{
    lm_tensor key = { .name = name };
    return t->count > 0 ? bsearch(&key, t->list, (size_t)t->count, sizeof key, by_name) : NULL;
}

void lm_tensors_release(const lm_tensors *t, const lm_tensor *tensor)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)tensor->data;
    uintptr_t end = (begin + (uintptr_t)tensor->bytes + page - 1) & ~(page - 1);
    begin &= ~(page - 1);
    /* Only mappings: a copy's pages would come back as zeros. Pages shared with a neighbour are read again. */
    for (int64_t i = 0; i < t->nfiles; i++)
        if (t->files[i].path == tensor->file && t->files[i].held == MAPPED && begin < end)
            madvise((void *)begin, end - begin, MADV_DONTNEED);
}
