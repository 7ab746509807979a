/* kernel.h - what a row of the table is, how one is chosen, and the four entry points that every op has. */
#ifndef OCTAVO_CORE_KERNEL_H
#define OCTAVO_CORE_KERNEL_H
#include "octavo.h"
#include <stddef.h>

#ifndef OCT_HAVE_SM90 /* set by the build when there is nvcc */
#define OCT_HAVE_SM90 0
#endif
/* Beside the OCT_CPU_ bits in what a row needs: a CUDA device of compute capability 9.0, Hopper. */
#define OCT_CUDA_SM90 (1u << 16)

enum {
#define O(op, args) OCT_OP_##op,
#include "ops.def"
#undef O
    OCT_OP_COUNT
};

/* What a row's predicate says: 1 when it can serve the (prepared) args, and the scratch and sync bytes it needs then;
 * 0 and the reason otherwise, a static string such as "k is not a multiple of 32". */
typedef struct oct_fit {
    const char *why;
    int64_t scratch, sync;
} oct_fit;

/* Every kernel of an op has one type. It gets prepared args: complete, valid, defaults filled in. */
#define K(op, suffix, backend, needs)                                                   \
    oct_status oct_##op##_##suffix##backend(const oct_##op##_args *a);                  \
    int oct_##op##_##suffix##backend##_fits(const oct_##op##_args *a, oct_fit *fit);
#include "kernels.def"
#undef K

typedef struct oct_row {
    int op;
    uint32_t needs; /* OCT_CPU_ or OCT_CUDA_ bits; 0: any CPU */
    const char *op_name, *name, *backend;
    oct_status (*run)(const void *args);
    int (*fits)(const void *args, oct_fit *fit);
} oct_row;

extern const oct_row oct_rows[];
extern const int oct_row_count;
/* OCT_CPU or OCT_CUDA, and what there is of it, as a mask to compare needs with. */
static inline int32_t oct_row_device(const oct_row *r) { return r->needs & OCT_CUDA_SM90 ? OCT_CUDA : OCT_CPU; }
uint32_t oct_features_of(int32_t device_type, int32_t device);

/* An op as its entry file describes it to core. prepare checks args and fills in defaults (packed strides, block
 * sizes); with dry set the pointers' presence is not demanded, so that a shape can be asked about before there are
 * buffers. It returns through oct_fail. */
typedef struct oct_op {
    int op;
    const char *name;
    int64_t args_size, on_offset, reserved_offset;
    oct_status (*prepare)(void *args, int dry);
} oct_op;

oct_status oct_op_run(const oct_op *op, const void *args, void *full);
oct_status oct_op_check(const oct_op *op, const void *args, void *full, char *why, int64_t n);
oct_status oct_op_choice(const oct_op *op, const void *args, void *full, char *text, int64_t n);
int64_t oct_op_scratch(const oct_op *op, const void *args, void *full);
/* For the harness: as oct_op_run, with this row instead of the chosen one; UNSUPPORTED when it does not fit.
 * scratch, if not NULL, receives the bytes that the row asks for, and then nothing runs. */
oct_status oct_op_run_row(const oct_op *op, const oct_row *row, const void *args, void *full, int64_t *scratch);

extern const oct_op *const oct_ops[OCT_OP_COUNT];

/* Defines op's public functions and its oct_op from a static `prepare(oct_<op>_args *, int dry)`. */
#define OCT_ENTRY(op)                                                                                            \
    static oct_status prepare_void(void *a, int dry) { return prepare(a, dry); }                                 \
    const oct_op oct_op_##op = { OCT_OP_##op, #op, (int64_t)sizeof(oct_##op##_args),                             \
                                 (int64_t)offsetof(oct_##op##_args, on),                                         \
                                 (int64_t)offsetof(oct_##op##_args, reserved), prepare_void };                   \
    oct_status oct_##op(const oct_##op##_args *a) { oct_##op##_args f; return oct_op_run(&oct_op_##op, a, &f); } \
    oct_status oct_##op##_check(const oct_##op##_args *a, char *why, int64_t n)                                  \
    { oct_##op##_args f; return oct_op_check(&oct_op_##op, a, &f, why, n); }                                     \
    oct_status oct_##op##_choice(const oct_##op##_args *a, char *text, int64_t n)                                \
    { oct_##op##_args f; return oct_op_choice(&oct_op_##op, a, &f, text, n); }                                   \
    int64_t oct_##op##_scratch(const oct_##op##_args *a)                                                         \
    { oct_##op##_args f; return oct_op_scratch(&oct_op_##op, a, &f); }

#define O(op, args) extern const oct_op oct_op_##op;
#include "ops.def"
#undef O
#endif
