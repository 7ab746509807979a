/* test_cuda.c - what core/cuda.c promises, on a GPU; skipped without one. Each scenario runs in a process of its own, so
 * that modules are not loaded yet. */
#define _GNU_SOURCE
#include "check_cuda.h"
#include "expect.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int32_t (*current)(void **), (*push)(void *), (*pop)(void **), (*create)(void **, uint32_t, int32_t);
static void *stream;
static void open_gpu(void)
{
    static const struct { const char *name; void *to; } calls[] = {
        { "cuCtxGetCurrent", &current }, { "cuCtxPushCurrent_v2", &push }, { "cuCtxPopCurrent_v2", &pop }, { "cuCtxCreate_v2", &create } };
    stream = ck_gpu_open();
    for (int i = 0; i < 4; i++) {
        void *p = oct_cuda_symbol(calls[i].name);
        memcpy(calls[i].to, &p, sizeof p);
    }
}

/* A matrix on the host and on the device, its codes and scales by the CPU, and room for the device's. */
enum { M = 64, K = 1024 };
typedef struct job {
    uint16_t x[M * K];
    uint8_t want[M * K], got[M * K];
    float want_scale[M], got_scale[M];
    uint64_t dx, dy, ds;
    oct_quant_args a;
} job;

static void fill(job *j, unsigned seed)
{
    for (int i = 0; i < M * K; i++) {
        seed = seed * 1664525 + 1013904223;
        j->x[i] = (uint16_t)(0x3c00 + (seed >> 16 & 0x83ff));
    }
    oct_quant_args a = { .size = sizeof a, .scaling = OCT_SCALE_ROW, .m = M, .k = K, .x = j->x, .x_dtype = OCT_BF16, .y = j->want,
                         .y_dtype = OCT_F8E4M3FN, .scale = j->want_scale };
    expect(oct_quant(&a) == OCT_OK, "the CPU");
}
static job *make(unsigned seed)
{
    job *j = calloc(1, sizeof *j);
    fill(j, seed);
    ck_gpu_must(ck_gpu.mem_alloc(&j->dx, sizeof j->x), "memory");
    ck_gpu_must(ck_gpu.mem_alloc(&j->dy, sizeof j->got), "memory");
    ck_gpu_must(ck_gpu.mem_alloc(&j->ds, sizeof j->got_scale), "memory");
    j->a = (oct_quant_args){ .size = sizeof j->a, .on = oct_cuda(0, stream), .scaling = OCT_SCALE_ROW, .m = M, .k = K,
                             .x = (void *)(uintptr_t)j->dx, .x_dtype = OCT_BF16, .y = (void *)(uintptr_t)j->dy, .y_dtype = OCT_F8E4M3FN,
                             .scale = (float *)(uintptr_t)j->ds };
    return j;
}
static void send(job *j, void *s)
{
    ck_gpu_must(ck_gpu.copy_in(j->dx, j->x, sizeof j->x, s), "copy");
    ck_gpu_must(ck_gpu.set_bytes(j->dy, 0xa5, sizeof j->got, s), "memset");
}
static int right(job *j, void *s)
{
    ck_gpu_must(ck_gpu.copy_out(j->got, j->dy, sizeof j->got, s), "copy");
    ck_gpu_must(ck_gpu.copy_out(j->got_scale, j->ds, sizeof j->got_scale, s), "copy");
    ck_gpu_must(ck_gpu.stream_sync(s), "the kernel");
    return !memcmp(j->got, j->want, sizeof j->got) && !memcmp(j->got_scale, j->want_scale, sizeof j->got_scale);
}

static void info(void)
{
    oct_cuda_info_t i;
    expect(oct_cuda_info(0, &i) == OCT_OK && i.runs_here && i.major == 9 && i.sms > 0 && i.driver >= 12000 && i.memory > 0, "info");
    printf("  %s, %d SMs, driver %d\n", i.name, i.sms, i.driver);
    expect(oct_cuda_info(1000, &i) == OCT_E_DEVICE, "device 1000");
    expect(oct_cuda_warm(0) == OCT_OK && oct_cuda_warm(0) == OCT_OK, "warm");
    expect(oct_cuda_warm(-1) == OCT_E_DEVICE, "warm -1");
}

