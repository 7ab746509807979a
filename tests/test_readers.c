/* test_readers.c - the safetensors reader and writer, fed with hostile input.
 *
 * Prints a line a case and at the end "N passed, N failed"; exit code 1 when any failed. Worth most under ASan: every
 * buffer handed over is exactly as long as it says. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "llama/safetensors.h"
#include "readers.h"

static char dir[] = "/tmp/octavo_readers_XXXXXX";

/* A safetensors file: the header's text and data_n bytes 0, 1, 2, ... */
static char *make_file(const char *json, size_t data_n, size_t *n)
{
    size_t len = strlen(json);
    *n = 8 + len + data_n;
    char *file = malloc(*n);
    if (file == NULL) exit(2);
    for (int i = 0; i < 8; i++) file[i] = (char)(len >> (8 * i) & 255);
    memcpy(file + 8, json, len);
    for (size_t i = 0; i < data_n; i++) file[8 + len + i] = (char)i;
    return file;
}

static int opens(const char *file, size_t n)
{
    char *copy = exact(file, n);
    lm_tensors *t = lm_tensors_open_mem(copy, n, "test", err, sizeof err);
    int opened = t != NULL;
    lm_tensors_close(t);
    free(copy);
    return opened;
}

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}"
#define T(dtype, shape, span) "{\"x\":{\"dtype\":\"" dtype "\",\"shape\":[" shape "],\"data_offsets\":[" span "]}}"

static void test_headers(void)
{
    static const struct {
        const char *what, *json;
        size_t data_n;
        const char *wanted;
    } cases[] = {
        { "one tensor", "{" A "}", 16, NULL },
        { "metadata and spaces", "{\"__metadata__\":{\"format\":\"pt\"}," A "}    ", 16, NULL },
        { "no tensors", "{}", 0, NULL },
        { "scalar", T("BF16", "", "0,2"), 2, NULL },
        { "zero extent", T("F32", "3,0", "0,0"), 0, NULL },
        { "zero times huge", T("F32", "0,9007199254740992,9007199254740992", "0,0"), 0, NULL },
        { "two out of order", "{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[16,19]}," A "}", 19, NULL },
        { "four-bit", T("F4", "2,3", "0,3"), 3, NULL },
        { "four-bit, half a byte", T("F4", "3", "0,1"), 1, "do not match" },
        { "data without tensors", "{}", 4, "belong to none" },
        { "duplicate name", "{" A "," A "}", 16, "overlaps" },
        { "duplicate empty name",
          "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
          "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
          0, "twice" },
        { "overlap", "{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[12,16]}}", 16, "overlaps" },
        { "hole", "{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[20,24]}}", 24, "hole" },
        { "data behind", "{" A "}", 17, "belong to none" },
        { "data missing", "{" A "}", 15, "outside" },
        { "end before begin", T("U8", "1", "2,1"), 4, "outside" },
        { "negative offset", T("U8", "1", "-1,0"), 4, "outside" },
        { "offset of 2^53", T("U8", "1", "0,9007199254740993"), 1, "outside" },
        { "offset too large for a double", T("U8", "1", "0,1e999"), 1, "outside" },
        { "fractional offset", T("U8", "1", "0,1.5"), 2, "outside" },
        { "one offset", T("U8", "1", "0"), 1, "malformed" },
        { "three offsets", T("U8", "1", "0,1,2"), 1, "malformed" },
        { "offsets of text", T("U8", "1", "\"0\",\"1\""), 1, "outside" },
        { "NaN", T("U8", "NaN", "0,1"), 1, "not JSON" },
        { "negative extent", T("U8", "-1", "0,1"), 1, "whole number" },
        { "fractional extent", T("U8", "0.5", "0,1"), 1, "whole number" },
        { "product overflows", T("U8", "4294967296,4294967296,4294967296", "0,0"), 0, "do not match" },
        { "product overflows to 0", T("U8", "4294967296,4294967296", "0,0"), 0, "do not match" },
        { "bits overflow", T("F64", "2305843009213693952", "0,0"), 0, "whole number" },
        { "too few bytes", T("F32", "2", "0,4"), 4, "do not match" },
        { "nine dimensions", T("U8", "1,1,1,1,1,1,1,1,1", "0,1"), 1, "dimensions" },
        { "unknown dtype", T("F7", "1", "0,1"), 1, "unknown dtype" },
        { "dtype of another case", T("f32", "1", "0,4"), 4, "unknown dtype" },
        { "no dtype", "{\"x\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "malformed" },
        { "entry is a number", "{\"x\":1}", 0, "malformed" },
        { "name with NUL", "{\"x\\u0000\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "NUL" },
        { "array at the top", "[1]", 0, "not one JSON object" },
        { "empty header", "", 0, "not JSON" },
        { "rubbish behind", "{} {}", 0, "not one JSON object" },
        { "open string", "{\"a", 0, "not JSON" },
        { "open object", "{\"a\":1,", 0, "not JSON" },
        { "misaligned", "{" A "} ", 16, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[128];
        size_t n;
        char *file = make_file(cases[i].json, cases[i].data_n, &n);
        snprintf(what, sizeof what, "safetensors: %s", cases[i].what);
        check(as_wanted(opens(file, n), cases[i].wanted), what);
        free(file);
    }
}

static void test_damage(void)
{
    size_t n;
    char *file = make_file("{" A ",\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[16,20]}}", 20, &n);
    int opened = 0, flips = 0;
    for (size_t cut = 0; cut < n; cut++) opened += opens(file, cut);
    check(opened == 0, "safetensors: truncated at every byte");
    for (size_t i = 0; i < 8 * (n - 20); i++) { /* must not crash; some flips, as in a name, are harmless */
        file[i / 8] = (char)(file[i / 8] ^ 1 << i % 8);
        flips += opens(file, n);
        file[i / 8] = (char)(file[i / 8] ^ 1 << i % 8);
    }
    check(flips > 0 && flips < (int)n, "safetensors: every bit of the header flipped");
    memset(file, 0xff, 8);
    err[0] = '\0';
    check(as_wanted(opens(file, n), "cannot be"), "safetensors: header of 2^64 - 1 bytes");
    memset(file, 0, 8);
    file[7] = (char)0x80;
    check(as_wanted(opens(file, n), "cannot be"), "safetensors: header of 2^63 bytes");
    free(file);

    size_t deep = 100000;
    char *json = malloc(deep + 1);
    if (json == NULL) exit(2);
    memset(json, '[', deep);
    json[deep] = '\0';
    memcpy(json, "{\"a\":", 5);
    file = make_file(json, 0, &n);
    check(as_wanted(opens(file, n), "64 levels"), "safetensors: 100000 levels of JSON");
    free(file);
    free(json);
}

static void write_file(const char *name, const void *data, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, n, f) != n || fclose(f) != 0) exit(2);
}

static void remove_file(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    remove(path);
}

/* One tensor of U8 named name, in a file of its own. */
static void write_shard(const char *file, const char *name, int count)
{
    char json[256];
    size_t n;
    snprintf(json, sizeof json, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,%d]}}", name, count,
             count);
    char *bytes = make_file(json, (size_t)count, &n);
    write_file(file, bytes, n);
    free(bytes);
}

