/* core.h - what every entry file and kernel may use: errors, argument checks, sizes, threads. */
#ifndef OCTAVO_CORE_CORE_H
#define OCTAVO_CORE_CORE_H
#include "octavo.h"

/* Sets this thread's error text and returns s. */
oct_status oct_fail(oct_status s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* cdiv(a, b) for a >= 0, b > 0, without overflow. */
static inline int64_t oct_cdiv(int64_t a, int64_t b) { return a / b + (a % b != 0); }
static inline int64_t oct_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t oct_max(int64_t a, int64_t b) { return a > b ? a : b; }

/* a * b for a, b >= 0, or -1 when it does not fit an int64_t; -1 in gives -1 out, so that products chain. */
static inline int64_t oct_mul(int64_t a, int64_t b)
{
    int64_t r;
    return a < 0 || b < 0 || __builtin_mul_overflow(a, b, &r) ? -1 : r;
}

/* One operand as it is checked: its name, its pointer, and [outer][rows][cols] with strides that may be 0 (packed). */
typedef struct oct_operand {
    const char *op, *name;
    const void *p;
    int32_t dtype;       /* for alignment and size */
    int32_t optional;    /* 1: NULL is allowed; nothing is checked then */
    int64_t rows, cols;  /* >= 0 */
    int64_t *ld;         /* row stride in elements; NULL: packed. 0 becomes cols */
    int64_t outer;       /* copies of the matrix (batch); 0 means 1 */
    int64_t *stride;     /* between copies; NULL: packed. 0 becomes the matrix's own span; OCT_BROADCAST becomes 0 */
} oct_operand;
/* Checks strides against extents, the span in bytes against overflow, and, unless dry, NULL and alignment, and on a GPU
 * that the device can read it. */
oct_status oct_check_operand(const oct_operand *o, int dry);
/* The last part alone. */
oct_status oct_check_pointer(const char *op, const char *name, const void *p, int64_t align);
/* Where the operands that this thread checks from now on have to lie. */
void oct_check_begin(const oct_on *on);

/* Fails with SHAPE unless v >= lo. */
oct_status oct_check_extent(const char *op, const char *name, int64_t v, int64_t lo);

/* Fails with DTYPE unless dtype is one of the given ones (a list that 0 ends); the text lists them. */
oct_status oct_check_dtype(const char *op, const char *name, int32_t dtype, const int32_t *list);

/* Fails with VALUE unless 0 <= v < n names; the text lists the names. unsupported: a bit mask of choices that this
 * version lacks (UNSUPPORTED). */
oct_status oct_check_choice(const char *op, const char *name, int32_t v, const char *const *names, int32_t n,
                            uint32_t unsupported);
/* A struct's `size` beyond this, or one that would cut a field in two (every struct's is a multiple of 8), is taken for
 * memory that nobody set. */
#define OCT_SIZE_MAX 65536

/* The three modes that scales have, with the names of octavo.h: scaling (a bit mask of those the op lacks), rule (0 where the
 * op has none) and layout. */
oct_status oct_check_scales(const char *op, int32_t scaling, uint32_t unsupported, int32_t rule, int32_t layout);

#define OCT_TRY(call)                         \
    do {                                      \
        const oct_status try_s_ = (call);     \
        if (try_s_ != OCT_OK) return try_s_;  \
    } while (0)

/* Shape of the scales of a [rows, cols] matrix. n0 x n1 for GROUP and BLOCK with n1 contiguous (layout included),
 * n0 = 1 otherwise. */
void oct_scale_shape(int32_t scaling, int32_t layout, int64_t rows, int64_t cols, int64_t block_rows,
                     int64_t block_cols, int64_t *n0, int64_t *n1);

/* Calls body(arg, i) for i in [0, n), on on's threads, in any order, each with a clean MXCSR. */
void oct_parallel(const oct_on *on, int64_t n, oct_body *body, void *arg);

/* *in, which may be a smaller struct, with every default filled in: groups, lanes, packed strides. */
oct_kv oct_kv_full(const oct_kv *in);
/* Checks a descriptor: format, extents, strides, and, unless dry, pointers. */
oct_status oct_kv_check(const char *op, const oct_kv *in, int dry);
/* Largest head size that the ops on caches take: references and kernels keep a row on the stack. */
#define OCT_MAX_D 2048
/* Checks a head size: even, 2 .. OCT_MAX_D. */
oct_status oct_kv_check_d(const char *op, const char *name, int64_t d);
/* Checks that token t of a lane has a place in the cache, for token i of the call (which the text names). kv is full. */
oct_status oct_kv_check_token(const char *op, const oct_kv *kv, int64_t i, int64_t lane, int64_t t);
/* The same of tokens 0 .. n-1 of a lane. */
oct_status oct_kv_check_tokens(const char *op, const oct_kv *kv, int64_t i, int64_t lane, int64_t n);
/* Number of the page that holds token t of a lane, or -1 when lane, t or the page's number is out of range.
 * kv is full. */
static inline int64_t oct_kv_page(const oct_kv *kv, int64_t lane, int64_t t)
{
    if (lane < 0 || lane >= kv->lanes || t < 0) return -1;
    if (!kv->page_table) return t < kv->page_size ? lane : -1;
    const int64_t i = t / kv->page_size;
    if (i >= kv->ld_page_table) return -1;
    const int64_t page = kv->page_table[lane * kv->ld_page_table + i];
    return page >= 0 && page < kv->pages ? page : -1;
}
/* Byte offset of row (token t, head h) in page `page`, in k and alike in v. */
static inline int64_t oct_kv_offset(const oct_kv *kv, int64_t page, int64_t t, int64_t h)
{
    return page * kv->page_bytes + t % kv->page_size * kv->token_bytes + h * kv->head_bytes;
}

/* Cosines, then sines, of one position: a row of oct_rope_table. */
void oct_rope_row(const oct_rope *r, int64_t d, int64_t pos, float *row);
/* Checks the constants of the frequencies. */
oct_status oct_rope_check(const char *op, const oct_rope *r);

/* Floating-point environment of the caller: entering sets round to nearest and keeps subnormals. */
uint32_t oct_fp_enter(void);
void oct_fp_leave(uint32_t saved);
#endif
