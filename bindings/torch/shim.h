/* shim.h - what the operators of this folder share: torch's C functions, and the life of one call.
 *
 * torch exports a C interface that it promises to keep for at least two years a function. It is looked up at run time in
 * the libtorch that the process has loaded, so nothing of torch is needed to build this, nothing is linked, and one
 * binary serves every torch from 2.10 on.
 *
 * A kernel of torch is  void k(slot *stack, uint64_t args, uint64_t results):  one slot of 64 bits an argument, overwritten
 * by the results. The kernel owns every handle among its arguments. Every operator here therefore has this form:
 *
 *     OPERATOR(name)
 *     {
 *         call c = { .op = "name", .stack = stack };
 *         tensor x = take_tensor(&c, "x"), ub = take_maybe(&c, "scale_ub");   every argument, in the order of the schema
 *         NEED(&c, x, x.ndim == 2, "must be [M, K]");                          the first error stays, work only without one
 *         tensor y = new_result(&c, ...);
 *         check_status(&c, oct_...(&args));
 *         finish(&c, results);                                                frees; stores the results or raises
 *     }
 *
 * An error is raised by torch's own C++ exception, which passes through the frames of finish and of the operator: so both
 * hold nothing then, and the files are compiled with -fexceptions. */
#ifndef OCTAVO_TORCH_SHIM_H
#define OCTAVO_TORCH_SHIM_H
#include "octavo.h"
#include <stdbool.h>
#include <stddef.h>

typedef uint64_t slot; /* torch's StableIValue */
typedef void *handle;  /* any of its handles */
typedef void kernel(slot *stack, uint64_t args, uint64_t results);
typedef void range_fn(int64_t begin, int64_t end, void *ctx);

/* ---- torch's C functions: N needed, O optional (newer than 2.10, or there only with a GPU) ---- */
#define TORCH_FUNCTIONS(N, O)                                                                                              \
    N(int32_t, aoti_torch_library_init_fragment, (const char *ns, const char *file, uint32_t line, handle *))             \
    N(int32_t, aoti_torch_library_init_impl, (const char *ns, const char *key, const char *file, uint32_t line, handle *)) \
    N(int32_t, aoti_torch_library_def, (handle, const char *schema))                                                      \
    N(int32_t, torch_library_impl, (handle, const char *name, kernel *, uint64_t version))                                \
    N(int32_t, aoti_torch_delete_tensor_object, (handle))                                                                 \
    N(int32_t, aoti_torch_new_tensor_handle, (handle, handle *))                                                          \
    N(int32_t, aoti_torch_get_dim, (handle, int64_t *))                                                                   \
    N(int32_t, aoti_torch_get_sizes, (handle, int64_t **))                                                                \
    N(int32_t, aoti_torch_get_strides, (handle, int64_t **))                                                              \
    N(int32_t, aoti_torch_get_dtype, (handle, int32_t *))                                                                 \
    N(int32_t, aoti_torch_get_device_type, (handle, int32_t *))                                                           \
    N(int32_t, aoti_torch_get_device_index, (handle, int32_t *))                                                          \
    N(int32_t, aoti_torch_get_data_ptr, (handle, void **)) /* storage offset included */                                  \
    N(int32_t, aoti_torch_empty_strided, (int64_t, const int64_t *, const int64_t *, int32_t, int32_t, int32_t, handle *)) \
    N(int32_t, aoti_torch_copy_, (handle to, handle from, int32_t non_blocking))                                          \
    N(int32_t, aoti_torch_zero_, (handle))                                                                                \
    N(int32_t, aoti_torch_device_type_cuda, (void))                                                                       \
    N(int32_t, aoti_torch_create_device_guard, (int32_t, handle *))                                                       \
    N(int32_t, aoti_torch_delete_device_guard, (handle))                                                                  \
    N(void, aoti_torch_check, (bool, const char *func, const char *file, uint32_t line, const char *msg))                 \
    N(int32_t, torch_new_list_reserve_size, (size_t, handle *))                                                           \
    N(int32_t, torch_list_push_back, (handle, slot))                                                                      \
    N(int32_t, torch_list_size, (handle, size_t *))                                                                       \
    N(int32_t, torch_list_get_item, (handle, size_t, slot *))                                                             \
    N(int32_t, torch_delete_list, (handle))                                                                               \
    N(int32_t, torch_parallel_for, (int64_t begin, int64_t end, int64_t grain, range_fn *, void *ctx))                    \
    O(int32_t, torch_delete_stable_ivalue, (slot *)) /* since 2.13; before it ... */                                      \
    O(void, _ZdlPv, (void *))                        /* ... C++'s operator delete */                                      \
    O(const char *, torch_exception_get_what_without_backtrace, (void)) /* since 2.13 */                                  \
    O(int32_t, aoti_torch_get_current_cuda_stream, (int32_t, void **))                                                    \
    O(int32_t, cuMemsetD32Async, (uintptr_t, unsigned, size_t, void *)) /* of the driver */                               \
    O(int32_t, cuStreamIsCapturing, (void *, int *))