static void *no_context(void *p)
{
    job *j = p;
    void *now = p;
    expect(oct_quant(&j->a) == OCT_OK, "a thread without a context");
    expect(!current(&now) && !now, "a context is left in the thread");
    return 0;
}
static void contexts(void)
{
    pthread_t t;
    void *ctx, *now;
    open_gpu();
    job *j = make(1);
    send(j, stream);
    pthread_create(&t, 0, no_context, j);
    pthread_join(t, 0);
    expect(right(j, stream), "codes of a thread without a context");
    send(j, stream);
    ck_gpu_must(ck_gpu.stream_sync(stream), "copy");
    ck_gpu_must(create(&ctx, 0, 0), "another context");
    expect(oct_quant(&j->a) == OCT_OK && !current(&now) && now == ctx, "another context is current, and is no more");
    pop(&now);
    expect(right(j, stream), "codes from under another context");
    j->a.on.stream = 0; /* the default stream of the primary context */
    send(j, 0);
    expect(oct_quant(&j->a) == OCT_OK && right(j, 0), "the default stream");
}

static void *first_call(void *p)
{
    job *j = p;
    return (void *)(intptr_t)oct_quant(&j->a);
}
static void threads(void)
{
    enum { N = 8 };
    pthread_t t[N];
    job *j[N];
    void *s;
    open_gpu();
    for (int i = 0; i < N; i++) send(j[i] = make((unsigned)i), stream);
    for (int i = 0; i < N; i++) pthread_create(&t[i], 0, first_call, j[i]);
    for (int i = 0; i < N; i++) {
        pthread_join(t[i], &s);
        expect((intptr_t)s == OCT_OK, "thread %d", i);
    }
    for (int i = 0; i < N; i++) expect(right(j[i], stream), "codes of thread %d", i);
}

/* The very first call, with its module still to be loaded, inside a capture that forbids unsafe calls. */
static void captures(void)
{
    void *graph, *exec;
    open_gpu();
    job *j = make(1);
    ck_gpu_must(ck_gpu.capture_begin(stream, 0), "capture");
    expect(oct_quant(&j->a) == OCT_OK, "the first call in a capture");
    ck_gpu_must(ck_gpu.capture_end(stream, &graph), "end of the capture");
    ck_gpu_must(ck_gpu.graph_make(&exec, graph, 0), "graph");
    for (unsigned i = 2; i < 6; i++) {
        fill(j, i);
        send(j, stream);
        ck_gpu_must(ck_gpu.graph_launch(exec, stream), "graph");
        expect(right(j, stream), "replay %u", i);
    }
}

static void faults(void)
{
    void *ctx, *was, *other;
    open_gpu();
    job *j = make(1);
    oct_quant_args a = j->a;
    a.x = j->x;
    expect(oct_quant(&a) == OCT_E_DEVICE && strstr(oct_error_text(), "quant: x is memory of the host"), "host memory");
    a = j->a;
    a.x = (const char *)a.x + 1;
    expect(oct_quant(&a) == OCT_E_ALIGN, "an odd address");
    a = j->a;
    a.on.device = 77;
    expect(oct_quant(&a) == OCT_E_DEVICE, "device 77");
    a = j->a;
    ck_gpu_must(create(&ctx, 0, 0), "another context");
    ck_gpu_must(ck_gpu.stream_create(&other, 1), "stream");
    pop(&was);
    a.on.stream = other;
    expect(oct_quant(&a) == OCT_E_DEVICE && strstr(oct_error_text(), "oct_quant") == 0 && strstr(oct_error_text(), "quant: launch of quant_") &&
               strstr(oct_error_text(), "m 64") && strstr(oct_error_text(), "k 1024"), "a stream of another context");
    send(j, stream);
    expect(oct_quant(&j->a) == OCT_OK && right(j, stream), "a good call after the bad ones");
}

