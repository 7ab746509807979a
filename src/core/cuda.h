/* cuda.h - what a Hopper row uses of the CUDA driver, which is found by dlopen when first asked for.
 *
 * A row oct_<op>_<suffix>sm90 is made of
 *   src/kernels.def               K(<op>, <suffix>, sm90, OCT_CUDA_SM90) inside #if OCT_HAVE_SM90
 *   src/cubins.def                C(<op>_<suffix>sm90)
 *   src/<op>/<op>_<suffix>sm90.h  the kernel's one parameter: a plain struct that host and device share
 *   src/<op>/<op>_<suffix>sm90.cu extern "C" __global__ void __launch_bounds__(..) name(const __grid_constant__ params p)
 *   src/<op>/<op>_<suffix>sm90.c  fits and run: choose a kernel, fill in the struct, oct_cuda_launch
 *
 * Rules of every kernel: griddepcontrol.wait, in every thread that touches memory, before the first access to memory that an
 * earlier op may write or read (only with on.flags & OCT_ON_CHAIN is there anything to wait for). It returns when the op
 * before has ended, which waited in turn. griddepcontrol.launch_dependents may stand anywhere, in front of the wait too:
 * it only says that the next op's CTAs may come in beside this one's. What octavo.h calls weights may be read before the
 * wait when OCT_ON_CHAIN is set, and only then: the kernel is told by its params. */
#ifndef OCTAVO_CORE_CUDA_H
#define OCTAVO_CORE_CUDA_H
#include "core/core.h"

enum { OCT_CUDA_DEVICES = 16, OCT_CUDA_KERNELS = 96 };

typedef struct oct_cuda_device {
    int32_t ordinal, handle, major, minor, sms, smem; /* smem: bytes that a CTA can have */
    int32_t pageable;                                 /* 1: the GPU reads any memory of the host */
    int32_t driver;                                   /* 13000 is CUDA 13.0 */
    int64_t l2_bytes, memory;
    char name[96];
} oct_cuda_device;

/* The device, opened on first use (thread-safe), or NULL with the error text set. */
const oct_cuda_device *oct_cuda_open(int32_t ordinal);

/* A cubin and its kernels. A kernel's number is its place in the list. */
typedef struct oct_cuda_module {
    const char *name;
    const unsigned char *image, *end;
    const char *const *kernels;
    int32_t count;
    _Atomic int32_t loaded[OCT_CUDA_DEVICES];
    void *functions[OCT_CUDA_DEVICES][OCT_CUDA_KERNELS];
} oct_cuda_module;
/* At file level of src/<op>/<name>.c: OCT_CUDA_MODULE(quant_sm90, "quant_row", "quant_group"); */
#define OCT_CUDA_MODULE(id, ...)                                                                                           \
    extern const unsigned char oct_cubin_##id[], oct_cubin_##id##_end[];                                                   \
    static const char *const module_kernels[] = { __VA_ARGS__ };                                                           \
    _Static_assert(sizeof module_kernels / sizeof *module_kernels <= OCT_CUDA_KERNELS, "too many kernels");                \
    oct_cuda_module oct_module_##id = { #id, oct_cubin_##id, oct_cubin_##id##_end, module_kernels,                         \
                                        (int32_t)(sizeof module_kernels / sizeof *module_kernels), { 0 }, { { 0 } } }
#define C(name) extern oct_cuda_module oct_module_##name;
#include "cubins.def"
#undef C

typedef struct oct_cuda_launch {
    const char *op;           /* for the error text, with the shape */
    int64_t m, n, k;
    int64_t x, y, z;          /* CTAs; x = 0: nothing is launched; y, z = 0 mean 1 */
    int32_t threads, smem;    /* of a CTA; smem: dynamic shared memory in bytes, up to the device's limit */
    int32_t cluster;          /* CTAs of a cluster, along x; 0 means 1 */
    const void *params;       /* the kernel's one parameter, copied by the call */
} oct_cuda_launch_t;
/* Launches kernel number `kernel` of the module on on's device and stream (loading the module if need be), with
 * programmatic serialization when on.flags has OCT_ON_CHAIN. The caller's current context is left as found. */
oct_status oct_cuda_launch(const oct_on *on, oct_cuda_module *module, int32_t kernel, const oct_cuda_launch_t *launch);

/* A tensor map, for copies by the TMA engine. In a params struct it comes first or is aligned as here. */
typedef struct oct_tensor_map { _Alignas(64) uint64_t words[16]; } oct_tensor_map;
enum { OCT_SWIZZLE_NONE, OCT_SWIZZLE_32, OCT_SWIZZLE_64, OCT_SWIZZLE_128 };
typedef struct oct_tensor_map_spec {
    const void *base;          /* 16-byte aligned */
    int32_t dtype;             /* OCT_F32, OCT_BF16; FP8 and other bytes are OCT_U8 */
    int32_t rank, swizzle;
    int64_t dims[5];           /* elements; dims[0] is contiguous */
    int64_t strides_bytes[4];  /* of dims[1], ..: multiples of 16 */
    int32_t box[5];            /* elements, each at most 256 */
} oct_tensor_map_spec;
oct_status oct_cuda_tensor_map(const char *op, oct_tensor_map *map, const oct_tensor_map_spec *spec);

/* Where a pointer leads: 1 when the device can read it. Asked for operands of a call, before the launch. */
int oct_cuda_readable(const oct_cuda_device *d, const void *p);

/* ---- For core and the harness ---- */

/* An entry of the driver by its versioned name ("cuMemAlloc_v2"), or NULL. Copy it into a function pointer by memcpy. */
void *oct_cuda_symbol(const char *name);
/* Makes the device's primary context current, made at first use and kept, and remembers the one that was; nothing happens
 * when it is already. Only what runs comes here: to ask about a call costs no context. */
oct_status oct_cuda_enter(const oct_cuda_device *d, int *pushed);
void oct_cuda_leave(int pushed);
/* OCT_E_DEVICE, with the driver's words for its error code r. */
oct_status oct_cuda_fail(const char *what, int r);
/* OCT_CUDA_ bits of what device `ordinal` can run; 0 without a device, a driver or the backend. */
uint32_t oct_cuda_features(int32_t ordinal);
#endif
