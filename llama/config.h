/* config.h - config.json and generation_config.json of a LlamaForCausalLM folder, checked. */
#ifndef OCTAVO_LLAMA_CONFIG_H
#define OCTAVO_LLAMA_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#define LM_MAX_EOS 16

/* How rotary frequencies are stretched. LLAMA3 is Llama 3.1's rule, with its four numbers below. */
typedef enum { LM_ROPE_PLAIN, LM_ROPE_LLAMA3 } lm_rope_kind;

typedef struct {
    /* Shapes. Each is positive and bounded, heads is a multiple of kv_heads, head_dim is even. */
    int64_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocab, max_positions;

    double rms_eps, rope_theta;
    lm_rope_kind rope;
    double rope_factor, rope_low_freq, rope_high_freq; /* LM_ROPE_LLAMA3 only */
    int64_t rope_original_positions;

    int tied;                     /* the head is the embedding */
    int attention_bias, mlp_bias; /* 1: the linears have biases */

    int64_t bos;             /* -1: none */
    int64_t eos[LM_MAX_EOS]; /* any of these ends the text; generation_config.json wins over config.json */
    int eos_count;

    int f8;                     /* 1: quantization_config is fbgemm_fp8 */
    double activation_scale_ub; /* upper bound of activation scales' row maxima; 1200 where absent */
} lm_config;

/* Reads DIR/config.json and, where it exists, DIR/generation_config.json. 0, or -1 and err. */
int lm_config_open(lm_config *c, const char *dir, char *err, size_t errn);

/* The same from memory. generation may be NULL. */
int lm_config_parse(lm_config *c, const char *config, size_t n, const char *generation, size_t generation_n, char *err,
                    size_t errn);

#endif