static void test_folders(void)
{
    static const struct {
        const char *what, *index, *wanted;
    } cases[] = {
        { "two shards", "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}", NULL },
        { "missing shard", "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"3.safetensors\"}}",
          "3.safetensors: cannot open" },
        { "missing tensor", "{\"weight_map\":{\"a\":\"1.safetensors\",\"c\":\"2.safetensors\"}}",
          "tensor c is not in" },
        { "wrong shard", "{\"weight_map\":{\"b\":\"1.safetensors\",\"a\":\"2.safetensors\"}}", "is not in the shard" },
        { "same name twice", "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"4.safetensors\"}}", "twice" },
        { "shard in a folder", "{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "plain file name" },
        { "shard above", "{\"weight_map\":{\"a\":\"..\"}}", "plain file name" },
        { "shard without name", "{\"weight_map\":{\"a\":\"\"}}", "plain file name" },
        { "shard is a number", "{\"weight_map\":{\"a\":1}}", "plain file name" },
        { "empty map", "{\"weight_map\":{}}", "no weight_map" },
        { "no map", "{}", "no weight_map" },
        { "not JSON", "{", "not JSON" },
    };
    lm_tensors *t = lm_tensors_open(dir, err, sizeof err);
    check(as_wanted(t != NULL, "neither"), "folder: nothing in it");
    write_shard("1.safetensors", "a", 3);
    write_shard("2.safetensors", "b", 5);
    write_shard("4.safetensors", "a", 5);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[128];
        snprintf(what, sizeof what, "folder: %s", cases[i].what);
        write_file("model.safetensors.index.json", cases[i].index, strlen(cases[i].index));
        t = lm_tensors_open(dir, err, sizeof err);
        int ok = as_wanted(t != NULL, cases[i].wanted);
        if (t != NULL) {
            const lm_tensor *b = lm_tensors_find(t, "b");
            ok = ok && lm_tensors_count(t) == 2 && b != NULL && b->bytes == 5 &&
                 memcmp(b->data, "\0\1\2\3\4", 5) == 0 && lm_tensors_find(t, "c") == NULL &&
                 lm_tensors_at(t, 2) == NULL;
        }
        check(ok, what);
        lm_tensors_close(t);
    }
    char fifo[256];
    snprintf(fifo, sizeof fifo, "%s/model.safetensors", dir);
    if (mkfifo(fifo, 0600) == 0)
        check(as_wanted(lm_tensors_open(dir, err, sizeof err) != NULL, "not a regular file"), "folder: a FIFO");
    remove(fifo);
    write_file("model.safetensors", "", 0);
    check(as_wanted(lm_tensors_open(dir, err, sizeof err) != NULL, "too few"), "folder: an empty file");
    const char *all[] = { "1.safetensors", "2.safetensors", "4.safetensors", "model.safetensors.index.json",
                          "model.safetensors" };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) remove_file(all[i]);
}

