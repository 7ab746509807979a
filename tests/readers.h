/* readers.h - what the tests of the readers share: a line a case, the error text of the last call, exact allocations. */
#ifndef OCTAVO_TESTS_READERS_H
#define OCTAVO_TESTS_READERS_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int passed, failed;
static char err[512];

static void check(int ok, const char *what)
{
    printf("%s %s%s%s\n", ok ? "ok  " : "FAIL", what, ok || !*err ? "" : ": ", ok ? "" : err);
    passed += ok;
    failed += !ok;
    err[0] = '\0';
}

/* wanted: NULL for success, or a part of the error. */
static int as_wanted(int opened, const char *wanted)
{ return wanted == NULL ? opened : !opened && strstr(err, wanted) != NULL; }

/* n bytes in an allocation of exactly that size. */
static char *exact(const void *from, size_t n)
{
    char *p = malloc(n > 0 ? n : 1);
    if (p == NULL) exit(2);
    memcpy(p, from, n);
    return p;
}
#endif
