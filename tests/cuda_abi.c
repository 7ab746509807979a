/* cuda_abi.c - core/cuda_abi.h beside NVIDIA's cuda.h; compiled where that is installed, and never run. Its enumerators
 * have other names than ours; its functions are called through ours with the same sizes. */
#include <cuda.h>
#include <stddef.h>
#include "core/cuda_abi.h"
#include "core/cuda.h"

#define SAME(a, b) _Static_assert((int)(a) == (int)(b), #a " is not " #b)
SAME(CU_DEV_SMS, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
SAME(CU_DEV_L2, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
SAME(CU_DEV_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME(CU_DEV_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME(CU_DEV_PAGEABLE, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS);
SAME(CU_DEV_SMEM_OPTIN, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
SAME(CU_FN_STATIC_SMEM, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
SAME(CU_FN_MAX_DYNAMIC_SMEM, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
SAME(CU_PTR_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_MEMORY_TYPE);
SAME(CU_AT_CLUSTER, CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
SAME(CU_AT_PROGRAMMATIC, CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
SAME(CU_CAPTURE_RELAXED, CU_STREAM_CAPTURE_MODE_RELAXED);
SAME(sizeof(cu_attribute), sizeof(CUlaunchAttribute));
SAME(offsetof(cu_attribute, value), offsetof(CUlaunchAttribute, value));
SAME(sizeof(cu_config), sizeof(CUlaunchConfig));
SAME(offsetof(cu_config, smem), offsetof(CUlaunchConfig, sharedMemBytes));
SAME(offsetof(cu_config, stream), offsetof(CUlaunchConfig, hStream));
SAME(offsetof(cu_config, attributes), offsetof(CUlaunchConfig, attrs));
SAME(offsetof(cu_config, attribute_count), offsetof(CUlaunchConfig, numAttrs));
SAME(sizeof(oct_tensor_map), sizeof(CUtensorMap));
SAME(sizeof(CUdeviceptr), 8);
SAME(sizeof(CUdevice), 4);
SAME(sizeof(CUresult), 4);
SAME(OCT_SWIZZLE_128, CU_TENSOR_MAP_SWIZZLE_128B);
SAME(7, CU_TENSOR_MAP_DATA_TYPE_FLOAT32);
SAME(9, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
SAME(3, CU_TENSOR_MAP_L2_PROMOTION_L2_256B);
