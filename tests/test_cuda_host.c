/* test_cuda_host.c CASE - core/cuda.c against the driver of fake_cuda.c, or against none: what goes wrong becomes a status
 * and a sentence, modules load once, the caller's context is left as found. Cases: none, old, init, other, context,
 * load, launch, ok. */
#define _GNU_SOURCE
#include "expect.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Alignas(256) char memory[8][4096];
static oct_quant_args call(int32_t device)
{
    oct_quant_args a = { .size = sizeof a, .on = oct_cuda(device, 0), .scaling = OCT_SCALE_ROW, .m = 4, .k = 64, .x = memory[0],
                         .x_dtype = OCT_BF16, .y = memory[1], .y_dtype = OCT_F8E4M3FN, .scale = (float *)(void *)memory[2] };
    return a;
}

static void refused(oct_status want, const char *words)
{
    const oct_quant_args a = call(0);
    oct_cuda_info_t info;
    const oct_status s = oct_quant(&a);
    expect(s == want && !strncmp(oct_error_text(), "quant: ", 7) && strstr(oct_error_text(), words), "quant gives %d, not %d and '%s'", s, want, words);
    char text[400];
    expect(oct_quant_choice(&a, text, sizeof text) == want && strstr(text, words), "choice says '%s'", text);
    expect(oct_quant_scratch(&a) == want, "scratch is %lld", (long long)oct_quant_scratch(&a));
    expect(oct_cuda_warm(0) == OCT_E_DEVICE && strstr(oct_error_text(), words), "warm");
    if (strcmp(words, "compute capability 8.0")) expect(oct_cuda_info(0, &info) == OCT_E_DEVICE && info.built_in == 1, "info");
    else expect(oct_cuda_info(0, &info) == OCT_OK && !info.runs_here && info.major == 8, "info of another GPU");
    oct_kernel_info_t k;
    for (int i = 0; i < oct_kernel_count(); i++) {
        oct_kernel_info(i, &k);
        if (!strcmp(k.needs, "sm90")) expect(!k.runs_here, "%s runs here", k.name);
    }
    oct_quant_args cpu = call(0);
    cpu.on = oct_cpu();
    expect(oct_quant(&cpu) == OCT_OK, "the CPU suffers");
}

static _Atomic int32_t *counter(const char *name)
{
    void *p = dlsym(dlopen("libcuda.so.1", RTLD_NOW), name);
    return p;
}

static void *in_thread(void *p)
{
    const oct_quant_args a = call((int32_t)(intptr_t)p);
    return (void *)(intptr_t)oct_quant(&a);
}

static int32_t (*get)(void **);
static int32_t (*push)(void *);
static void take(void *fn, const char *name)
{
    void *p = dlsym(dlopen("libcuda.so.1", RTLD_NOW), name);
    memcpy(fn, &p, sizeof p);
}

/* To ask about a call makes no context, which costs memory of the GPU. */
static void asks_only(void)
{
    const oct_quant_args a = call(0);
    oct_cuda_info_t info;
    oct_kernel_info_t k;
    char text[400];
    expect(oct_cuda_info(0, &info) == OCT_OK && info.runs_here, "info");
    expect(oct_quant_check(&a, text, sizeof text) == OCT_OK && oct_quant_choice(&a, text, sizeof text) == OCT_OK, "%s", text);
    expect(strstr(text, "oct_quant_sm90") != 0, "choice says '%s'", text);
    expect(oct_quant_scratch(&a) == 0, "scratch");
    for (int i = 0; i < oct_kernel_count(); i++) oct_kernel_info(i, &k);
    expect(*counter("fake_contexts") == 0, "%d contexts before anything ran", *counter("fake_contexts"));
}

