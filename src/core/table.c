/* table.c - the rows of kernels.def as data. */
#include "core/kernel.h"

/* A row is called through void pointers; these carry the type. */
#define K(op, suffix, backend, needs)                                              \
    static oct_status run_##op##_##suffix##backend(const void *a)                  \
    { return oct_##op##_##suffix##backend(a); }                                    \
    static int fits_##op##_##suffix##backend(const void *a, oct_fit *fit)          \
    { return oct_##op##_##suffix##backend##_fits(a, fit); }
#include "kernels.def"
#undef K

const oct_row oct_rows[] = {
#define K(op, suffix, backend, needs)                                                         \
    { OCT_OP_##op, needs, #op, "oct_" #op "_" #suffix #backend, #backend, run_##op##_##suffix##backend, \
      fits_##op##_##suffix##backend },
#include "kernels.def"
#undef K
};
const int oct_row_count = (int)(sizeof oct_rows / sizeof *oct_rows);

const oct_op *const oct_ops[OCT_OP_COUNT] = {
#define O(op, args) &oct_op_##op,
#include "ops.def"
#undef O
};
