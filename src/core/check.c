/* check.c - the argument checks that every op shares. Their texts name op, argument, value and what would do. */
#include "core/core.h"
#include "core/cuda.h"
#include <stdio.h>

static _Thread_local const oct_cuda_device *gpu; /* of the call that is being checked; NULL: the CPU */

void oct_check_begin(const oct_on *on) { gpu = on->device_type == OCT_CUDA ? oct_cuda_open(on->device) : 0; }

oct_status oct_check_pointer(const char *op, const char *name, const void *p, int64_t align)
{
    if (!p) return oct_fail(OCT_E_NULL, "%s: %s is NULL", op, name);
    if ((uintptr_t)p % (uintptr_t)align)
        return oct_fail(OCT_E_ALIGN, "%s: %s is not aligned to %lld bytes", op, name, (long long)align);
    if (gpu && !oct_cuda_readable(gpu, p))
        return oct_fail(OCT_E_DEVICE, "%s: %s is memory of the host that CUDA device %d cannot read; pass device memory", op, name,
                        gpu->ordinal);
    return OCT_OK;
}

oct_status oct_check_extent(const char *op, const char *name, int64_t v, int64_t lo)
{
    if (v >= lo) return OCT_OK;
    return oct_fail(OCT_E_SHAPE, "%s: %s is %lld; it must be at least %lld", op, name, (long long)v, (long long)lo);
}

oct_status oct_check_dtype(const char *op, const char *name, int32_t dtype, const int32_t *list)
{
    for (int i = 0; list[i]; i++)
        if (list[i] == dtype) return OCT_OK;
    char ok[128] = "";
    for (int i = 0, n = 0; list[i]; i++)
        n += snprintf(ok + n, sizeof ok - (size_t)n, "%s%s", i ? ", " : "", oct_dtype_str(list[i]));
    return oct_fail(OCT_E_DTYPE, "%s: %s is %s (%d); supported: %s", op, name, oct_dtype_str(dtype), dtype, ok);
}

oct_status oct_check_choice(const char *op, const char *name, int32_t v, const char *const *names, int32_t n,
                            uint32_t unsupported)
{
    if (v >= 0 && v < n && !(unsupported >> v & 1)) return OCT_OK;
    char ok[160] = "";
    for (int i = 0, at = 0; i < n; i++)
        if (!(unsupported >> i & 1))
            at += snprintf(ok + at, sizeof ok - (size_t)at, "%s%s (%d)", at ? ", " : "", names[i], i);
    if (v >= 0 && v < n)
        return oct_fail(OCT_E_UNSUPPORTED, "%s: %s %s is not supported yet; supported: %s", op, name, names[v], ok);
    return oct_fail(OCT_E_VALUE, "%s: %s is %d; supported: %s", op, name, v, ok);
}

oct_status oct_check_operand(const oct_operand *o, int dry)
{
    if (o->optional && !o->p) { /* its strides mean nothing, so that kernels may compute with them */
        if (o->ld) *o->ld = 0;
        if (o->stride) *o->stride = 0;
        return OCT_OK;
    }
    const int64_t bytes = oct_dtype_bits(o->dtype) / 8, outer = o->outer ? o->outer : 1;
    int64_t ld = o->cols, stride, span;
    if (o->ld) {
        if (!*o->ld) *o->ld = o->cols;
        ld = *o->ld;
        if (ld < o->cols)
            return oct_fail(OCT_E_SHAPE, "%s: row stride of %s is %lld; a row holds %lld", o->op, o->name, (long long)ld,
                            (long long)o->cols);
    }
    /* From the first element to behind the last. */
    span = o->rows ? oct_mul(o->rows - 1, ld) : 0;
    if (span < 0 || (o->rows && __builtin_add_overflow(span, o->cols, &span))) span = -1;
    stride = o->rows ? oct_mul(o->rows, ld) : 0;
    if (o->stride) {
        if (*o->stride == OCT_BROADCAST) *o->stride = 0;
        else if (!*o->stride) *o->stride = stride;
        else if (*o->stride < span)
            return oct_fail(OCT_E_SHAPE, "%s: batch stride of %s is %lld; a matrix spans %lld", o->op, o->name,
                            (long long)*o->stride, (long long)span);
        stride = *o->stride;
    }
    const int64_t behind = oct_mul(outer - 1, stride);
    if (stride < 0 || span < 0 || behind < 0 || span > INT64_MAX - behind || oct_mul(span + behind, bytes) < 0)
        return oct_fail(OCT_E_SHAPE, "%s: %s [%lld][%lld, %lld] with its strides overflows 64 bits", o->op, o->name,
                        (long long)outer, (long long)o->rows, (long long)o->cols);
    if (dry || !o->rows || !o->cols) return OCT_OK;
    return oct_check_pointer(o->op, o->name, o->p, bytes);
}

oct_status oct_check_scales(const char *op, int32_t scaling, uint32_t unsupported, int32_t rule, int32_t layout)
{
    static const char *const scalings[] = { "NONE", "TENSOR", "ROW", "GROUP", "BLOCK", "COL" };
    static const char *const rules[] = { "MIN", "EPS" }, *const layouts[] = { "K_MAJOR", "MN_MAJOR" };
    OCT_TRY(oct_check_choice(op, "scaling", scaling, scalings, 6, unsupported));
    OCT_TRY(oct_check_choice(op, "rule", rule, rules, 2, 0));
    return oct_check_choice(op, "scale_layout", layout, layouts, 2, 0);
}

void oct_scale_shape(int32_t scaling, int32_t layout, int64_t rows, int64_t cols, int64_t block_rows,
                     int64_t block_cols, int64_t *n0, int64_t *n1)
{
    *n0 = 1;
    switch (scaling) {
    case OCT_SCALE_NONE:   *n1 = 0; return;
    case OCT_SCALE_TENSOR: *n1 = 1; return;
    case OCT_SCALE_ROW:    *n1 = rows; return;
    case OCT_SCALE_COL:    *n1 = cols; return;
    case OCT_SCALE_GROUP:  block_rows = 1; break;
    default: break;
    }
    const int64_t r = oct_cdiv(rows, block_rows), c = oct_cdiv(cols, block_cols);
    *n0 = layout == OCT_MN_MAJOR ? c : r;
    *n1 = layout == OCT_MN_MAJOR ? r : c;
}