/* Many tensors of odd sizes through the writer and back: names, shapes, bytes, alignment, release. */
static void test_writer(void)
{
    enum { COUNT = 20000 };
    lm_tensor *list = calloc(COUNT, sizeof *list);
    char (*names)[48] = calloc(COUNT, sizeof *names), path[256];
    if (list == NULL || names == NULL) exit(2);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    for (int i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "layer.%d.\"w\\\xc3\xa9\t%d", i % 77, i);
        list[i] = (lm_tensor){ .name = names[i], .dtype = (lm_dtype)(i % LM_DTYPES), .rank = 2, .shape = { i % 5, 8 } };
    }
    lm_writer *w = lm_writer_open(path, list, COUNT, err, sizeof err);
    int ok = w != NULL;
    unsigned char data[5 * 8 * 8];
    for (int i = COUNT - 1; i >= 0 && ok; i--) { /* backwards, in two pieces */
        int64_t n = i % 5 * 8 * lm_dtype_bits(list[i].dtype) / 8;
        memset(data, i, sizeof data);
        ok = lm_writer_append(w, i, data, n / 3, err, sizeof err) == 0 &&
             lm_writer_append(w, i, data, n - n / 3, err, sizeof err) == 0;
    }
    ok = ok && lm_writer_close(w, err, sizeof err) == 0;
    check(ok, "writer: 20000 tensors of every dtype");
    lm_tensors *t = lm_tensors_open(dir, err, sizeof err);
    ok = t != NULL && lm_tensors_count(t) == COUNT;
    for (int i = 0; i < COUNT && ok; i++) {
        const lm_tensor *x = lm_tensors_find(t, names[i]);
        int64_t n = i % 5 * 8 * lm_dtype_bits(list[i].dtype) / 8;
        memset(data, i, sizeof data);
        ok = x != NULL && x->dtype == list[i].dtype && x->rank == 2 && x->shape[0] == i % 5 && x->bytes == n &&
             memcmp(x->data, data, (size_t)n) == 0;
        if (ok) lm_tensors_release(t, x);
        ok = ok && memcmp(x->data, data, (size_t)n) == 0; /* released pages come back */
    }
    check(ok, "writer: read back");
    lm_tensors_close(t);

    list[0] = (lm_tensor){ .name = "a", .dtype = LM_F32, .rank = 1, .shape = { 2 } };
    w = lm_writer_open(path, list, 1, err, sizeof err);
    check(w != NULL && lm_writer_append(w, 0, data, 9, err, sizeof err) != 0 && strstr(err, "room") != NULL,
          "writer: too much");
    check(w != NULL && lm_writer_append(w, 1, data, 1, err, sizeof err) != 0, "writer: no such tensor");
    check(w != NULL && lm_writer_append(w, 0, data, 7, err, sizeof err) == 0 &&
              lm_writer_close(w, err, sizeof err) != 0 && strstr(err, "7 of its 8") != NULL,
          "writer: incomplete");
    w = lm_writer_open(path, list, 1, err, sizeof err);
    lm_writer_abort(w);
    check(access(path, F_OK) != 0, "writer: abort deletes");
    list[0].shape[0] = -1;
    check(lm_writer_open(path, list, 1, err, sizeof err) == NULL && strstr(err, "cannot be written") != NULL,
          "writer: bad shape");
    list[0].shape[0] = 2;
    check(lm_writer_open("/nonexistent/x", list, 1, err, sizeof err) == NULL && strstr(err, "No such file") != NULL,
          "writer: no such folder");
    w = access("/dev/full", W_OK) == 0 ? lm_writer_open("/dev/full", list, 0, err, sizeof err) : NULL;
    check(w == NULL && strstr(err, "No space") != NULL, "writer: full disk");
    free(list);
    free(names);
}

int main(void)
{
    if (mkdtemp(dir) == NULL) return 2;
    test_headers();
    test_damage();
    test_folders();
    test_writer();
    rmdir(dir);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
