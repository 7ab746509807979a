/* ops.h - the operators of ops.def. */
#ifndef OCTAVO_TORCH_OPS_H
#define OCTAVO_TORCH_OPS_H
#include "shim.h"

enum { FBGEMM = 1, MSLK = 2 }; /* namespaces that have the operator, beside octavo */
enum { CPU = 1, CUDA = 2 };    /* devices that have its kernels */

#define OP(also, devices, name, schema) OPERATOR(name);
#include "ops.def"
#undef OP
#endif
