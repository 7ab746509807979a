/* cli.h - the sub-commands of `octavo`; each parses its own arguments with argp (glibc). */
#ifndef OCTAVO_CLI_H
#define OCTAVO_CLI_H
#include <argp.h>
#include <stddef.h>
#include <stdint.h>

/* Exit codes, the same for every sub-command. */
enum {
    CLI_OK = 0,    /* done */
    CLI_FAIL = 1,  /* a check failed, or the machine refused: disk full, out of memory, interrupted */
    CLI_USAGE = 2, /* the command line is wrong */
    CLI_INPUT = 3  /* an input file is missing, damaged or not supported */
};

int cmd_info(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_quantize(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);

/* "octavo: " and the message on stderr, one line; returns code. */
int cli_error(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A progress bar on stderr: drawn in place on a terminal, a line every 10 % elsewhere; done == total ends it. */
void cli_progress(const char *what, double done, double total);

/* Parses with argp under the name "octavo COMMAND"; wrong usage ends the program with CLI_USAGE. */
void cli_parse(const struct argp *parser, const char *command, int argc, char **argv, void *options);

/* An option's whole number in [lo, hi]; anything else is a usage error that names the option. */
int64_t cli_number(struct argp_state *state, const char *option, const char *text, int64_t lo, int64_t hi);
double cli_real(struct argp_state *state, const char *option, const char *text, double lo, double hi);

/* What messages call a file: "standard input" for "-". */
const char *cli_name(const char *path);

/* All bytes of a file, or of standard input for "-", with a NUL behind them, to free; NULL and a message on failure. */
char *cli_read(const char *path, size_t *n);

/* Seconds of a clock that only moves forward. */
double cli_now(void);

#endif
