/* cache.h - fbgemm's KV caches as octavo's descriptor, for the operators of rope.c and attn.c. All of them run on the CPU. */
#ifndef OCTAVO_TORCH_CACHE_H
#define OCTAVO_TORCH_CACHE_H
#include "ops.h"

/* What says how a cache [B, MAX_T, H, ROW] is to be read: fbgemm's cache_logical_dtype_int (0 bf16, 1 FP8, 2 INT4; a bf16
 * tensor is bf16 whatever it says), groups of INT4, and, when it is paged as [1, PAGES page_size, H, ROW], its table. */
typedef struct cache {
    tensor k, v, table; /* table [B, pages a lane] int32, or None */
    int64_t logical, groups, page_size;
} cache;

/* d: head size, 0: as many as a row holds. */
oct_kv describe(call *c, const cache *in, int64_t d);
int64_t cache_lanes(const cache *in);
/* Parameters outside the row, scales a head: fbgemm's arguments that must be None, and what they would mean. */
void need_none(call *c, const tensor *t);
/* An int32 [n] on the CPU, packed; NULL for None. */
const int32_t *indices(call *c, const tensor *t, int64_t n);
/* Strides of [t, heads, d] in elements: of a token, of a head. A tensor whose heads are not contiguous is copied. */
typedef struct heads {
    void *data;
    int64_t t, heads, d, token, head;
} heads;
heads as_heads(call *c, const tensor *t);
heads as_heads_output(call *c, const tensor *t);
#endif
