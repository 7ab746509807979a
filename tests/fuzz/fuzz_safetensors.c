/* fuzz_safetensors.c - libFuzzer target: the input is a safetensors file. */
#include <stdlib.h>
#include <string.h>

#include "llama/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char err[256];
    lm_tensors *t = lm_tensors_open_mem(data, n, "fuzz", err, sizeof err);
    unsigned sum = 0;
    for (int64_t i = 0; t != NULL && i < lm_tensors_count(t); i++) {
        /* What the reader lets through must be readable throughout, findable, and consistent. */
        const lm_tensor *x = lm_tensors_at(t, i);
        const uint8_t *bytes = x->data;
        for (int64_t k = 0; k < x->bytes; k++) sum += bytes[k];
        int unit = lm_dtype_bits(x->dtype) / 8;
        if (lm_tensors_find(t, x->name) != x ||
            lm_shape_count(x->shape, x->rank) * lm_dtype_bits(x->dtype) != 8 * x->bytes ||
            (unit > 1 && x->bytes > 0 && (uintptr_t)x->data % (unsigned)unit != 0))
            abort();
    }
    lm_tensors_close(t);
    return sum == 1 && n == 0; /* always 0, but the compiler cannot know, so the bytes are read */
}
