/* bench_cuda.c - times rows on a GPU: a graph of 24 nodes or more over argument sets in rotation (together larger than
 * three L2 caches), replayed; candidates take turns. alone: plain nodes. chain: programmatic ones (OCT_ON_CHAIN). */
#define _GNU_SOURCE
#include "bench_case.h"
#include "check_cuda.h"
#include "core/core.h"
#include "core/num/bf16.h"
#include "core/num/f8.h"
#include <stdlib.h>
#include <string.h>

enum { NODES = 24, ROUNDS = 11, MAX_JOBS = 16, PATTERN = 1 << 22 };

void *ck_gpu_bench_mem(int64_t bytes)
{
    uint64_t p;
    ck_gpu_must(ck_gpu.mem_alloc(&p, (uint64_t)(bytes ? bytes : 1)), "memory of the bench");
    ck_gpu_must(ck_gpu.set_bytes(p, 0, (uint64_t)(bytes ? bytes : 1), ck_gpu_open()), "memset");
    return (void *)(uintptr_t)p;
}
void ck_gpu_bench_free(void *p) { ck_gpu_must(ck_gpu.mem_free((uint64_t)(uintptr_t)p), "free"); }

/* A block of random elements, laid end to end from another place each time. */
void ck_gpu_bench_fill(ck_bench *b, void *p, int32_t dtype, int64_t n, float scale)
{
    static unsigned char block[PATTERN * 4];
    void *stream = ck_gpu_open();
    const int64_t elem = oct_dtype_bits(dtype) / 8, step = oct_min(n, PATTERN);
    const int64_t first = (int64_t)(b->rng % 65536) % step;
    const int was = b->gpu;
    b->gpu = 0;
    ck_bench_fill(b, block, dtype, step, scale);
    b->gpu = was;
    for (int64_t i = 0, at = first; i < n;) {
        const int64_t m = oct_min(step - at, n - i);
        ck_gpu_must(ck_gpu.copy_in((uint64_t)(uintptr_t)p + (uint64_t)(i * elem), block + at * elem, (uint64_t)(m * elem), stream), "copy");
        i += m;
        at = 0;
    }
    ck_gpu_must(ck_gpu.stream_sync(stream), "copy");
}

static void *events[2];
static double replay(void *exec, int times, void *stream)
{
    float ms = 0;
    ck_gpu_must(ck_gpu.event_record(events[0], stream), "event");
    for (int i = 0; i < times; i++) ck_gpu_must(ck_gpu.graph_launch(exec, stream), "graph");
    ck_gpu_must(ck_gpu.event_record(events[1], stream), "event");
    ck_gpu_must(ck_gpu.event_sync(events[1]), "the timed kernels");
    ck_gpu_must(ck_gpu.event_ms(&ms, events[0], events[1]), "event");
    return ms * 1e-3 / times;
}

