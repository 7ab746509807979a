/* check.c - `octavo check` and `octavo bench`: the harness of tests/, and the speed of a whole model. */
#define _GNU_SOURCE
#include "cli/cli.h"
#include "cli/model.h"
#include "tests/check.h"
#include <errno.h>
#include <stdlib.h>

typedef struct {
    ck_options ck;
    model_bench model;
} options;

enum { SEED = 256, EXTRA, QUICK, BACKEND, EXACT, SHAPE, PEERS, SECONDS, CSV, SVG, PROMPT, GENERATE, KV, ACT };

static error_t parse(int key, char *arg, struct argp_state *state)
{
    options *o = state->input;
    switch (key) {
    case 'f': o->ck.filter = arg; return 0;
    case SEED: o->ck.seed = (uint64_t)cli_number(state, "seed", arg, 1, INT64_MAX); return 0;
    case EXTRA: o->ck.extra = (int)cli_number(state, "extra", arg, 0, 100000); return 0;
    case QUICK: o->ck.quick = 1; return 0;
    case BACKEND: o->ck.backend = arg; return 0;
    case EXACT: o->ck.exact = 1; return 0;
    case SHAPE: o->ck.shape = arg; return 0;
    case PEERS: o->ck.peers = arg ? arg : "bench/peers/gpu.py"; return 0;
    case 't': o->ck.threads = o->model.threads = (int)cli_number(state, "threads", arg, 1, 1024); return 0;
    case SECONDS: o->ck.seconds = o->model.seconds = cli_real(state, "seconds", arg, 0.01, 3600); return 0;
    case CSV: o->ck.csv = arg; return 0;
    case SVG: o->ck.svg = arg; return 0;
    case 'm': o->model.dir = arg; return 0;
    case PROMPT: o->model.prompt = cli_number(state, "prompt", arg, 1, 1 << 20); return 0;
    case GENERATE: o->model.generate = cli_number(state, "generate", arg, 1, 1 << 20); return 0;
    case KV: return kv_option(state, arg, &o->model.kv);
    case ACT: return act_option(state, arg, &o->model.act_bf16);
    case ARGP_KEY_ARG: argp_error(state, "%s: unexpected", arg); return EINVAL;
    }
    return ARGP_ERR_UNKNOWN;
}

static const struct argp_option check_options[] = {
    { "filter", 'f', "TEXT", 0, "Only kernels whose name contains TEXT", 0 },
    { "seed", SEED, "N", 0, "Seed of the cases (default: the clock; it is printed)", 0 },
    { "extra", EXTRA, "N", 0, "Random cases beyond those in which every pair of choices meets (default 50)", 0 },
    { "quick", QUICK, 0, 0, "Leave large shapes out", 0 },
    { "backend", BACKEND, "NAME", 0, "Only kernels of this backend: ref, avx2, sm90", 0 },
    { "exact", EXACT, 0, 0, "GPU: an allocation a buffer, so that compute-sanitizer sees where it ends", 0 },
    { 0 } };
static const struct argp check_parser = { check_options, parse, 0,
    "Run every kernel that this machine can run against its reference, on hostile inputs.\v"
    "Example, all kernels of gemm on a seed of yours:\n  octavo check --filter gemm --seed 7\n\n"
    "Exit codes: 0 every kernel passed, 1 one failed.\n", 0, 0, 0 };

int cmd_check(int argc, char **argv)
{
    options o = { .ck = { .extra = 50, .threads = 1, .seconds = 1 } };
    cli_parse(&check_parser, "check", argc, argv, &o);
    return ck_check_all(&o.ck) ? CLI_FAIL : CLI_OK;
}

static const struct argp_option bench_options[] = {
    { "filter", 'f', "TEXT", 0, "Only kernels whose name contains TEXT", 0 },
    { "threads", 't', "N", 0, "Threads (default 1)", 0 },
    { "backend", BACKEND, "NAME", 0, "Only kernels of this backend; sm90: on the GPU, with shapes of its own", 0 },
    { "shape", SHAPE, "TEXT", 0, "Only shapes whose description contains TEXT", 0 },
    { "peers", PEERS, "SCRIPT", OPTION_ARG_OPTIONAL, "GPU: beside other programs, timed by SCRIPT (default bench/peers/gpu.py)", 0 },
    { "seconds", SECONDS, "S", 0, "Seconds a shape (default 1)", 0 },
    { "csv", CSV, "FILE", 0, "Write the figures to FILE", 0 },
    { "svg", SVG, "FILE", 0, "Draw a bar a kernel, as its share of the machine's limit", 0 },
    { "model", 'm', "DIR", 0, "Instead: tokens/s of this model", 1 },
    { "prompt", PROMPT, "N", 0, "Tokens of the prompt (default 512)", 1 },
    { "generate", GENERATE, "N", 0, "Tokens generated (default 128)", 1 },
    { "kv", KV, "FORMAT", 0, "Cache: bf16 (default), f8, i4", 1 },
    { "act", ACT, "TYPE", 0, "Activations that FP8 weights meet: f8 (default), bf16", 1 },
    { 0 } };
static const struct argp bench_parser = { bench_options, parse, 0,
    "Time every kernel beside the limits of this machine: reading memory, f32 FMA. Rounds are interleaved; the best "
    "counts. On a GPU: the median of replayed graphs over rotating buffers. A kernel that fails its check is not timed.\v"
    "Example, as a picture:\n  octavo bench --filter gemm --svg gemm.svg\n"
    "Example, a whole model:\n  octavo bench --model SmolLM2-135M-Instruct-FP8 --threads 2\n", 0, 0, 0 };

int cmd_bench(int argc, char **argv)
{
    options o = { .ck = { .extra = 0, .threads = 1, .seconds = 1, .quick = 1 },
                  .model = { .threads = 1, .seconds = 10, .prompt = 512, .generate = 128, .kv = OCT_KV_BF16 } };
    cli_parse(&bench_parser, "bench", argc, argv, &o);
    if (o.model.dir) return bench_model(&o.model);
    if (ck_check_all(&o.ck)) return CLI_FAIL; /* a wrong kernel has no speed */
    return ck_bench_all(&o.ck) ? CLI_FAIL : CLI_OK;
}
