/* npy.h - reads .npy files, format version 1.0, one dimension, little endian: the golden vectors. */
#ifndef OCTAVO_TESTS_NPY_H
#define OCTAVO_TESTS_NPY_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline _Noreturn void npy_die(const char *dir, const char *name, const char *what)
{
    fprintf(stderr, "%s/%s: %s\n", dir, name, what);
    exit(2);
}

/* The elements of dir/name, which must have the type descr ("<f4", "<f8", "<u2", "|u1", "<i4"); *n, if not NULL,
 * receives how many. To be freed. Any error ends the program. */
static inline void *npy_read(const char *dir, const char *name, const char *descr, int64_t *n)
{
    unsigned char head[10];
    char path[1024], text[512], want[32];
    long long count;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f) npy_die(dir, name, "cannot be opened");
    if (fread(head, 1, 10, f) != 10 || memcmp(head, "\x93NUMPY\x01\x00", 8))
        npy_die(dir, name, "is not a .npy file of version 1.0");
    const size_t len = head[8] | (size_t)head[9] << 8, size = (size_t)(descr[2] - '0');
    if (len >= sizeof text || fread(text, 1, len, f) != len) npy_die(dir, name, "its header is too long or cut off");
    text[len] = 0;
    snprintf(want, sizeof want, "'descr': '%s'", descr);
    const char *shape = strstr(text, "'shape': (");
    if (!strstr(text, want) || !strstr(text, "'fortran_order': False"))
        npy_die(dir, name, "has another type than expected");
    if (!shape || sscanf(shape, "'shape': (%lld,)", &count) != 1 || count < 0)
        npy_die(dir, name, "is not of one dimension");
    void *data = malloc((size_t)count * size + 1);
    if (!data || fread(data, size, (size_t)count, f) != (size_t)count) npy_die(dir, name, "is cut off");
    fclose(f);
    if (n) *n = count;
    return data;
}

/* dir/name as text, a case a line; lines that begin with '#' are comments. */
static inline FILE *npy_cases(const char *dir, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "r");
    if (!f) npy_die(dir, name, "cannot be opened");
    return f;
}
#endif
