/* cli.h - the sub-commands of `octavo`; each parses its own arguments with argp (glibc). */
#ifndef OCTAVO_CLI_H
#define OCTAVO_CLI_H

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

#endif
