/* check_cuda.c - a case on a GPU: the buffers that the args point to are copied to the device, the row runs there, and the
 * outputs come back to where the check looks for them. So no check knows of devices.
 *
 * Each buffer lies in device memory as it lies in its host pages (the same address modulo 256), between guard zones that
 * must come back as they were. Every case runs twice, with equal bits, or from a graph that was captured and replayed on
 * zeros before the inputs came; half of the cases as a programmatic launch. */
#define _GNU_SOURCE
#include "check_cuda.h"
#include "core/kernel.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ck_gpu_calls ck_gpu;
static const ck_case *running;

void ck_gpu_must(int r, const char *what)
{
    if (!r) return;
    oct_cuda_fail(what, r);
    printf("  FAIL %s\n", oct_error_text());
    if (running) printf("       %s in: %s\n", running->row->name, running->what);
    fflush(stdout);
    _exit(70); /* such an error stays with the context: nothing can run after it */
}

void *ck_gpu_open(void)
{
    static void *stream;
    if (stream) return stream;
    const oct_cuda_device *d = oct_cuda_open(0);
    int pushed;
    void *p;
    if (!d || oct_cuda_enter(d, &pushed)) return 0; /* stays current in this thread */
#define F(member, symbol, args)                        \
    if (!(p = oct_cuda_symbol(symbol))) return 0;      \
    memcpy(&ck_gpu.member, &p, sizeof p);
    CK_GPU_FUNCTIONS(F)
#undef F
    ck_gpu_must(ck_gpu.stream_create(&stream, 1), "stream");
    return stream;
}

/* ---- Buffers on the device ---- */

enum { GUARD = 4096 }; /* filled with NaN or with numbers, so that what is read there shows in maxima and in sums */
typedef struct place {
    const ck_buf *b;
    uint64_t zone, size; /* guard, body, guard on the device */
    char *image, *first; /* what was sent; what came back of the first run */
    int64_t body, at;    /* bytes of the body; of the buffer in it */
} place;
typedef struct places {
    place p[64];
    int n;
} places;

static int exact; /* an allocation a buffer, so that compute-sanitizer sees where it ends */
void ck_gpu_exact(int on) { exact = on; }

static uint64_t take(uint64_t bytes, int reset)
{
    static uint64_t arena, used;
    const uint64_t all = 3ULL << 30;
    if (reset) { used = 0; return 0; }
    if (!arena) ck_gpu_must(ck_gpu.mem_alloc(&arena, all), "memory of the harness");
    const uint64_t p = arena + used;
    used += (bytes + 255) / 256 * 256;
    if (used > all) { printf("check: a case needs more than 3 GiB of device memory\n"); exit(1); }
    return p;
}

/* The buffer that p lies in (its end included), on the device; 0: p is no buffer's. */
static uint64_t moved(ck_case *c, places *all, const char *p)
{
    for (int i = 0; i < all->n; i++)
        if (p >= all->p[i].b->at && p <= all->p[i].b->at + all->p[i].b->bytes)
            return all->p[i].zone + GUARD + (uint64_t)(all->p[i].at + (p - all->p[i].b->at));
    for (int i = 0; i < c->buf_count; i++) {
        const ck_buf *b = &c->bufs[i];
        if (p < b->at || p > b->at + b->bytes) continue;
        if (all->n == 64) { printf("check: too many buffers\n"); exit(1); }
        place *q = &all->p[all->n++];
        const int64_t page = sysconf(_SC_PAGESIZE);
        q->b = b;
        q->body = b->mapped - 2 * page;
        q->at = b->at - (b->base + page);
        if (exact) { /* nothing behind the buffer */
            q->at = q->at % 256;
            q->body = q->at + b->bytes;
        }
        q->size = (uint64_t)q->body + 2 * GUARD;
        if (exact) ck_gpu_must(ck_gpu.mem_alloc(&q->zone, (uint64_t)(q->body ? q->body : 1)), "memory"), q->zone -= GUARD;
        else q->zone = take(q->size, 0);
        q->image = malloc(q->size);
        q->first = 0;
        memset(q->image, c->place_begin ? 0xff : 0xc3, q->size);
        memcpy(q->image + GUARD + q->at, b->at, (size_t)b->bytes);
        return moved(c, all, p);
    }
    return 0;
}

static uint64_t zone_at(const place *q) { return q->zone + (exact ? GUARD : 0); }
static char *in_zone(char *image) { return image + (exact ? GUARD : 0); }
static uint64_t zone_size(const place *q) { return exact ? (uint64_t)q->body : q->size; }

static void send(places *all, int zero_inputs, void *stream)
{
    for (int i = 0; i < all->n; i++) {
        place *q = &all->p[i];
        if (!zone_size(q)) continue;
        ck_gpu_must(ck_gpu.copy_in(zone_at(q), in_zone(q->image), zone_size(q), stream), "copy to the device");
        if (zero_inputs && q->b->input && q->b->bytes)
            ck_gpu_must(ck_gpu.set_bytes(q->zone + GUARD + (uint64_t)q->at, 0, (uint64_t)q->b->bytes, stream), "memset");
    }
}

