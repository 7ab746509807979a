/* where.c - where an operator runs: device, stream or threads, scratch, and single numbers on that device. */
#include "shim.h"
#include <pthread.h>
#include <string.h>


bool on_cuda(const call *c) { return c->first.device_type == torch.aoti_torch_device_type_cuda(); }

static void *current_stream(call *c)
{
    void *stream = 0;
    if (!torch.aoti_torch_get_current_cuda_stream || torch.aoti_torch_get_current_cuda_stream(c->first.device, &stream))
        fail(c, "torch does not say its current stream on device %d", c->first.device);
    return stream;
}

const float *new_filled(call *c, int64_t n, float value)
{
    const tensor t = new_temporary(c, 1, &n, OCT_F32);
    if (!ok(c)) return 0;
    if (!on_cuda(c)) {
        for (int64_t i = 0; i < n; i++) ((float *)t.data)[i] = value;
        return t.data;
    }
    /* A memset of the driver: it needs no host memory to live on, so that it captures into a graph. */
    uint32_t bits;
    handle guard = 0;
    void *stream = current_stream(c);
    memcpy(&bits, &value, sizeof bits);
    if (ok(c) && torch.aoti_torch_create_device_guard(c->first.device, &guard)) fail(c, "device %d cannot be selected", c->first.device);
    if (ok(c) && n && (!torch.cuMemsetD32Async || torch.cuMemsetD32Async((uintptr_t)t.data, bits, (size_t)n, stream)))
        fail(c, "the CUDA driver cannot write to device %d", c->first.device);
    if (guard) torch.aoti_torch_delete_device_guard(guard);
    return t.data;
}

const float *one(call *c)
{
    static const float value = 1;
    return on_cuda(c) ? new_filled(c, 1, value) : &value;
}

const float *as_scalar(call *c, const tensor *t)
{
    if (!t->h || !ok(c)) return 0;
    NEED(c, *t, t->dtype == OCT_F32 && t->count == 1, "must be one float32");
    if (!ok(c)) return 0;
    if (t->device_type == c->first.device_type && t->device == c->first.device) return t->data;
    if (t->device == -1) return new_filled(c, 1, *(const float *)t->data);
    const tensor here = new_temporary(c, t->ndim, t->size, OCT_F32);
    copy(c, &here, t);
    return here.data;
}

/* The CPU's loops run on torch's own threads. */
typedef struct loop {
    oct_body *body;
    void *arg;
} loop;

static void run_range(int64_t begin, int64_t end, void *p)
{
    const loop *l = p;
    for (int64_t i = begin; i < end; i++) l->body(l->arg, i);
}

static void on_torch_threads(void *ctx, int64_t n, oct_body *body, void *arg)
{
    (void)ctx;
    loop l = { body, arg };
    torch.torch_parallel_for(0, n, 1, run_range, &l);
}

/* Counters that ops on one stream share: zeroed once, kept for the life of the process. Where a graph is being captured the
 * memory belongs to the graph, which has to zero it itself. */
static void call_sync(call *c, oct_on *on)
{
    static struct {
        int32_t device;
        void *stream, *p;
    } kept[64];
    static int count;
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    const int64_t bytes = OCT_SYNC_BYTES;
    int capturing = 0, i = 0;
    if (!ok(c)) return;
    if (torch.cuStreamIsCapturing && torch.cuStreamIsCapturing(on->stream, &capturing)) capturing = 0;
    pthread_mutex_lock(&lock);
    while (i < count && (kept[i].device != on->device || kept[i].stream != on->stream)) i++;
    if (i < count && !capturing) on->sync = kept[i].p;
    else {
        const tensor t = new_temporary(c, 1, &bytes, OCT_U8);
        zero(c, &t);
        on->sync = t.data;
        if (ok(c) && !capturing && count < (int)(sizeof kept / sizeof *kept)) {
            c->held_count--; /* not freed with the call */
            kept[count].device = on->device;
            kept[count].stream = on->stream;
            kept[count++].p = t.data;
        }
    }
    pthread_mutex_unlock(&lock);
    on->sync_bytes = bytes;
}

oct_on call_on(call *c)
{
    oct_on on = oct_cpu();
    if (!on_cuda(c)) {
        on.parallel_for = on_torch_threads;
        return on;
    }
    on = oct_cuda(c->first.device, current_stream(c));
    call_sync(c, &on);
    return on;
}

void call_scratch(call *c, oct_on *on, int64_t bytes)
{
    if (bytes <= 0 || !ok(c)) return; /* what is wrong with the arguments, the op itself will say */
    const tensor t = new_temporary(c, 1, &bytes, OCT_U8);
    on->scratch = t.data;
    on->scratch_bytes = bytes;
}
