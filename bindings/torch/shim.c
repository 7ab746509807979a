/* shim.c - torch's C functions are looked up; arguments are read, results stored, errors raised. */
#define _GNU_SOURCE
#include "shim.h"
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct torch_functions torch;

/* ---- Binding ---- */

static const struct {
    const char *name;
    size_t at;
    bool needed;
} functions[] = {
#define NEEDED(ret, name, args) { #name, offsetof(struct torch_functions, name), true },
#define OPTIONAL(ret, name, args) { #name, offsetof(struct torch_functions, name), false },
    TORCH_FUNCTIONS(NEEDED, OPTIONAL)
#undef NEEDED
#undef OPTIONAL
};

/* torch's names of dtypes and ours; codes[] holds torch's numbers, asked for once. */
static const struct {
    const char *name;
    int32_t dtype;
} dtypes[] = { { "float32", OCT_F32 }, { "bfloat16", OCT_BF16 }, { "float8_e4m3fn", OCT_F8E4M3FN }, { "float16", OCT_F16 },
               { "int64", DT_I64 }, { "int32", OCT_I32 }, { "uint8", OCT_U8 }, { "int8", OCT_I8 }, { "bool", DT_BOOL },
               { "float8_e4m3fnuz", OCT_F8E4M3FNUZ }, { "float8_e5m2", OCT_F8E5M2 }, { "float8_e5m2fnuz", OCT_F8E5M2FNUZ } };
enum { DTYPES = sizeof dtypes / sizeof *dtypes };
static int32_t codes[DTYPES];

static int32_t dtype_of(int32_t code)
{
    for (int i = 0; i < DTYPES; i++)
        if (codes[i] == code) return dtypes[i].dtype;
    return DT_OTHER;
}

static int index_of(int32_t dtype)
{
    int i = 0;
    while (dtypes[i].dtype != dtype) i++;
    return i;
}

static const char *dtype_name(int32_t dtype) { return dtype == DT_OTHER ? "another dtype" : dtypes[index_of(dtype)].name; }

static void **place(size_t i) { return (void **)((char *)&torch + functions[i].at); }

int torch_bind(const char **missing)
{
    /* Those of torch are taken only where torch has loaded them; the driver's library is opened if need be. */
    static const struct {
        const char *name;
        int flags;
    } libraries[] = { { "libtorch_cpu.so", RTLD_NOLOAD }, { "libtorch_cuda.so", RTLD_NOLOAD }, { "libtorch_hip.so", RTLD_NOLOAD },
                      { "libcuda.so.1", 0 } };
    void *cpu = dlopen(libraries[0].name, RTLD_LAZY | RTLD_NOLOAD);
    if (!cpu) return -1;
    /* A preloaded allocator's delete comes first, as it does for torch's own new. */
    *(void **)&torch._ZdlPv = dlsym(RTLD_DEFAULT, "_ZdlPv");
    for (size_t l = 0; l < sizeof libraries / sizeof *libraries; l++) {
        void *library = dlopen(libraries[l].name, RTLD_LAZY | libraries[l].flags);
        for (size_t i = 0; library && i < sizeof functions / sizeof *functions; i++)
            if (!*place(i)) *place(i) = dlsym(library, functions[i].name);
    }
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (functions[i].needed && !*place(i)) {
            *missing = functions[i].name;
            return -2;
        }
    if (!torch.torch_delete_stable_ivalue && !torch._ZdlPv) {
        *missing = "torch_delete_stable_ivalue";
        return -2;
    }
    for (int i = 0; i < DTYPES; i++) {
        char name[64];
        int32_t (*get)(void) = 0;
        snprintf(name, sizeof name, "aoti_torch_dtype_%s", dtypes[i].name);
        *(void **)&get = dlsym(cpu, name);
        codes[i] = get ? get() : -1;
    }
    return 0;
}

/* ---- Errors ---- */

