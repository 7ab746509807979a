/* model.c - opening a model and its cache for a sub-command; the speed of a whole model. */
#include "cli/model.h"
#include "cli/cli.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int kv_option(struct argp_state *state, const char *word, int32_t *format)
{
    *format = !strcmp(word, "bf16") ? OCT_KV_BF16 : !strcmp(word, "f8") ? OCT_KV_F8_TOKEN : !strcmp(word, "i4") ? OCT_KV_I4 : 0;
    if (!*format) argp_error(state, "--kv %s: bf16, f8 or i4", word);
    return 0;
}

int act_option(struct argp_state *state, const char *word, int *act_bf16)
{
    *act_bf16 = !strcmp(word, "bf16");
    if (!*act_bf16 && strcmp(word, "f8")) argp_error(state, "--act %s: f8 or bf16", word);
    return 0;
}

static void loading(double done, double total) { cli_progress("loading", done, total); }

int open_model(const char *dir, int threads, int act, lm_model **m)
{
    char err[512];
    const lm_options o = { threads, act, loading };
    *m = lm_model_open(dir, &o, err, sizeof err);
    return *m ? CLI_OK : cli_error(CLI_INPUT, "%s", err);
}

int open_cache(lm_model *m, int64_t lanes, int64_t ctx, int32_t format, lm_cache **c)
{
    char err[512];
    /* INT4: groups of 32 elements where the head size allows, 4 bytes of parameters each. */
    const int64_t d = lm_model_config(m)->head_dim;
    int32_t groups = 1;
    while (groups < 8 && d / (2 * groups) >= 32 && d % (4 * groups) == 0) groups *= 2;
    *c = lm_cache_open(m, lanes, ctx, format, groups, err, sizeof err);
    return *c ? CLI_OK : cli_error(CLI_FAIL, "%s", err);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Passes over a prompt of random tokens, then one token at a time, again and again; the best and the median count. */
int bench_model(const model_bench *b)
{
    enum { ROUNDS = 200 };
    static double prefill[ROUNDS], decode[ROUNDS];
    char err[512];
    lm_model *m = 0;
    lm_cache *c = 0;
    int32_t *token = malloc((size_t)b->prompt * 4), *lane = calloc((size_t)b->prompt, 4), one, rounds = 0;
    int code = open_model(b->dir, b->threads, b->act_bf16, &m);
    if (!code) code = open_cache(m, 1, b->prompt + b->generate, b->kv, &c);
    float *logits = code ? 0 : malloc((size_t)lm_model_config(m)->vocab * 4);
    if (!code && (!token || !lane || !logits)) code = cli_error(CLI_FAIL, "out of memory");
    const int32_t last = (int32_t)b->prompt - 1, zero = 0;
    uint32_t r = 1;
    for (int64_t i = 0; !code && i < b->prompt; i++) token[i] = (int32_t)((r = r * 1664525u + 1013904223u) >> 8) % (int32_t)lm_model_config(m)->vocab;
    for (const double end = cli_now() + b->seconds; !code && rounds < ROUNDS && (rounds < 2 || cli_now() < end); rounds++) {
        double t = cli_now();
        lm_cache_clear(c, 0);
        if (lm_forward(m, c, b->prompt, token, lane, 1, &last, logits, err, sizeof err)) code = cli_error(CLI_FAIL, "%s", err);
        prefill[rounds] = cli_now() - t;
        t = cli_now();
        for (int64_t i = 0; !code && i < b->generate; i++) {
            one = token[i % b->prompt];
            if (lm_forward(m, c, 1, &one, lane, 1, &zero, logits, err, sizeof err)) code = cli_error(CLI_FAIL, "%s", err);
        }
        decode[rounds] = cli_now() - t;
    }
    if (!code) {
        qsort(prefill, (size_t)rounds, sizeof *prefill, by_value);
        qsort(decode, (size_t)rounds, sizeof *decode, by_value);
        printf("prefill %lld tokens: best %.1f, median %.1f tokens/s\ndecode %lld tokens: best %.1f, median %.1f tokens/s\n",
               (long long)b->prompt, (double)b->prompt / prefill[0], (double)b->prompt / prefill[rounds / 2],
               (long long)b->generate, (double)b->generate / decode[0], (double)b->generate / decode[rounds / 2]);
    }
    free(token); free(lane); free(logits);
    lm_cache_close(c);
    lm_model_close(m);
    return code;
}
