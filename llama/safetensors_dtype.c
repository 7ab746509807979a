/* safetensors_dtype.c - the element types that a safetensors file can name, and the size of a shape. */
#include "safetensors.h"

#include <string.h>

static const struct {
    const char *name;
    int bits;
} dtypes[LM_DTYPES] = {
    [LM_BOOL] = { "BOOL", 8 },
    [LM_U8] = { "U8", 8 },
    [LM_I8] = { "I8", 8 },
    [LM_I16] = { "I16", 16 },
    [LM_U16] = { "U16", 16 },
    [LM_I32] = { "I32", 32 },
    [LM_U32] = { "U32", 32 },
    [LM_I64] = { "I64", 64 },
    [LM_U64] = { "U64", 64 },
    [LM_F64] = { "F64", 64 },
    [LM_F32] = { "F32", 32 },
    [LM_F16] = { "F16", 16 },
    [LM_BF16] = { "BF16", 16 },
    [LM_C64] = { "C64", 64 },
    [LM_F8_E4M3] = { "F8_E4M3", 8 },
    [LM_F8_E5M2] = { "F8_E5M2", 8 },
    [LM_F8_E8M0] = { "F8_E8M0", 8 },
    [LM_F8_E4M3FNUZ] = { "F8_E4M3FNUZ", 8 },
    [LM_F8_E5M2FNUZ] = { "F8_E5M2FNUZ", 8 },
    [LM_F6_E2M3] = { "F6_E2M3", 6 },
    [LM_F6_E3M2] = { "F6_E3M2", 6 },
    [LM_F4] = { "F4", 4 },
};

const char *lm_dtype_name(lm_dtype dtype) { return (unsigned)dtype < LM_DTYPES ? dtypes[dtype].name : "?"; }

int lm_dtype_bits(lm_dtype dtype) { return (unsigned)dtype < LM_DTYPES ? dtypes[dtype].bits : 0; }

lm_dtype lm_dtype_find(const char *name)
{
    int d = 0;
    while (d < LM_DTYPES && strcmp(name, dtypes[d].name) != 0) d++;
    return (lm_dtype)d;
}

int64_t lm_shape_count(const int64_t *shape, int rank)
{
    int64_t count = 1;
    for (int i = 0; i < rank; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(count, shape[i], &count)) return -1;
    return count;
}