static void vfail(call *c, size_t at, const char *format, va_list args)
{
    vsnprintf(c->error + at, sizeof c->error - at, format, args);
}

void fail(call *c, const char *format, ...)
{
    va_list args;
    if (c->error[0]) return;
    const int n = snprintf(c->error, sizeof c->error, "%s: ", c->op);
    va_start(args, format);
    vfail(c, (size_t)n, format, args);
    va_end(args);
}

void fail_tensor(call *c, const tensor *t, const char *format, ...)
{
    char shape[160] = "";
    size_t n = 0;
    va_list args;
    if (c->error[0]) return;
    for (int64_t i = 0; i < t->ndim && n < sizeof shape - 24; i++)
        n += (size_t)snprintf(shape + n, sizeof shape - n, "%s%lld", i ? ", " : "", (long long)t->size[i]);
    if (t->h) n = (size_t)snprintf(c->error, sizeof c->error, "%s: %s is %s [%s]; it ", c->op, t->name, dtype_name(t->dtype), shape);
    else n = (size_t)snprintf(c->error, sizeof c->error, "%s: %s is None; it ", c->op, t->name);
    va_start(args, format);
    vfail(c, n, format, args);
    va_end(args);
}

void check_status(call *c, oct_status s)
{
    if (s != OCT_OK) fail(c, "%s", oct_error_text());
}

static const char *torch_error(void)
{
    return torch.torch_exception_get_what_without_backtrace ? torch.torch_exception_get_what_without_backtrace() : "see stderr";
}

/* ---- Arguments ---- */

static slot as_slot(handle h) { return (slot)(uintptr_t)h; }
static handle as_handle(slot s) { return (handle)(uintptr_t)s; }
static slot take(call *c) { return c->stack[c->next++]; }

static tensor look(call *c, handle h, const char *name)
{
    tensor t = { .h = h, .name = name, .count = 1 };
    int64_t *size, *stride;
    int32_t code;
    if (torch.aoti_torch_get_dim(h, &t.ndim) || torch.aoti_torch_get_sizes(h, &size) || torch.aoti_torch_get_strides(h, &stride) ||
        torch.aoti_torch_get_dtype(h, &code) || torch.aoti_torch_get_device_type(h, &t.device_type) ||
        torch.aoti_torch_get_device_index(h, &t.device) || torch.aoti_torch_get_data_ptr(h, &t.data)) {
        fail(c, "%s is not a plain strided tensor", name);
        return (tensor){ .name = name, .dtype = DT_OTHER };
    }
    t.size = size;
    t.stride = stride;
    t.dtype = dtype_of(code);
    for (int64_t i = 0; i < t.ndim; i++) t.count *= size[i];
    return t;
}

static tensor hold(call *c, handle h, const char *name)
{
    c->held[c->held_count++] = h;
    return look(c, h, name);
}

/* The first tensor says where the operator runs. */
static void same_place(call *c, const tensor *t)
{
    if (!t->h) return;
    if (!c->first.h) c->first = *t;
    else if (t->device_type != c->first.device_type || t->device != c->first.device)
        fail(c, "%s is on another device than %s", t->name, c->first.name);
}

/* An optional is 0, which is None, or a box on the heap that holds the value. */
static bool unbox(slot s, slot *value)
{
    slot *box = as_handle(s);
    if (!box) return false;
    *value = *box;
    if (torch.torch_delete_stable_ivalue) torch.torch_delete_stable_ivalue(box);
    else torch._ZdlPv(box);
    return true;
}

tensor take_scalar(call *c, const char *name) { return hold(c, as_handle(take(c)), name); }

tensor take_maybe_scalar(call *c, const char *name)
{
    slot s;
    return unbox(take(c), &s) ? hold(c, as_handle(s), name) : (tensor){ .name = name };
}

tensor take_tensor(call *c, const char *name)
{
    const tensor t = take_scalar(c, name);
    same_place(c, &t);
    return t;
}

