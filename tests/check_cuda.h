/* check_cuda.h - the harness on a GPU: what check.c and bench.c call, and the driver functions that they share. */
#ifndef OCTAVO_TESTS_CHECK_CUDA_H
#define OCTAVO_TESTS_CHECK_CUDA_H
#include "check_case.h"
#include "core/cuda.h"

#define CK_GPU_FUNCTIONS(F)                                                                          \
    F(mem_alloc, "cuMemAlloc_v2", (uint64_t *p, uint64_t bytes))                                     \
    F(mem_free, "cuMemFree_v2", (uint64_t p))                                                        \
    F(copy_in, "cuMemcpyHtoDAsync_v2", (uint64_t to, const void *from, uint64_t n, void *stream))    \
    F(copy_out, "cuMemcpyDtoHAsync_v2", (void *to, uint64_t from, uint64_t n, void *stream))         \
    F(copy_on, "cuMemcpyDtoDAsync_v2", (uint64_t to, uint64_t from, uint64_t n, void *stream))       \
    F(set_bytes, "cuMemsetD8Async", (uint64_t p, unsigned char v, uint64_t n, void *stream))         \
    F(ctx_sync, "cuCtxSynchronize", (void))                                                          \
    F(stream_create, "cuStreamCreate", (void **stream, uint32_t non_blocking))                       \
    F(stream_sync, "cuStreamSynchronize", (void *stream))                                            \
    F(capture_begin, "cuStreamBeginCapture_v2", (void *stream, int32_t mode))                        \
    F(capture_end, "cuStreamEndCapture", (void *stream, void **graph))                               \
    F(graph_make, "cuGraphInstantiateWithFlags", (void **exec, void *graph, uint64_t flags))         \
    F(graph_launch, "cuGraphLaunch", (void *exec, void *stream))                                     \
    F(graph_destroy, "cuGraphDestroy", (void *graph))                                                \
    F(exec_destroy, "cuGraphExecDestroy", (void *exec))                                              \
    F(event_create, "cuEventCreate", (void **event, uint32_t flags))                                 \
    F(event_record, "cuEventRecord", (void *event, void *stream))                                    \
    F(event_sync, "cuEventSynchronize", (void *event))                                               \
    F(event_ms, "cuEventElapsedTime_v2", (float *ms, void *a, void *b))
typedef struct ck_gpu_calls {
#define F(member, symbol, args) int32_t (*member) args;
    CK_GPU_FUNCTIONS(F)
#undef F
} ck_gpu_calls;
extern ck_gpu_calls ck_gpu;

/* A stream on device 0, whose context becomes this thread's; NULL without a device. */
void *ck_gpu_open(void);
/* Ends the program when r is an error. */
void ck_gpu_must(int r, const char *what);
void ck_gpu_exact(int on);
/* Runs a case's row on the device. moved_args, full: room for an args struct. */
oct_status ck_gpu_run(ck_case *c, const oct_row *row, const void *args, void *moved_args, void *full, int64_t args_size);
#endif