static void works(void)
{
    pthread_t t[16];
    void *s, *now;
    asks_only();
    for (int i = 0; i < 16; i++) pthread_create(&t[i], 0, in_thread, (void *)(intptr_t)(i % 2));
    for (int i = 0; i < 16; i++) {
        pthread_join(t[i], &s);
        expect((intptr_t)s == OCT_OK, "thread %d: status %d", i, (int)(intptr_t)s);
    }
    expect(*counter("fake_loads") == 2, "16 threads on 2 devices loaded %d modules", *counter("fake_loads"));
    expect(*counter("fake_contexts") == 2, "%d contexts of 2 devices", *counter("fake_contexts"));
    expect(*counter("fake_launches") == 16, "%d launches", *counter("fake_launches"));
    expect(*counter("fake_programmatic") == 0, "programmatic launches without OCT_ON_CHAIN");
    take(&get, "cuCtxGetCurrent");
    take(&push, "cuCtxPushCurrent_v2");
    oct_quant_args a = call(1);
    expect(oct_quant(&a) == OCT_OK && !get(&now) && !now, "a context is left behind");
    push(memory);
    expect(oct_quant(&a) == OCT_OK && !get(&now) && now == memory, "the caller's context is not what it was");
    a.on.flags = OCT_ON_CHAIN;
    expect(oct_quant(&a) == OCT_OK && *counter("fake_programmatic") == 1, "OCT_ON_CHAIN is no programmatic launch");
    expect(oct_cuda_warm(0) == OCT_OK && !get(&now) && now == memory, "warm");
    const int32_t loads = *counter("fake_loads");
    expect(oct_cuda_warm(0) == OCT_OK && *counter("fake_loads") == loads, "warm twice loads twice");
    a = call(2);
    expect(oct_quant(&a) == OCT_E_DEVICE && strstr(oct_error_text(), "no CUDA device 2"), "device 2 of 2");
    a = call(-1);
    expect(oct_quant(&a) == OCT_E_DEVICE, "device -1");
    a = call(0);
    a.x = memory[0] + 1;
    expect(oct_quant(&a) == OCT_E_ALIGN, "an odd address");
    a = call(0);
    a.scaling = OCT_SCALE_TENSOR;
    a.m = 1 << 14;
    a.k = 1 << 14;
    const int64_t need = oct_quant_scratch(&a);
    expect(need > 0, "a large tensor needs scratch; %lld", (long long)need);
    expect(oct_quant(&a) == OCT_E_SCRATCH && strstr(oct_error_text(), "on.scratch"), "no scratch");
    a.on.scratch = memory[4];
    a.on.scratch_bytes = need;
    const int32_t before = *counter("fake_launches");
    expect(oct_quant(&a) == OCT_OK && *counter("fake_launches") == before + 2, "two launches");
    a.on.scratch = memory[4] + 64;
    expect(oct_quant(&a) == OCT_E_ALIGN, "scratch aligned to 64");
    a = call(0);
    setenv("FAKE_HOST", "1", 1);
    expect(oct_quant(&a) == OCT_E_DEVICE && strstr(oct_error_text(), "quant: x is memory of the host"), "host memory");
    setenv("FAKE_HOST", "0", 1);
    a.m = 0;
    expect(oct_quant(&a) == OCT_OK, "no rows");
    oct_kernel_info_t k;
    int rows = 0;
    for (int i = 0; i < oct_kernel_count(); i++) {
        oct_kernel_info(i, &k);
        if (!strcmp(k.needs, "sm90")) expect(k.runs_here, "%s does not run here", k.name), rows++;
    }
    expect(rows > 0, "no rows");
}

int main(int argc, char **argv)
{
    const char *c = argc > 1 ? argv[1] : "";
    const oct_quant_args a = call(0);
    if (!strcmp(c, "none")) refused(OCT_E_DEVICE, "libcuda.so.1 was not found");
    else if (!strcmp(c, "old")) refused(OCT_E_DEVICE, "too old");
    else if (!strcmp(c, "init")) refused(OCT_E_DEVICE, "does not start");
    else if (!strcmp(c, "other")) refused(OCT_E_DEVICE, "compute capability 8.0");
    else if (!strcmp(c, "context"))
        expect(oct_quant(&a) == OCT_E_DEVICE && strstr(oct_error_text(), "cuDevicePrimaryCtxRetain: fake error (2, CUDA_ERROR_FAKE)"),
               "out of memory for a context");
    else if (!strcmp(c, "load") || !strcmp(c, "launch")) {
        const oct_status s = oct_quant(&a);
        expect(s == OCT_E_DEVICE, "status %d", s);
        if (c[1] == 'o') expect(strstr(oct_error_text(), "quant_sm90") && strstr(oct_error_text(), "Fake 0"), "which kernels, on what");
        else
            expect(!strncmp(oct_error_text(), "quant: ", 7) && strstr(oct_error_text(), "quant_small_bf16") && strstr(oct_error_text(), "m 4") &&
                       strstr(oct_error_text(), "k 64") && strstr(oct_error_text(), "CUDA_ERROR_LAUNCH_FAILED"), "op, kernel, shape, error");
    } else works();
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
