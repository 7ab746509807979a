/* main.c - `octavo COMMAND ...`. */
#include "cli/cli.h"
#include "octavo.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
} commands[] = {
    { "quantize", cmd_quantize, "a Hugging Face Llama folder to FP8 weights" },
    { "run", cmd_run, "generate text" },
    { "eval", cmd_eval, "perplexity and logits of a text" },
    { "tokenize", cmd_tokenize, "text to token ids, and back" },
    { "info", cmd_info, "this machine, and what octavo found on it" },
    { "list", cmd_list, "the table of kernels" },
    { "check", cmd_check, "every kernel against its reference" },
    { "bench", cmd_bench, "kernels against the machine's limits; or a whole model" },
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void usage(FILE *f)
{
    fprintf(f, "octavo %s: kernels of low-precision LLM inference\n\nUsage: octavo COMMAND [OPTION...]\n\n", oct_version());
    for (int i = 0; i < COMMANDS; i++) fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].what);
    fprintf(f, "\n`octavo COMMAND --help` explains a command, with an example.\n"
               "OCT_TRACE=1 in the environment prints every op and the kernel that ran it.\n"
               "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 an input is missing, damaged or not supported.\n");
}

static void trace(void *ctx, const char *op, const char *kernel, oct_status s)
{
    (void)ctx;
    fprintf(stderr, "octavo: %s %s %s\n", op, *kernel ? kernel : "-", oct_status_str(s));
}

int main(int argc, char **argv)
{
    const char *const t = getenv("OCT_TRACE"), *const name = argc > 1 ? argv[1] : "--help";
    if (t && *t && strcmp(t, "0")) oct_set_trace(trace, 0);
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(name, commands[i].name)) {
            const int code = commands[i].run(argc - 1, argv + 1);
            return fflush(stdout) && !code ? cli_error(CLI_FAIL, "cannot write to standard output") : code;
        }
    if (!strcmp(name, "--version")) return printf("octavo %s\n", oct_version()) < 0;
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        usage(stdout);
        return argc > 1 ? CLI_OK : CLI_USAGE;
    }
    cli_error(CLI_USAGE, "%s is not a command", name);
    usage(stderr);
    return CLI_USAGE;
}
