/* check.h - the harness: what the check of one op (check_<op>.c) is given, and what it gives.
 *
 * A check declares axes (dtypes, scalings, extents, kinds of input ...). The harness walks them so that every pair of
 * values of any two axes meets in some case, for every row of kernels.def, and adds axes of its own: where buffers lie
 * (ending at an unmapped page, or beginning behind one), the caller's floating-point environment, the threads. */
#ifndef OCTAVO_TESTS_CHECK_H
#define OCTAVO_TESTS_CHECK_H
#include "core/kernel.h"
#include <stdint.h>

/* ---- Axes ---- */

typedef struct ck_axis {
    const char *name;
    int n;
    const char *const *names; /* of the values, or NULL: they are integers */
    const int64_t *values;    /* NULL: 0 .. n-1 */
    int big;                  /* so many values at the end are large: left out of quick runs */
} ck_axis;
#define CK_NAMES(name, ...) { name, (int)(sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *)), (const char *[]){ __VA_ARGS__ }, 0, 0 }
#define CK_INTS(name, big, ...) { name, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / 8), 0, (int64_t[]){ __VA_ARGS__ }, big }

/* One case of one row. */
typedef struct ck_case ck_case;
int64_t ck_pick(const ck_case *c, int axis);  /* the value of the op's axis (for names: the index) */
const oct_row *ck_row(const ck_case *c);      /* the row that is checked */
const oct_row *ck_ref(const ck_case *c);      /* its op's reference */
uint64_t ck_rnd(ck_case *c);                  /* 64 random bits; the same for every row of an op */
float ck_uniform(ck_case *c, float lo, float hi);

/* ---- Buffers: all are freed when the case ends ---- */

/* Memory for rows x cols elements of elem bytes, rows ld elements apart, guarded on one side by an unmapped page.
 * An input is filled with 0xFF (NaN in every format) and the caller fills the matrix; an output with 0xA5. */
void *ck_input(ck_case *c, int64_t rows, int64_t cols, int64_t ld, int64_t elem);
void *ck_output(ck_case *c, int64_t rows, int64_t cols, int64_t ld, int64_t elem);
/* After this a write to the input is a fault. */
void ck_freeze(ck_case *c);

/* Kinds of input values: an axis for most checks, CK_KINDS. */
enum { CK_UNIFORM, CK_NEAR_MAX, CK_SUBNORMAL, CK_CODES, CK_SPECIAL, CK_OUTLIER, CK_ZERO, CK_TINY_RANGE, CK_KIND_COUNT };
#define CK_KINDS(name) CK_NAMES(name, "uniform", "near max", "subnormal", "all codes", "nan inf", "outlier row", "zero", "constant")
/* Fills a matrix of f32, bf16, f16 or f8e4m3fn. CK_SPECIAL: NaN of any sign and payload and infinities (f8: NaN), many in one
 * row of three, few in the others; the other kinds are finite. */
void ck_fill(ck_case *c, void *p, int32_t dtype, int64_t rows, int64_t cols, int64_t ld, int kind);
/* Element i of memory of that type as a double. */
double ck_value(const void *p, int32_t dtype, int64_t i);

/* ---- Running and comparing ---- */

/* 1 if the checked row takes these args; otherwise the case ends here and is counted as not fitting. */
int ck_fits(ck_case *c, const void *args);
/* Runs a row with the case's `on` (scratch of just the bytes it asks for): any status but OK is a failure. Returns
 * 1 when it ran. args is the op's args struct; its `on` is filled in here. */
int ck_run(ck_case *c, const oct_row *row, void *args);
void ck_fail(ck_case *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int ck_failed(const ck_case *c);
void ck_compared(ck_case *c, int64_t n); /* n values were compared; a row with none fails */
/* EXACT: every byte from the first to the last element, padding included. */
void ck_same(ck_case *c, const char *what, const void *got, const void *want, int64_t rows, int64_t cols, int64_t ld, int64_t elem);
/* The padding between rows of an output is as it was. */
void ck_padding(ck_case *c, const char *what, const void *got, int64_t rows, int64_t cols, int64_t ld, int64_t elem);
/* STEP for f8e4m3fn and bf16, BOUND for f32: got is the rounding of some value within `bound` of `exact`. NaN: both. */
int ck_within(const void *got, int32_t dtype, int64_t i, double exact, double bound);

/* ---- Timing ---- */

typedef struct ck_bench ck_bench;
/* Times the op on n argument sets in rotation (more memory together than the caches hold), every row that fits, round
 * by round interleaved with the machine's limits. bytes and flops: what one call must move and compute. */
void ck_time(ck_bench *b, const char *shape, double bytes, double flops, int n, void *const *args);
void *ck_bench_mem(ck_bench *b, int64_t bytes);                                   /* freed by ck_bench_drop, or when the op's benches end */
void ck_bench_drop(ck_bench *b);
enum { CK_BENCH_SETS = 24 };
int ck_bench_sets(const ck_bench *b, double bytes);                               /* how many sets of so many bytes to rotate */
int ck_bench_gpu(const ck_bench *b);                                              /* 1: memory and rows of a GPU, whose shapes are larger */
void ck_bench_fill(ck_bench *b, void *p, int32_t dtype, int64_t n, float scale);  /* random, finite */

/* ---- One op ---- */

typedef struct ck_op {
    const oct_op *op;
    const ck_axis *axes;
    int axis_count;
    void (*run)(ck_case *c);
    void (*bench)(ck_bench *b);
    const char *not_yet; /* modes that octavo.h names and this version lacks */
} ck_op;
#define O(op, args) extern const ck_op ck_##op;
#include "ops.def"
#undef O

/* ---- For the command line ---- */

typedef struct ck_options {
    const char *filter; /* rows whose name contains it; NULL: all */
    uint64_t seed;      /* 0: from the clock */
    int quick;          /* leave the large extents out */
    int extra;          /* random cases beyond the pairs */
    int threads;        /* of the benches */
    double seconds;     /* of one bench */
    const char *csv, *svg;
    const char *peers;   /* GPU: a script that times other programs, bench/peers/gpu.py; NULL: none */
    const char *shape;   /* of the benches: shapes whose text contains it; NULL: all */
    const char *backend; /* rows of it alone; NULL: all */
    int exact;           /* GPU: an allocation a buffer, for compute-sanitizer */
} ck_options;
int ck_check_all(const ck_options *o); /* 0: every row passed */
int ck_bench_all(const ck_options *o);

/* Limits of the machine, one thread: limit_avx2.c. */
double ck_read_once(const void *p, int64_t bytes);      /* reads it all in four streams; the result means nothing */
double ck_fma_once(int64_t iterations);                 /* 14 FMAs of 8 floats an iteration: 224 flops */
double ck_pairs_once(int64_t iterations);               /* 14 VDPBF16PS of 32 products an iteration: 896 flops */
#endif
