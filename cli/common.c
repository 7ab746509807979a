/* common.c - what the sub-commands share: messages, progress, arguments, files. */
#define _GNU_SOURCE
#include "cli/cli.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int cli_error(int code, const char *fmt, ...)
{
    va_list ap;
    fflush(stdout);
    fputs("octavo: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return code;
}

double cli_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void cli_progress(const char *what, double done, double total)
{
    static int last, finished = 1; /* of the bar that is being drawn */
    static double drawn;
    const int tty = isatty(2), percent = done < total ? (int)(100 * done / total) : 100, end = done >= total;
    if (end && finished) return;
    if (finished) last = -10;
    else if (!end && (tty ? cli_now() - drawn < 0.1 : percent < last + 10)) return;
    drawn = cli_now();
    last = percent;
    finished = end;
    if (tty) {
        char bar[31];
        memset(bar, '.', 30);
        memset(bar, '#', (size_t)(30 * percent / 100));
        bar[30] = 0;
        fprintf(stderr, "\r%-24s [%s] %3d %%%s", what, bar, percent, end ? "\n" : "");
    } else
        fprintf(stderr, "%s: %d %%\n", what, percent);
}

void cli_parse(const struct argp *parser, const char *command, int argc, char **argv, void *options)
{
    static char name[64]; /* what argp calls the program */
    snprintf(name, sizeof name, "octavo %s", command);
    argp_err_exit_status = CLI_USAGE;
    argv[0] = name;
    if (argp_parse(parser, argc, argv, 0, 0, options)) exit(CLI_USAGE);
}

int64_t cli_number(struct argp_state *state, const char *option, const char *text, int64_t lo, int64_t hi)
{
    char *end;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (errno || end == text || *end || v < lo || v > hi)
        argp_error(state, "--%s %s: a whole number from %lld to %lld is needed", option, text, (long long)lo, (long long)hi);
    return v;
}

double cli_real(struct argp_state *state, const char *option, const char *text, double lo, double hi)
{
    char *end;
    const double v = strtod(text, &end);
    if (end == text || *end || !(v >= lo && v <= hi))
        argp_error(state, "--%s %s: a number from %g to %g is needed", option, text, lo, hi);
    return v;
}

const char *cli_name(const char *path) { return strcmp(path, "-") ? path : "standard input"; }

char *cli_read(const char *path, size_t *n)
{
    FILE *f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    char *text = 0;
    size_t room = 0;
    *n = 0;
    if (!f) {
        cli_error(CLI_INPUT, "%s: cannot open: %s", path, strerror(errno));
        return 0;
    }
    for (;;) {
        if (*n + 1 >= room) { /* always a byte for the NUL */
            char *grown = realloc(text, room = room ? 2 * room : 1 << 16);
            if (!grown) {
                cli_error(CLI_FAIL, "%s: out of memory", cli_name(path));
                break;
            }
            text = grown;
        }
        const size_t got = fread(text + *n, 1, room - 1 - *n, f);
        *n += got;
        if (got) continue;
        if (ferror(f)) {
            cli_error(CLI_INPUT, "%s: cannot read: %s", cli_name(path), strerror(errno));
            break;
        }
        if (f != stdin) fclose(f);
        text[*n] = 0;
        return text;
    }
    if (f != stdin) fclose(f);
    free(text);
    return 0;
}
