/* quantize.c - `octavo quantize`: the command line of llama/quantize.h. */
#define _GNU_SOURCE
#include "cli/cli.h"
#include "llama/quantize.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MAX_SKIP = 256, RECIPE = 256, FORMAT, SKIP, UB, SHARD };

typedef struct {
    const char *in, *out, *skip[MAX_SKIP];
    lm_quantize_options q;
} options;

static const struct argp_option option_list[] = {
    { "recipe", RECIPE, "NAME", 0, "llama3 (default): the linears of the feed-forward part, but not those of the first and the last layer. "
                                   "all: every linear of every layer. The head, embeddings and norms stay BF16", 0 },
    { "format", FORMAT, "NAME", 0, "fbgemm (default): what transformers' fbgemm_fp8 reads. compressed-tensors: what that package and vLLM read; "
                                   "tensors are the same", 0 },
    { "skip", SKIP, "PATTERN", 0, "Leave linears whose name matches as they are, e.g. 'model.layers.1.*' or '*.down_proj'; may be repeated", 0 },
    { "activation-ub", UB, "X", 0, "Bound of activation maxima, written to config.json (default 1200, as in the Llama 3 recipe)", 0 },
    { "shard-bytes", SHARD, "N", 0, "Begin a new weight file before this size (default 5000000000)", 0 },
    { "threads", 'j', "N", 0, "Threads (default: all)", 0 },
    { 0 } };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    options *o = state->input;
    switch (key) {
    case RECIPE:
        o->q.all = !strcmp(arg, "all");
        if (!o->q.all && strcmp(arg, "llama3")) argp_error(state, "--recipe %s: llama3 or all", arg);
        return 0;
    case FORMAT:
        o->q.compressed_tensors = !strcmp(arg, "compressed-tensors");
        if (!o->q.compressed_tensors && strcmp(arg, "fbgemm")) argp_error(state, "--format %s: fbgemm or compressed-tensors", arg);
        return 0;
    case SKIP:
        if (o->q.skip_count == MAX_SKIP) argp_error(state, "more than %d --skip", MAX_SKIP);
        o->skip[o->q.skip_count++] = arg;
        return 0;
    case UB: o->q.activation_ub = cli_real(state, "activation-ub", arg, 1e-6, 3e38); return 0;
    case SHARD: o->q.shard_bytes = cli_number(state, "shard-bytes", arg, 1, INT64_MAX / 2); return 0;
    case 'j': o->q.threads = (int)cli_number(state, "threads", arg, 1, 1024); return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num == 0) o->in = arg;
        else if (state->arg_num == 1) o->out = arg;
        else argp_error(state, "%s: unexpected", arg);
        return 0;
    case ARGP_KEY_END:
        if (!o->out) argp_error(state, "IN and OUT are needed");
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static const struct argp parser = { option_list, parse, "IN OUT",
    "Quantize the Hugging Face Llama folder IN (safetensors, BF16, F16 or F32) to FP8 and write the folder OUT: FP8 weights with a "
    "scale a row, in a layout that transformers and vLLM read.\v"
    "OUT appears when it is complete; an interrupted run leaves nothing behind. Memory does not grow with the checkpoint.\n\n"
    "Example:\n  octavo quantize SmolLM2-135M-Instruct SmolLM2-135M-Instruct-FP8 --recipe llama3\n\n"
    "Exit codes: 0 done, 1 failed (disk, memory, interrupted), 2 wrong command line, 3 the input is missing, damaged or not supported.\n", 0, 0, 0 };

static volatile sig_atomic_t stop;
static void on_signal(int sig) { stop = sig; }
static void show(double done, double total) { cli_progress("quantizing", done, total); }

int cmd_quantize(int argc, char **argv)
{
    options o = { .q = { .activation_ub = 1200, .stop = &stop, .progress = show } };
    char err[512];
    lm_quantize_result r;
    o.q.skip = o.skip;
    cli_parse(&parser, "quantize", argc, argv, &o);
    const struct sigaction action = { .sa_handler = on_signal };
    const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    for (int i = 0; i < 3; i++) sigaction(signals[i], &action, 0);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of write, not a death */
    const int bad = lm_quantize(o.in, o.out, &o.q, &r, err, sizeof err);
    if (bad) return cli_error(bad == -2 ? CLI_INPUT : CLI_FAIL, "%s", err);
    printf("%s: %lld of %lld linears are FP8; %.1f MB became %.1f MB\n", o.out, (long long)r.quantized, (long long)r.linears,
           (double)r.bytes_in * 1e-6, (double)r.bytes_out * 1e-6);
    return CLI_OK;
}