tensor take_maybe(call *c, const char *name)
{
    const tensor t = take_maybe_scalar(c, name);
    same_place(c, &t);
    return t;
}

int64_t take_int(call *c) { return (int64_t)take(c); }

int64_t take_maybe_int(call *c, int64_t otherwise)
{
    slot s;
    return unbox(take(c), &s) ? (int64_t)s : otherwise;
}

static double as_double(slot s)
{
    double d;
    memcpy(&d, &s, sizeof d);
    return d;
}

double take_float(call *c) { return as_double(take(c)); }

double take_maybe_float(call *c, double otherwise)
{
    slot s;
    return unbox(take(c), &s) ? as_double(s) : otherwise;
}

bool take_bool(call *c) { return take(c) & 0xff; }

int32_t take_maybe_dtype(call *c, int32_t otherwise)
{
    slot s;
    return unbox(take(c), &s) ? dtype_of((int32_t)s) : otherwise;
}

handle take_list(call *c, size_t *n)
{
    handle list = as_handle(take(c));
    torch.torch_list_size(list, n);
    c->list_items[c->list_count] = *n;
    return c->lists[c->list_count++] = list;
}

static handle item(handle list, size_t i)
{
    slot s = 0;
    torch.torch_list_get_item(list, i, &s);
    return as_handle(s);
}

tensor list_item(call *c, handle list, size_t i, const char *name)
{
    const tensor t = look(c, item(list, i), name);
    same_place(c, &t);
    return t;
}

bool same_shape(const tensor *a, const tensor *b)
{
    bool same = a->ndim == b->ndim;
    for (int64_t i = 0; same && i < a->ndim; i++) same = a->size[i] == b->size[i];
    return same;
}

/* ---- New tensors ---- */

/* Sizes are checked here, because a failure inside torch prints a trace before 2.13. */
static tensor make(call *c, int64_t ndim, const int64_t *size, int32_t dtype, const char *name)
{
    int64_t stride[MAX_DIMS], n = 1;
    handle h;
    if (ndim > MAX_DIMS) fail(c, "%s would have %lld dimensions; at most %d are supported", name, (long long)ndim, MAX_DIMS);
    for (int64_t i = ndim; ok(c) && i-- > 0;) {
        stride[i] = n;
        if (__builtin_mul_overflow(n, size[i] ? size[i] : 1, &n) || n > INT64_MAX / 8) fail(c, "%s would be too large", name);
    }
    if (ok(c) && torch.aoti_torch_empty_strided(ndim, size, stride, codes[index_of(dtype)], c->first.device_type, c->first.device, &h))
        fail(c, "no memory for %s: %s", name, torch_error());
    return ok(c) ? look(c, h, name) : (tensor){ .name = name, .dtype = DT_OTHER };
}

tensor new_result(call *c, int64_t ndim, const int64_t *size, int32_t dtype)
{
    const tensor t = make(c, ndim, size, dtype, "the result");
    if (t.h) c->results[c->result_count++] = t.h;
    return t;
}

tensor new_item(call *c, int64_t ndim, const int64_t *size, int32_t dtype)
{
    const tensor t = make(c, ndim, size, dtype, "a result");
    if (!c->items) torch.torch_new_list_reserve_size(1, &c->items);
    if (t.h) torch.torch_list_push_back(c->items, as_slot(t.h)), c->item_count++; /* the list owns it now */
    return t;
}

tensor new_temporary(call *c, int64_t ndim, const int64_t *size, int32_t dtype)
{
    const tensor t = make(c, ndim, size, dtype, "a temporary");
    if (t.h) c->held[c->held_count++] = t.h;
    return t;
}

tensor like_result(call *c, const tensor *shape, int32_t dtype) { return new_result(c, shape->ndim, shape->size, dtype); }

void return_argument(call *c, const tensor *t)
{
    handle h;
    if (!ok(c)) return;
    if (torch.aoti_torch_new_tensor_handle(t->h, &h)) fail(c, "%s cannot be returned: %s", t->name, torch_error());
    else c->results[c->result_count++] = h;
}

