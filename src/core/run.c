/* run.c - from a public call to a kernel: read the args, check them, choose a row, run it. */
#include "core/core.h"
#include "core/cuda.h"
#include "core/kernel.h"
#include <stdio.h>
#include <string.h>

static struct { oct_trace_fn *fn; void *ctx; } trace;
void oct_set_trace(oct_trace_fn *fn, void *ctx) { trace.fn = fn; trace.ctx = ctx; }

/* The caller's struct, older or newer than ours, becomes ours. */
static oct_status read_args(const oct_op *op, const void *args, void *full)
{
    if (!args) return oct_fail(OCT_E_NULL, "%s: args is NULL", op->name);
    int64_t size;
    memcpy(&size, args, sizeof size);
    if (size < (int64_t)sizeof size || size > OCT_SIZE_MAX || size % 8)
        return oct_fail(OCT_E_VALUE, "%s: args.size is %lld; set it to sizeof(oct_%s_args)", op->name, (long long)size,
                        op->name);
    for (int64_t i = op->args_size; i < size; i++)
        if (((const char *)args)[i])
            return oct_fail(OCT_E_UNSUPPORTED, "%s: args is a newer struct (%lld bytes, %lld known) and uses a new field",
                            op->name, (long long)size, (long long)op->args_size);
    memset(full, 0, (size_t)op->args_size);
    memcpy(full, args, (size_t)oct_min(size, op->args_size));
    memcpy(full, &op->args_size, sizeof op->args_size);
    return OCT_OK;
}

static const oct_on *on_of(const oct_op *op, const void *full) { return (const oct_on *)((const char *)full + op->on_offset); }

uint32_t oct_features_of(int32_t device_type, int32_t device)
{
    return device_type == OCT_CUDA ? oct_cuda_features(device) : oct_cpu_features();
}

static oct_status check_device(const oct_op *op, const oct_on *on)
{
    int rows = 0;
    if (on->device_type == OCT_CPU) return OCT_OK;
    for (int i = 0; i < oct_row_count; i++) rows += oct_rows[i].op == op->op && oct_row_device(&oct_rows[i]) == on->device_type;
    if (!rows)
        return oct_fail(OCT_E_UNSUPPORTED, "%s: device_type %d has no kernel of this op in this build; OCT_CPU (0) has", op->name,
                        on->device_type);
    if (!oct_features_of(on->device_type, on->device)) {
        char why[300];
        snprintf(why, sizeof why, "%s", oct_error_text());
        return oct_fail(OCT_E_DEVICE, "%s: %s", op->name, why);
    }
    return OCT_OK;
}

static oct_status prepare(const oct_op *op, const void *args, void *full, int dry)
{
    OCT_TRY(read_args(op, args, full));
    const oct_on *on = on_of(op, full);
    OCT_TRY(check_device(op, on));
    /* What is reserved today has a meaning tomorrow: a caller that counts on it is told. */
    int64_t reserved = 0;
    for (int i = 0; i < 4; i++) reserved |= on->reserved[i];
    for (int64_t i = op->reserved_offset; i < op->args_size; i++) reserved |= ((const char *)full)[i];
    if (reserved) return oct_fail(OCT_E_UNSUPPORTED, "%s: a reserved field of args or on is not supported; it must be 0", op->name);
    if (on->threads < 0) return oct_fail(OCT_E_VALUE, "%s: on.threads is %d; 0 means the default", op->name, on->threads);
    if (on->flags & ~OCT_ON_CHAIN)
        return oct_fail(OCT_E_VALUE, "%s: on.flags is %d; OCT_ON_CHAIN (1) is the one flag", op->name, on->flags);
    oct_check_begin(on);
    return op->prepare(full, dry);
}

/* First row that the machine can run and that takes the args; why gathers the reasons of those before it. */
static const oct_row *choose(const oct_op *op, const void *full, oct_fit *fit, char *why, int64_t n)
{
    const oct_on *on = on_of(op, full);
    const uint32_t have = oct_features_of(on->device_type, on->device);
    int64_t at = 0;
    if (n > 0) why[0] = 0;
    for (int i = 0; i < oct_row_count; i++) {
        const oct_row *row = &oct_rows[i];
        if (row->op != op->op || oct_row_device(row) != on->device_type) continue;
        *fit = (oct_fit){ on->device_type == OCT_CPU ? "this CPU lacks it" : "this device lacks it", 0, 0 };
        if ((row->needs & have) == row->needs && row->fits(full, fit)) return row;
        if (at < n) at += snprintf(why + at, (size_t)(n - at), "; not %s: %s", row->name, fit->why ? fit->why : "?");
    }
    return 0;
}

