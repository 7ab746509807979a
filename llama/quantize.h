/* quantize.h - a Hugging Face Llama folder to FP8, in the layout of fbgemm_fp8 or of compressed-tensors. */
#ifndef OCTAVO_LLAMA_QUANTIZE_H
#define OCTAVO_LLAMA_QUANTIZE_H
#include <signal.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int all;                    /* 0: the Llama 3 recipe, linears of the feed-forward part but those of the first and the
                                   last layer; 1: every linear of every layer */
    const char *const *skip;    /* names of linears that stay as they are, as glob patterns */
    int skip_count;
    int compressed_tensors;     /* 0: config.json says fbgemm_fp8; 1: compressed-tensors, which knows no bound of activations */
    double activation_ub;       /* written to config.json; 1200 in the Llama 3 recipe */
    int threads;
    int64_t shard_bytes;        /* a new file begins before this is passed; 0 means 5e9 */
    const volatile sig_atomic_t *stop; /* becomes non-zero: stop, leave nothing behind */
    void (*progress)(double done, double total);
} lm_quantize_options;

typedef struct {
    int64_t linears, quantized, bytes_in, bytes_out;
} lm_quantize_result;

/* Writes OUT, which must not exist, from IN. OUT appears when it is complete, and not at all otherwise.
 * Weights: codes f8e4m3fn [n, k] under the linear's name, and `<linear>.weight_scale` f32 [n, 1]; a row's scale is
 * max(amax / 448, 1 / (448 512)). What is not quantized becomes BF16. Memory: a block of rows, whatever the size of IN.
 * 0, or an error: -1 the machine (disk, memory, interrupted), -2 the input. */
int lm_quantize(const char *in, const char *out, const lm_quantize_options *o, lm_quantize_result *r, char *err, size_t errn);
#endif