void zero(call *c, const tensor *t)
{
    if (ok(c) && torch.aoti_torch_zero_(t->h)) fail(c, "%s cannot be zeroed: %s", t->name, torch_error());
}

void copy(call *c, const tensor *to, const tensor *from)
{
    if (ok(c) && torch.aoti_torch_copy_(to->h, from->h, 0)) fail(c, "%s cannot be copied: %s", from->name, torch_error());
}

/* ---- Strides ---- */

/* Whether the leading dimensions are rows at one stride, and the last is contiguous. */
static bool strided_rows(const tensor *t, matrix *v)
{
    const int64_t last = t->ndim - 1;
    *v = (matrix){ t->data, 1, t->ndim ? t->size[last] : 1, 0 };
    if (v->k > 1 && t->stride[last] != 1 && t->count) return false;
    for (int64_t i = last; i-- > 0; v->m *= t->size[i]) {
        if (t->size[i] == 1 || !t->count) continue;
        if (v->m == 1) v->ld = t->stride[i]; /* the first dimension with more than one row */
        else if (t->stride[i] != v->m * v->ld) return false;
    }
    if (v->m <= 1 || !t->count) v->ld = v->k;
    return v->ld >= v->k;
}

static bool is_packed(const tensor *t)
{
    int64_t n = 1;
    for (int64_t i = t->ndim; i-- > 0; n *= t->size[i])
        if (t->size[i] != 1 && t->stride[i] != n) return t->count == 0;
    return true;
}

tensor as_packed(call *c, const tensor *t) { return !ok(c) || !t->h || is_packed(t) ? *t : as_contiguous(c, t); }

tensor as_contiguous(call *c, const tensor *t)
{
    tensor p = new_temporary(c, t->ndim, t->size, t->dtype);
    copy(c, &p, t);
    p.name = t->name;
    return p;
}

matrix as_matrix(call *c, const tensor *t)
{
    matrix v = { 0 };
    if (!ok(c) || strided_rows(t, &v)) return v;
    const tensor p = as_packed(c, t);
    if (ok(c)) strided_rows(&p, &v);
    return v;
}

matrix as_output(call *c, const tensor *t)
{
    matrix v = { 0 };
    if (ok(c)) NEED(c, *t, strided_rows(t, &v), "is written to and must have contiguous rows at one stride");
    return v;
}

/* ---- The end ---- */

static void drop(handle h) { torch.aoti_torch_delete_tensor_object(h); }

static void drop_list(handle list, size_t n)
{
    for (size_t i = 0; i < n; i++) drop(item(list, i)); /* deleting a list leaves its items */
    torch.torch_delete_list(list);
}

void drop_held(call *c, int from)
{
    while (c->held_count > from) drop(c->held[--c->held_count]);
}

/* Frees what the call holds, and, after an error, the results too. */
static void release(call *c)
{
    drop_held(c, 0);
    for (int i = 0; i < c->list_count; i++) drop_list(c->lists[i], c->list_items[i]);
    if (ok(c)) return;
    for (int i = 0; i < c->result_count; i++) drop(c->results[i]);
    if (c->items) drop_list(c->items, c->item_count);
}

static void raise(const call *c) { torch.aoti_torch_check(false, c->op, "octavo", 0, c->error); }

void finish(call *c, uint64_t results)
{
    release(c);
    if (!ok(c)) raise(c);
    for (uint64_t i = 0; i < results; i++) c->stack[i] = as_slot(c->results[i]);
}

void finish_list(call *c)
{
    release(c);
    if (!ok(c)) raise(c);
    if (!c->items) torch.torch_new_list_reserve_size(MAX_RESULTS, &c->items);
    for (int i = 0; i < c->result_count; i++) torch.torch_list_push_back(c->items, as_slot(c->results[i]));
    c->stack[0] = as_slot(c->items);
}
