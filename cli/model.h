/* model.h - options of a model that several sub-commands read, and the timing of a whole model. */
#ifndef OCTAVO_CLI_MODEL_H
#define OCTAVO_CLI_MODEL_H
#include "cli/cli.h"
#include "llama/model.h"

/* The words of --kv ("bf16", "f8", "i4") to OCT_KV_, and of --act ("f8", "bf16") to lm_options.act_bf16; another word is a usage
 * error. Both return 0. */
int kv_option(struct argp_state *state, const char *word, int32_t *format);
int act_option(struct argp_state *state, const char *word, int *act_bf16);

/* Opens a model with a progress bar, and a cache; a message and CLI_ code on failure. */
int open_model(const char *dir, int threads, int act, lm_model **m);
int open_cache(lm_model *m, int64_t lanes, int64_t ctx, int32_t format, lm_cache **c);

typedef struct {
    const char *dir;
    int threads, act_bf16;
    int32_t kv;
    int64_t prompt, generate;
    double seconds;
} model_bench;
int bench_model(const model_bench *b);
#endif
