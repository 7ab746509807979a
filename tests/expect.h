/* expect.h - what a test program expects, counted; a failure is printed with the library's last error. */
#ifndef OCTAVO_TESTS_EXPECT_H
#define OCTAVO_TESTS_EXPECT_H
#include "octavo.h"
#include <stdarg.h>
#include <stdio.h>

static int passed, failed;

static void expect(int ok, const char *fmt, ...)
{
    va_list ap;
    if (ok) {
        passed++;
        return;
    }
    failed++;
    printf("FAIL ");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf(" (last error: %s)\n", oct_error_text());
}
#endif
