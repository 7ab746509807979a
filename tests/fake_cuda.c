/* fake_cuda.c - a CUDA driver without a GPU, found as libcuda.so.1 by the tests of core/cuda.c: it keeps a context stack a
 * thread and counts what is loaded and launched. Environment:
 *   FAKE_CC      compute capability times 10 (90)      FAKE_DEVICES  how many (1)
 *   FAKE_INIT, FAKE_CONTEXT, FAKE_LOAD, FAKE_LAUNCH    what cuInit, cuDevicePrimaryCtxRetain, cuModuleLoadData,
 *                                                      cuLaunchKernelEx return (0)
 *   FAKE_HOST    1: every pointer is one that the GPU cannot read
 * Built with FAKE_OLD it lacks cuLaunchKernelEx, as drivers before 11.8 do. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))
_Pragma("GCC diagnostic ignored \"-Wmissing-prototypes\"")

/* Read by the test through dlsym. */
API _Atomic int32_t fake_loads, fake_functions, fake_launches, fake_programmatic, fake_contexts;

static int32_t set(const char *name, int32_t otherwise)
{
    const char *v = getenv(name);
    return v ? atoi(v) : otherwise;
}

static _Thread_local void *stack[16];
static _Thread_local int depth;
static int primary[16];

API int32_t cuInit(uint32_t flags) { (void)flags; return set("FAKE_INIT", 0); }
API int32_t cuDriverGetVersion(int32_t *v) { *v = 13000; return 0; }
API int32_t cuDeviceGetCount(int32_t *n) { *n = set("FAKE_DEVICES", 1); return 0; }
API int32_t cuDeviceGet(int32_t *d, int32_t ordinal) { *d = ordinal; return 0; }
API int32_t cuDeviceGetName(char *name, int32_t n, int32_t d) { snprintf(name, (size_t)n, "Fake %d", d); return 0; }
API int32_t cuDeviceTotalMem_v2(size_t *bytes, int32_t d) { (void)d; *bytes = (size_t)1 << 36; return 0; }
API int32_t cuDeviceGetAttribute(int32_t *v, int32_t attribute, int32_t d)
{
    (void)d;
    *v = attribute == 75 ? set("FAKE_CC", 90) / 10 : attribute == 76 ? set("FAKE_CC", 90) % 10 : attribute == 16 ? 132
         : attribute == 97 ? 232448 : attribute == 38 ? 60 << 20 : 0;
    return 0;
}
API int32_t cuDevicePrimaryCtxRetain(void **ctx, int32_t d) { *ctx = &primary[d]; atomic_fetch_add(&fake_contexts, 1); return set("FAKE_CONTEXT", 0); }
API int32_t cuCtxGetCurrent(void **ctx) { *ctx = depth ? stack[depth - 1] : 0; return 0; }
API int32_t cuCtxPushCurrent_v2(void *ctx) { if (depth == 16) return 1; stack[depth++] = ctx; return 0; }
API int32_t cuCtxPopCurrent_v2(void **ctx) { if (!depth) return 201; *ctx = stack[--depth]; return 0; }
API int32_t cuThreadExchangeStreamCaptureMode(int32_t *mode) { (void)mode; return 0; }
API int32_t cuModuleLoadData(void **module, const void *image)
{
    if (memcmp(image, "\177ELF", 4)) return 200;
    *module = &fake_loads;
    if (!set("FAKE_LOAD", 0)) atomic_fetch_add(&fake_loads, 1);
    return set("FAKE_LOAD", 0);
}
API int32_t cuModuleUnload(void *module) { (void)module; return 0; }
API int32_t cuModuleGetFunction(void **f, void *module, const char *name)
{
    (void)module;
    if (!strchr(name, '_')) return 500;
    *f = &fake_functions;
    atomic_fetch_add(&fake_functions, 1);
    return 0;
}
API int32_t cuFuncGetAttribute(int32_t *v, int32_t attribute, void *f) { (void)attribute; (void)f; *v = 1024; return 0; }
API int32_t cuFuncSetAttribute(void *f, int32_t attribute, int32_t v) { (void)f; return attribute == 8 && v == 232448 - 1024 ? 0 : 1; }
API int32_t cuPointerGetAttributes(uint32_t n, int32_t *attributes, void **values, uint64_t p)
{
    (void)p;
    if (n != 1 || attributes[0] != 2) return 1;
    *(int32_t *)values[0] = set("FAKE_HOST", 0) ? 0 : 2;
    return 0;
}
API int32_t cuGetErrorName(int32_t r, const char **text) { *text = r == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR_FAKE"; return 0; }
API int32_t cuGetErrorString(int32_t r, const char **text) { *text = r == 719 ? "unspecified launch failure" : "fake error"; return 0; }
API int32_t cuTensorMapEncodeTiled(void *map, int32_t type, uint32_t rank, void *base, const uint64_t *dims, const uint64_t *strides,
                                   const uint32_t *box, const uint32_t *steps, int32_t interleave, int32_t swizzle,
                                   int32_t promotion, int32_t fill)
{
    (void)type; (void)rank; (void)dims; (void)strides; (void)box; (void)steps; (void)interleave; (void)swizzle; (void)promotion; (void)fill;
    if ((uintptr_t)base % 16 || (uintptr_t)map % 64) return 1;
    memset(map, 0, 128);
    return 0;
}
#ifndef FAKE_OLD
typedef struct config {
    uint32_t grid[3], block[3], smem;
    void *stream;
    const struct { int32_t id, pad; int32_t value[16]; } *at;
    uint32_t count;
} config;
API int32_t cuLaunchKernelEx(const config *c, void *f, void **params, void **extra)
{
    (void)extra;
    if (!depth || f != &fake_functions || !params || !params[0] || !c->grid[0] || !c->block[0]) return 1;
    for (uint32_t i = 0; i < c->count; i++)
        if (c->at[i].id == 6) atomic_fetch_add(&fake_programmatic, c->at[i].value[0]);
        else if (c->at[i].id != 4 || c->grid[0] % (uint32_t)c->at[i].value[0]) return 1;
    atomic_fetch_add(&fake_launches, 1);
    return set("FAKE_LAUNCH", 0);
}
#endif