static void *finish(void *stream)
{
    void *graph, *exec;
    ck_gpu_must(ck_gpu.capture_end(stream, &graph), "end of the capture");
    ck_gpu_must(ck_gpu.graph_make(&exec, graph, 0), "graph");
    ck_gpu_must(ck_gpu.graph_destroy(graph), "graph");
    return exec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Bytes a second of a device copy, bytes read and written counted: what the machine's memory gives. */
static double copy_limit(void *stream)
{
    static double limit;
    const uint64_t n = 512ULL << 20;
    uint64_t p, q;
    if (limit > 0) return limit;
    ck_gpu_must(ck_gpu.event_create(&events[0], 0), "event");
    ck_gpu_must(ck_gpu.event_create(&events[1], 0), "event");
    ck_gpu_must(ck_gpu.mem_alloc(&p, n), "memory");
    ck_gpu_must(ck_gpu.mem_alloc(&q, n), "memory");
    for (int i = 0; i < 9; i++) { /* not as a graph: copy nodes there are slower */
        float ms = 0;
        ck_gpu_must(ck_gpu.event_record(events[0], stream), "event");
        for (int j = 0; j < 4; j++) ck_gpu_must(ck_gpu.copy_on(j % 2 ? p : q, j % 2 ? q : p, n, stream), "copy");
        ck_gpu_must(ck_gpu.event_record(events[1], stream), "event");
        ck_gpu_must(ck_gpu.event_sync(events[1]), "copy");
        ck_gpu_must(ck_gpu.event_ms(&ms, events[0], events[1]), "event");
        if (8.0 * (double)n / ms * 1e3 > limit) limit = 8.0 * (double)n / ms * 1e3;
    }
    ck_gpu_must(ck_gpu.mem_free(p), "free");
    ck_gpu_must(ck_gpu.mem_free(q), "free");
    printf("device copy, read and written: %.0f GB/s\n", limit * 1e-9);
    return limit;
}

/* ---- Peers ---- */

static struct { char op[24], shape[64], name[24]; double us; } peers[128];
static int peer_count;

/* Lines of op,"shape",peer,us; what begins with # is shown. */
int ck_gpu_peers(const char *script, const char *shape)
{
    char line[400];
    snprintf(line, sizeof line, "python3 '%s' '%s'", script, shape ? shape : "");
    FILE *f = popen(line, "r");
    while (f && fgets(line, sizeof line, f)) {
        const int room = peer_count < (int)(sizeof peers / sizeof *peers);
        if (line[0] == '#') printf("%s", line);
        else if (room && sscanf(line, "%23[^,],\"%63[^\"]\",%23[^,],%lf", peers[peer_count].op, peers[peer_count].shape,
                                peers[peer_count].name, &peers[peer_count].us) == 4)
            peer_count++;
    }
    return f && !pclose(f);
}

/* The fastest, or -1. */
static int best_peer(const char *op, const char *shape)
{
    int best = -1;
    for (int i = 0; i < peer_count; i++)
        if (!strcmp(peers[i].op, op) && !strcmp(peers[i].shape, shape) && (best < 0 || peers[i].us < peers[best].us)) best = i;
    return best;
}

void ck_gpu_time(ck_bench *b, const char *shape, double bytes, double flops, int n, void *const *args)
{
    struct { const oct_row *row; int chain; void *exec; double t[ROUNDS]; } jobs[MAX_JOBS];
    void *stream = ck_gpu_open();
    const double limit = copy_limit(stream);
    const int nodes = (NODES + n - 1) / n * n;
    int count = 0;
    int64_t most = 0;
    float fastest = 0;
    ck_args full;
    oct_on on = oct_cuda(0, stream);
    void *sync = ck_gpu_bench_mem(OCT_SYNC_BYTES);
    on.sync = sync;
    on.sync_bytes = OCT_SYNC_BYTES;
    for (int i = 0; i < n; i++) *(oct_on *)(void *)((char *)args[i] + b->op->op->on_offset) = on;
    for (int i = 0; i < oct_row_count; i++) {
        int64_t scratch = 0;
        const oct_row *r = &oct_rows[i];
        if (r->op == b->op->op->op && oct_row_device(r) == OCT_CUDA && oct_op_run_row(b->op->op, r, args[0], &full, &scratch) == OCT_OK)
            most = oct_max(most, scratch);
    }
    void *scratch = most ? ck_gpu_bench_mem(most) : 0;
    on.scratch = scratch;
    on.scratch_bytes = most;
    for (int i = 0; i < oct_row_count; i++)
        for (int chain = 0; chain < 2; chain++) {
            const oct_row *r = &oct_rows[i];
            int64_t need;
            if (r->op != b->op->op->op || oct_row_device(r) != OCT_CUDA || (b->o->filter && !strstr(r->name, b->o->filter))) continue;
            if (oct_op_run_row(b->op->op, r, args[0], &full, &need) != OCT_OK || count == MAX_JOBS) continue;
            on.flags = chain ? OCT_ON_CHAIN : 0;
            for (int j = 0; j < n; j++) *(oct_on *)(void *)((char *)args[j] + b->op->op->on_offset) = on;
            oct_status s = OCT_OK;
            float ms = 0;
            for (int j = 0; j < 2 && s == OCT_OK; j++) { /* the first loads the kernel */
                ck_gpu_must(ck_gpu.event_record(events[0], stream), "event");
                s = oct_op_run_row(b->op->op, r, args[0], &full, 0);
                ck_gpu_must(ck_gpu.event_record(events[1], stream), "event");
                ck_gpu_must(ck_gpu.event_sync(events[1]), r->name);
                ck_gpu_must(ck_gpu.event_ms(&ms, events[0], events[1]), "event");
            }
            if (!count) fastest = ms;
            if (s == OCT_OK && ms > 8 * fastest) { /* a row for what the others refuse: no time is spent on it */
                printf("%-26s %-34s %s about %.0f us\n", r->name, shape, chain ? "chain" : "alone", (double)ms * 1e3);
                continue;
            }
            ck_gpu_must(ck_gpu.capture_begin(stream, 1), "capture");
            for (int j = 0; j < nodes && s == OCT_OK; j++) s = oct_op_run_row(b->op->op, r, args[j % n], &full, 0);
            jobs[count].exec = finish(stream);
            if (s != OCT_OK) {
                printf("%-26s %-34s refused: %s\n", r->name, shape, oct_error_text());
                continue;
            }
            jobs[count].row = r;
            jobs[count++].chain = chain;
        }
    int times[MAX_JOBS];
    for (int i = 0; i < count; i++) {
        replay(jobs[i].exec, 2, stream);
        times[i] = (int)(1e-3 / replay(jobs[i].exec, 1, stream)) + 1;
    }
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < count; i++) {
            const int j = (i + round) % count;
            jobs[j].t[round] = replay(jobs[j].exec, times[j], stream) / nodes;
        }
    for (int i = 0; i < count; i++) {
        qsort(jobs[i].t, ROUNDS, sizeof(double), by_value);
        const double med = jobs[i].t[ROUNDS / 2], share = bytes / limit / med;
        const int p = best_peer(b->op->op->name, shape);
        char rate[32] = "", versus[64] = "";
        if (flops > 0) snprintf(rate, sizeof rate, " %8.1f TF/s", flops / med * 1e-12);
        if (p >= 0) snprintf(versus, sizeof versus, "  %.2fx %s (%.2f)", peers[p].us / med * 1e-6, peers[p].name, peers[p].us);
        printf("%-26s %-34s %-5s %9.2f us [%9.2f %9.2f] %6.0f GB/s %5.1f %% of copy%s%s\n", jobs[i].row->name, shape,
               jobs[i].chain ? "chain" : "alone", med * 1e6, jobs[i].t[0] * 1e6, jobs[i].t[ROUNDS - 1] * 1e6, bytes / med * 1e-9,
               share * 100, rate, versus);
        if (b->csv)
            fprintf(b->csv, "%s,\"%s\",%s,%.3f,%.3f,%.3f,%.1f,%.1f,%.1f,%.4f,%s,%.3f,%.3f\n", jobs[i].row->name, shape,
                    jobs[i].chain ? "chain" : "alone", med * 1e6, jobs[i].t[0] * 1e6, jobs[i].t[ROUNDS - 1] * 1e6, bytes / med * 1e-9,
                    flops / med * 1e-9, limit * 1e-9, share, p < 0 ? "" : peers[p].name, p < 0 ? 0 : peers[p].us,
                    p < 0 ? 0 : peers[p].us / med * 1e-6);
        if (b->svg && !jobs[i].chain) ck_svg_bar(b->svg, jobs[i].row->name, shape, share, "read");
        ck_gpu_must(ck_gpu.exec_destroy(jobs[i].exec), "graph");
    }
    ck_gpu_bench_free(sync);
    if (scratch) ck_gpu_bench_free(scratch);
}