/* No memory is left when the modules are to be loaded: a status, or it works; and it works once there is memory. */
static void memory(void)
{
    static uint64_t taken[4096];
    int n = 0;
    open_gpu();
    job *j = make(1);
    send(j, stream);
    ck_gpu_must(ck_gpu.stream_sync(stream), "copy");
    for (uint64_t size = 1ULL << 34; size >= 1 << 12; size /= 2)
        while (n < 4096 && !ck_gpu.mem_alloc(&taken[n], size)) n++;
    const oct_status s = oct_quant(&j->a);
    expect(s == OCT_OK || (s == OCT_E_DEVICE && oct_error_text()[0]), "without memory: %d", s);
    printf("  without memory: %s\n", s == OCT_OK ? "works" : oct_error_text());
    while (n) ck_gpu.mem_free(taken[--n]);
    send(j, stream);
    expect(oct_quant(&j->a) == OCT_OK && right(j, stream), "with memory again");
}

/* A programmatic chain in which every op reads what the one before has written, and writes what the one before has read. */
static void chain(void)
{
    enum { ROUNDS = 40 };
    void *graph, *exec;
    open_gpu();
    job *j = make(3);
    oct_dequant_args back = { .size = sizeof back, .on = oct_cuda(0, stream), .scaling = OCT_SCALE_ROW, .m = M, .k = K, .x = j->a.y,
                              .x_dtype = OCT_F8E4M3FN, .y = (void *)(uintptr_t)j->dx, .y_dtype = OCT_BF16, .scale = j->a.scale };
    oct_dequant_args cpu = back;
    oct_quant_args again = j->a;
    j->a.on.flags = back.on.flags = OCT_ON_CHAIN;
    cpu.on = again.on = oct_cpu();
    cpu.x = again.y = j->want;
    again.x = cpu.y = j->x;
    cpu.scale = again.scale = j->want_scale;
    ck_gpu_must(ck_gpu.capture_begin(stream, 1), "capture");
    for (int i = 0; i < ROUNDS; i++) {
        j->a.rule = again.rule = i % 2;
        expect(oct_quant(&j->a) == OCT_OK && oct_dequant(&back) == OCT_OK, "round %d", i);
    }
    ck_gpu_must(ck_gpu.capture_end(stream, &graph), "end of the capture");
    ck_gpu_must(ck_gpu.graph_make(&exec, graph, 0), "graph");
    for (int r = 0; r < 20; r++) {
        fill(j, 10 + (unsigned)r);
        send(j, stream);
        ck_gpu_must(ck_gpu.graph_launch(exec, stream), "graph");
        for (int i = 0; i < ROUNDS; i++) {
            again.rule = i % 2;
            if (oct_quant(&again) != OCT_OK || oct_dequant(&cpu) != OCT_OK) expect(0, "the CPU");
        }
        expect(right(j, stream), "replay %d", r);
    }
}

int main(void)
{
    static const struct { const char *name; void (*run)(void); } scenarios[] = {
        { "info", info }, { "contexts", contexts }, { "threads", threads }, { "captures", captures }, { "faults", faults },
        { "memory", memory }, { "chain", chain } };
    int bad = 0, good = 0;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        int pipes[2], counts[3] = { 0, 1, 0 }, status = 0;
        fflush(stdout);
        if (pipe(pipes)) return 2;
        const pid_t child = fork();
        if (!child) {
            oct_cuda_info_t gpu;
            if (oct_cuda_info(0, &gpu) != OCT_OK || !gpu.runs_here) counts[2] = 1, counts[1] = 0;
            else {
                printf("%s\n", scenarios[i].name);
                scenarios[i].run();
                counts[0] = passed;
                counts[1] = failed;
            }
            fflush(stdout);
            if (write(pipes[1], counts, sizeof counts) != (ssize_t)sizeof counts) _exit(3);
            _exit(0);
        }
        close(pipes[1]);
        const int got = read(pipes[0], counts, sizeof counts) == (ssize_t)sizeof counts;
        close(pipes[0]);
        waitpid(child, &status, 0);
        if (got && counts[2]) {
            printf("skipped: there is no GPU that the kernels run on\n0 passed, 0 failed\n");
            return 0;
        }
        if (!got || status) printf("FAIL %s ended with status %d\n", scenarios[i].name, status);
        good += got ? counts[0] : 0;
        bad += got && !status ? counts[1] : 1;
    }
    printf("%d passed, %d failed\n", good, bad);
    return bad != 0;
}