/* What lies outside the outputs must be as it was; the outputs go to the host's buffers. */
static void receive(ck_case *c, places *all, void *stream)
{
    for (int i = 0; i < all->n; i++) {
        place *q = &all->p[i];
        char *back = malloc(q->size ? q->size : 1);
        memcpy(back, q->image, q->size);
        if (zone_size(q)) ck_gpu_must(ck_gpu.copy_out(in_zone(back), zone_at(q), zone_size(q), stream), "copy from the device");
        ck_gpu_must(ck_gpu.stream_sync(stream), "the kernel, or a copy behind it");
        const char *at = back + GUARD + q->at;
        const int64_t bytes = q->b->bytes, before = GUARD + q->at;
        const int64_t outside = q->b->input ? 0 : bytes; /* of an input, nothing may change */
        if (memcmp(back, q->image, (size_t)before) ||
            memcmp(back + before + outside, q->image + before + outside, (size_t)(q->size - (uint64_t)(before + outside)))) {
            int64_t j = 0;
            while (back[j] == q->image[j] || (j >= before && j < before + outside)) j++;
            ck_fail(c, "%s was written %lld bytes %s a buffer of %lld bytes", q->b->input ? "an input" : "memory outside the outputs",
                    (long long)(j < before ? before - j : j - before), j < before ? "before" : "from the beginning of", (long long)bytes);
        }
        if (!q->b->input) {
            if (q->first && memcmp(q->first + GUARD + q->at, at, (size_t)bytes)) ck_fail(c, "a second run gives other bits");
            memcpy(q->b->at, at, (size_t)bytes);
        }
        free(q->first);
        q->first = back;
    }
}

static void release(places *all)
{
    for (int i = 0; i < all->n; i++) {
        if (exact) ck_gpu_must(ck_gpu.mem_free(all->p[i].zone + GUARD), "free");
        free(all->p[i].image);
        free(all->p[i].first);
    }
    take(0, 1);
}

/* ---- A run ---- */

static uint64_t sync_words(void)
{
    static uint64_t p;
    if (!p) {
        ck_gpu_must(ck_gpu.mem_alloc(&p, OCT_SYNC_BYTES), "memory");
        ck_gpu_must(ck_gpu.set_bytes(p, 0, OCT_SYNC_BYTES, 0), "memset");
        ck_gpu_must(ck_gpu.ctx_sync(), "memset");
    }
    return p;
}

/* Pointers of a struct: its words that are addresses of buffers. Numbers of the args never are. */
static void move_pointers(ck_case *c, places *all, void *s, int64_t size)
{
    for (int64_t i = 0; i + 8 <= size; i += 8) {
        char *p;
        memcpy(&p, (char *)s + i, 8);
        const uint64_t q = p ? moved(c, all, p) : 0;
        if (q) memcpy((char *)s + i, &q, 8);
    }
}

static void *capture(ck_case *c, const oct_row *row, const void *args, void *full, void *stream, oct_status *s)
{
    void *graph, *exec;
    ck_gpu_must(ck_gpu.capture_begin(stream, 1), "capture");
    *s = oct_op_run_row(c->op->op, row, args, full, 0);
    ck_gpu_must(ck_gpu.capture_end(stream, &graph), "end of the capture");
    ck_gpu_must(ck_gpu.graph_make(&exec, graph, 0), "graph");
    ck_gpu_must(ck_gpu.graph_destroy(graph), "graph");
    return exec;
}

oct_status ck_gpu_run(ck_case *c, const oct_row *row, const void *args, void *moved_args, void *full, int64_t args_size)
{
    static places all;
    void *stream = ck_gpu_open();
    int64_t scratch = 0;
    oct_on on = oct_cuda(0, stream);
    if (!stream) return OCT_E_DEVICE;
    running = c;
    all.n = 0;
    memcpy(moved_args, args, (size_t)args_size);
    oct_on *to = (oct_on *)(void *)((char *)moved_args + c->op->op->on_offset);
    on.flags = c->fp_dirty ? OCT_ON_CHAIN : 0;
    on.sync = (void *)(uintptr_t)sync_words();
    on.sync_bytes = OCT_SYNC_BYTES;
    *to = on;
    OCT_TRY(oct_op_run_row(c->op->op, row, moved_args, full, &scratch));
    if (scratch) on.scratch = ck_scratch(c, scratch, 256), on.scratch_bytes = scratch;
    *to = on;
    /* Host memory is refused before anything runs, unless nothing is read. */
    oct_status s = oct_op_run_row(c->op->op, row, moved_args, full, 0);
    if (s != OCT_OK && s != OCT_E_DEVICE && s != OCT_E_ALIGN) return s;
    s = OCT_OK;
    move_pointers(c, &all, moved_args, args_size);
    if (c->threads) {
        void *exec = capture(c, row, moved_args, full, stream, &s);
        if (s == OCT_OK) {
            send(&all, 1, stream);
            ck_gpu_must(ck_gpu.graph_launch(exec, stream), "graph");
            send(&all, 0, stream);
            ck_gpu_must(ck_gpu.graph_launch(exec, stream), "graph");
            receive(c, &all, stream);
        }
        ck_gpu_must(ck_gpu.exec_destroy(exec), "graph");
    } else
        for (int i = 0; i < 2 && s == OCT_OK; i++) {
            send(&all, 0, stream);
            s = oct_op_run_row(c->op->op, row, moved_args, full, 0);
            if (s == OCT_OK) receive(c, &all, stream);
        }
    if (s == OCT_OK) {
        static char zero[OCT_SYNC_BYTES], got[OCT_SYNC_BYTES];
        ck_gpu_must(ck_gpu.copy_out(got, sync_words(), sizeof got, stream), "sync words");
        ck_gpu_must(ck_gpu.stream_sync(stream), "sync words");
        if (memcmp(got, zero, sizeof got)) ck_fail(c, "on.sync is not left zero");
    }
    release(&all);
    return s;
}