struct torch_functions {
#define MEMBER(ret, name, args) ret(*name) args;
    TORCH_FUNCTIONS(MEMBER, MEMBER)
#undef MEMBER
};
extern struct torch_functions torch;

/* Binds `torch`. 0; -1: no torch in this process; -2: one without a needed function, which *missing then names. */
int torch_bind(const char **missing);

/* dtypes that octavo.h has no number for */
enum { DT_I64 = 1000, DT_BOOL, DT_OTHER };

/* ---- One call ---- */

typedef struct tensor {
    handle h; /* NULL: None, or not there because of an error */
    const char *name;
    int64_t ndim, count;
    const int64_t *size, *stride; /* torch's, valid while h is */
    int32_t dtype, device_type, device; /* OCT_ or DT_; torch's type; -1 on the CPU */
    void *data;
} tensor;

enum { MAX_HELD = 24, MAX_RESULTS = 3, MAX_DIMS = 8 };

typedef struct call {
    const char *op;
    slot *stack;
    int next;                                                      /* argument */
    handle held[MAX_HELD], lists[4], results[MAX_RESULTS];         /* held, lists: freed at the end */
    size_t list_items[4];
    int held_count, list_count, result_count;
    handle items;                                                  /* list of results, of any length */
    size_t item_count;
    tensor first;                                                  /* says where the operator runs */
    char error[512];
} call;

#define OPERATOR(name) void op_##name(slot *stack, __attribute__((unused)) uint64_t args, uint64_t results)

/* The next argument. A tensor must lie where the first one does; a `scalar` need not. */
tensor take_tensor(call *c, const char *name);
tensor take_maybe(call *c, const char *name); /* Tensor? */
tensor take_scalar(call *c, const char *name);
tensor take_maybe_scalar(call *c, const char *name);
int64_t take_int(call *c);
int64_t take_maybe_int(call *c, int64_t otherwise);
double take_float(call *c);
double take_maybe_float(call *c, double otherwise);
bool take_bool(call *c);
int32_t take_maybe_dtype(call *c, int32_t otherwise);
handle take_list(call *c, size_t *n);           /* Tensor[] */
tensor list_item(call *c, handle list, size_t i, const char *name); /* belongs to the list */

bool same_shape(const tensor *a, const tensor *b);

/* The first error stands. NEED names the tensor and says what it is, then what it must be. */
void fail(call *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void fail_tensor(call *c, const tensor *t, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define NEED(c, t, condition, ...)                                                 \
    do {                                                                           \
        if (!(c)->error[0] && !(condition)) fail_tensor((c), &(t), __VA_ARGS__);   \
    } while (0)
void check_status(call *c, oct_status s);
static inline bool ok(const call *c) { return !c->error[0]; }

/* Contiguous tensors on the first one's device; without h after an error. A result is handed out by finish, in the order
 * in which results were made; a temporary is not. */
tensor new_result(call *c, int64_t ndim, const int64_t *size, int32_t dtype);
tensor new_temporary(call *c, int64_t ndim, const int64_t *size, int32_t dtype);
tensor new_item(call *c, int64_t ndim, const int64_t *size, int32_t dtype); /* of a result that is a list of any length */
tensor like_result(call *c, const tensor *shape, int32_t dtype); /* of this shape */
void drop_held(call *c, int from); /* frees what is held from that number on */
void return_argument(call *c, const tensor *t); /* the same tensor as a result */
void zero(call *c, const tensor *t);
void copy(call *c, const tensor *to, const tensor *from);

/* Rows: the last dimension is k, the others are m rows at a stride. What is not strided so is copied. */
typedef struct matrix {
    void *data;
    int64_t m, k, ld;
} matrix;
matrix as_matrix(call *c, const tensor *t);
/* The same of something written to: an error instead of a copy. */
matrix as_output(call *c, const tensor *t);
/* t, or a packed copy of it */
tensor as_packed(call *c, const tensor *t);
tensor as_contiguous(call *c, const tensor *t); /* always a copy */
/* One f32 where the operator runs, from a tensor that may lie elsewhere; NULL when there is no tensor. */
const float *as_scalar(call *c, const tensor *t);
const float *new_filled(call *c, int64_t n, float value);
const float *one(call *c); /* 1 */
bool on_cuda(const call *c);

/* Where the operator runs: device, torch's current stream or its threads; and scratch of that size. */
oct_on call_on(call *c);
void call_scratch(call *c, oct_on *on, int64_t bytes);
/* Runs an op of octavo: fills in on and scratch, then calls it. */
#define RUN(c, op, a)                                              \
    do {                                                           \
        if (ok(c)) {                                               \
            (a)->size = (int64_t)sizeof *(a);                      \
            (a)->on = call_on(c);                                  \
            call_scratch((c), &(a)->on, oct_##op##_scratch(a));    \
            if (ok(c)) check_status((c), oct_##op(a));             \
        }                                                          \
    } while (0)

/* Frees the arguments; then stores the results, or raises. finish_list: one result, a list of them all, or of the items. */
void finish(call *c, uint64_t results);
void finish_list(call *c);
#endif