static oct_status check_scratch(const oct_op *op, const oct_row *row, const oct_on *on, const oct_fit *need)
{
    const int64_t align = on->device_type == OCT_CPU ? 64 : 256;
    if (need->scratch) {
        if (!on->scratch || on->scratch_bytes < need->scratch)
            return oct_fail(OCT_E_SCRATCH, "%s: %s needs %lld bytes of on.scratch, got %lld; ask oct_%s_scratch", op->name,
                            row->name, (long long)need->scratch, (long long)(on->scratch ? on->scratch_bytes : 0), op->name);
        OCT_TRY(oct_check_pointer(op->name, "on.scratch", on->scratch, align));
    }
    if (need->sync) {
        if (!on->sync || on->sync_bytes < OCT_SYNC_BYTES)
            return oct_fail(OCT_E_SCRATCH, "%s: %s needs on.sync of %d bytes (OCT_SYNC_BYTES), zeroed once; got %lld", op->name,
                            row->name, OCT_SYNC_BYTES, (long long)(on->sync ? on->sync_bytes : 0));
        OCT_TRY(oct_check_pointer(op->name, "on.sync", on->sync, align));
    }
    return OCT_OK;
}

static oct_status run_row(const oct_op *op, const oct_row *row, const void *full, const oct_fit *need)
{
    oct_status s = check_scratch(op, row, on_of(op, full), need);
    if (s == OCT_OK) {
        const uint32_t saved = oct_fp_enter();
        s = row->run(full);
        oct_fp_leave(saved);
    }
    return s;
}

oct_status oct_op_run(const oct_op *op, const void *args, void *full)
{
    oct_fit fit;
    const oct_row *row = 0;
    oct_status s = prepare(op, args, full, 0);
    if (s == OCT_OK) {
        row = choose(op, full, &fit, 0, 0);
        s = row ? run_row(op, row, full, &fit) : oct_fail(OCT_E_UNSUPPORTED, "%s: no kernel takes this", op->name);
    }
    if (trace.fn) trace.fn(trace.ctx, op->name, row ? row->name : "", s);
    return s;
}

oct_status oct_op_run_row(const oct_op *op, const oct_row *row, const void *args, void *full, int64_t *scratch)
{
    oct_fit fit = { 0, 0, 0 };
    OCT_TRY(prepare(op, args, full, scratch != 0));
    if (oct_row_device(row) != on_of(op, full)->device_type)
        return oct_fail(OCT_E_UNSUPPORTED, "%s: %s is for another kind of device", op->name, row->name);
    if (!row->fits(full, &fit)) return oct_fail(OCT_E_UNSUPPORTED, "%s: %s", row->name, fit.why ? fit.why : "?");
    if (scratch) {
        *scratch = fit.scratch;
        return OCT_OK;
    }
    return run_row(op, row, full, &fit);
}

oct_status oct_op_check(const oct_op *op, const void *args, void *full, char *why, int64_t n)
{
    const oct_status s = prepare(op, args, full, 1);
    if (why && n > 0) snprintf(why, (size_t)n, "%s", s == OCT_OK ? "" : oct_error_text());
    return s;
}

oct_status oct_op_choice(const oct_op *op, const void *args, void *full, char *text, int64_t n)
{
    char why[400];
    oct_fit fit;
    const oct_status s = prepare(op, args, full, 1);
    if (s != OCT_OK) {
        if (text && n > 0) snprintf(text, (size_t)n, "%s", oct_error_text());
        return s;
    }
    const oct_row *row = choose(op, full, &fit, why, (int64_t)sizeof why);
    if (text && n > 0) snprintf(text, (size_t)n, "%s%s", row ? row->name : "none", why);
    return row ? OCT_OK : OCT_E_UNSUPPORTED;
}

int64_t oct_op_scratch(const oct_op *op, const void *args, void *full)
{
    oct_fit fit = { 0, 0, 0 };
    OCT_TRY(prepare(op, args, full, 1));
    return choose(op, full, &fit, 0, 0) ? fit.scratch : OCT_E_UNSUPPORTED;
}

int32_t oct_kernel_count(void) { return oct_row_count; }

oct_status oct_kernel_info(int32_t i, oct_kernel_info_t *info)
{
    if (!info) return oct_fail(OCT_E_NULL, "kernel_info: info is NULL");
    if (i < 0 || i >= oct_row_count)
        return oct_fail(OCT_E_VALUE, "kernel_info: row %d; there are %d", i, oct_row_count);
    const oct_row *r = &oct_rows[i];
    const int here = (r->needs & oct_features_of(oct_row_device(r), 0)) == r->needs;
    *info = (oct_kernel_info_t){ r->op_name, r->name, r->backend, r->needs ? r->backend : "", here, 0 };
    return OCT_OK;
}
