/* fuzz_config.c - libFuzzer target: the input is a config.json; behind a NUL there may be a generation_config.json. */
#include <stdlib.h>
#include <string.h>

#include "llama/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *text = (const char *)data, *generation = n > 0 ? memchr(text, 0, n) : NULL;
    size_t config_n = generation != NULL ? (size_t)(generation - text) : n;
    char err[256];
    lm_config c;
    if (generation != NULL) generation++;
    if (lm_config_parse(&c, text, config_n, generation, generation != NULL ? n - config_n - 1 : 0, err, sizeof err) !=
        0)
        return 0;
    /* What config.h promises. */
    if (c.heads < 1 || c.kv_heads < 1 || c.heads % c.kv_heads != 0 || c.head_dim < 2 || c.head_dim % 2 != 0 ||
        c.layers < 1 || c.hidden < 1 || c.intermediate < 1 || c.vocab < 1 || c.eos_count > LM_MAX_EOS)
        abort();
    for (int i = 0; i < c.eos_count; i++)
        if (c.eos[i] < 0 || c.eos[i] >= c.vocab) abort();
    return 0;
}
