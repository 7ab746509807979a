/* cuda_abi.h - the part of the CUDA driver's binary interface that octavo calls, as cuda.h of CUDA 13 lays it out (and
 * every driver from 12.0 on): no header of NVIDIA is needed to build. tests/cuda_abi.c compares it with cuda.h. */
#ifndef OCTAVO_CORE_CUDA_ABI_H
#define OCTAVO_CORE_CUDA_ABI_H
#include <stdint.h>

enum { /* CUresult, CUdevice_attribute, CUfunction_attribute, CUpointer_attribute, launch attributes */
    CU_DEV_SMS = 16, CU_DEV_L2 = 38, CU_DEV_MAJOR = 75, CU_DEV_MINOR = 76, CU_DEV_PAGEABLE = 88, CU_DEV_SMEM_OPTIN = 97,
    CU_FN_STATIC_SMEM = 1, CU_FN_MAX_DYNAMIC_SMEM = 8,
    CU_PTR_MEMORY_TYPE = 2,
    CU_AT_CLUSTER = 4, CU_AT_PROGRAMMATIC = 6,
    CU_CAPTURE_RELAXED = 2
};

typedef struct cu_attribute {
    int32_t id, pad;
    union {
        char pad[64];
        struct { uint32_t x, y, z; } cluster;
        int32_t flag;
    } value;
} cu_attribute;

typedef struct cu_config {
    uint32_t grid_x, grid_y, grid_z, block_x, block_y, block_z, smem;
    void *stream;
    cu_attribute *attributes;
    uint32_t attribute_count;
} cu_config;

/* F(member, symbol, arguments): what cuda.c calls. The symbols are the ones that cuda.h's macros lead to. */
#define CU_FUNCTIONS(F)                                                                                    \
    F(init, "cuInit", (uint32_t flags))                                                                    \
    F(driver_version, "cuDriverGetVersion", (int32_t *v))                                                  \
    F(device_count, "cuDeviceGetCount", (int32_t *n))                                                      \
    F(device_get, "cuDeviceGet", (int32_t *d, int32_t ordinal))                                            \
    F(device_name, "cuDeviceGetName", (char *name, int32_t n, int32_t d))                                  \
    F(device_attribute, "cuDeviceGetAttribute", (int32_t *v, int32_t attribute, int32_t d))                \
    F(device_memory, "cuDeviceTotalMem_v2", (size_t *bytes, int32_t d))                                    \
    F(primary_retain, "cuDevicePrimaryCtxRetain", (void **ctx, int32_t d))                                 \
    F(ctx_current, "cuCtxGetCurrent", (void **ctx))                                                        \
    F(ctx_push, "cuCtxPushCurrent_v2", (void *ctx))                                                        \
    F(ctx_pop, "cuCtxPopCurrent_v2", (void **ctx))                                                         \
    F(capture_mode, "cuThreadExchangeStreamCaptureMode", (int32_t *mode))                                  \
    F(module_load, "cuModuleLoadData", (void **module, const void *image))                                 \
    F(module_unload, "cuModuleUnload", (void *module))                                                     \
    F(module_function, "cuModuleGetFunction", (void **f, void *module, const char *name))                  \
    F(function_get, "cuFuncGetAttribute", (int32_t *v, int32_t attribute, void *f))                        \
    F(function_set, "cuFuncSetAttribute", (void *f, int32_t attribute, int32_t v))                         \
    F(launch, "cuLaunchKernelEx", (const cu_config *config, void *f, void **params, void **extra))         \
    F(pointer_attributes, "cuPointerGetAttributes",                                                        \
      (uint32_t n, int32_t *attributes, void **values, uint64_t p))                                        \
    F(error_name, "cuGetErrorName", (int32_t r, const char **text))                                        \
    F(error_string, "cuGetErrorString", (int32_t r, const char **text))                                    \
    F(tensor_map, "cuTensorMapEncodeTiled",                                                                \
      (void *map, int32_t type, uint32_t rank, void *base, const uint64_t *dims, const uint64_t *strides,  \
       const uint32_t *box, const uint32_t *steps, int32_t interleave, int32_t swizzle, int32_t promotion, \
       int32_t fill))
#endif
