/* cuda.c - the CUDA driver by dlopen: devices, modules, launches, tensor maps. */
#include "core/cuda.h"
#include "core/cuda_abi.h"
#include "core/kernel.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static struct {
    void *library;
#define F(member, symbol, args) int32_t (*member) args;
    CU_FUNCTIONS(F)
#undef F
} cu;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int32_t driver_state;                     /* 0 not looked yet, 1 here, -1 not here */
static char driver_why[256];                             /* written once, before the state */
static _Atomic int32_t device_state[OCT_CUDA_DEVICES];   /* the same */
static oct_cuda_device devices[OCT_CUDA_DEVICES];
static void *_Atomic contexts[OCT_CUDA_DEVICES];         /* primary, retained by the first that runs something */

/* ---- Errors ---- */

static const char *words(int32_t r)
{
    static _Thread_local char text[200];
    const char *name = 0, *what = 0;
    if (cu.error_name) cu.error_name(r, &name);
    if (cu.error_string) cu.error_string(r, &what);
    snprintf(text, sizeof text, "%s (%d, %s)", what ? what : "unknown error", r, name ? name : "?");
    return text;
}

oct_status oct_cuda_fail(const char *what, int r) { return oct_fail(OCT_E_DEVICE, "%s: %s", what, words(r)); }

/* ---- The driver ---- */

static int find_driver(void)
{
    void *p;
    if (!(cu.library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL))) {
        snprintf(driver_why, sizeof driver_why, "no CUDA driver: libcuda.so.1 was not found");
        return 0;
    }
    /* A dlsym result is copied: ISO C has no cast from a data to a function pointer. */
#define F(member, symbol, args)                                                                                     \
    if (!(p = dlsym(cu.library, symbol))) {                                                                         \
        snprintf(driver_why, sizeof driver_why, "the CUDA driver is too old: it has no " symbol "; 12.0 has");      \
        return 0;                                                                                                   \
    }                                                                                                               \
    memcpy(&cu.member, &p, sizeof p);
    CU_FUNCTIONS(F)
#undef F
    const int32_t r = cu.init(0);
    if (r) snprintf(driver_why, sizeof driver_why, "the CUDA driver does not start: %s", words(r));
    return !r;
}

static int have_driver(void)
{
    int32_t s = atomic_load_explicit(&driver_state, memory_order_acquire);
    if (!s) {
        pthread_mutex_lock(&lock);
        if (!(s = atomic_load(&driver_state))) atomic_store(&driver_state, s = find_driver() ? 1 : -1);
        pthread_mutex_unlock(&lock);
    }
    if (s < 0) oct_fail(OCT_E_DEVICE, "%s", driver_why);
    return s > 0;
}

void *oct_cuda_symbol(const char *name) { return have_driver() ? dlsym(cu.library, name) : 0; }

/* ---- Devices ---- */

static int32_t attribute(int32_t handle, int32_t which)
{
    int32_t v = 0;
    return cu.device_attribute(&v, which, handle) ? 0 : v;
}

static int open_device(int32_t ordinal)
{
    oct_cuda_device d = { .ordinal = ordinal };
    size_t memory = 0;
    int32_t count = 0, r;
    if ((r = cu.device_count(&count))) return oct_cuda_fail("cuDeviceGetCount", r), 0;
    if (ordinal < 0 || ordinal >= count || ordinal >= OCT_CUDA_DEVICES)
        return oct_fail(OCT_E_DEVICE, "there is no CUDA device %d; there are %d", ordinal, count), 0;
    if ((r = cu.device_get(&d.handle, ordinal))) return oct_cuda_fail("cuDeviceGet", r), 0;
    cu.device_name(d.name, (int32_t)sizeof d.name, d.handle);
    cu.driver_version(&d.driver);
    cu.device_memory(&memory, d.handle);
    d.memory = (int64_t)memory;
    d.major = attribute(d.handle, CU_DEV_MAJOR);
    d.minor = attribute(d.handle, CU_DEV_MINOR);
    d.sms = attribute(d.handle, CU_DEV_SMS);
    d.smem = attribute(d.handle, CU_DEV_SMEM_OPTIN);
    d.l2_bytes = attribute(d.handle, CU_DEV_L2);
    d.pageable = attribute(d.handle, CU_DEV_PAGEABLE);
    devices[ordinal] = d;
    return 1;
}

const oct_cuda_device *oct_cuda_open(int32_t ordinal)
{
    if (!have_driver()) return 0;
    const int known = ordinal >= 0 && ordinal < OCT_CUDA_DEVICES;
    if (known && atomic_load_explicit(&device_state[ordinal], memory_order_acquire)) return &devices[ordinal];
    pthread_mutex_lock(&lock);
    int ok = known && atomic_load(&device_state[ordinal]);
    if (!ok && (ok = open_device(ordinal))) atomic_store(&device_state[ordinal], 1);
    pthread_mutex_unlock(&lock);
    return ok ? &devices[ordinal] : 0;
}

uint32_t oct_cuda_features(int32_t ordinal)
{
#if OCT_HAVE_SM90
    const oct_cuda_device *d = oct_cuda_open(ordinal);
    if (!d) return 0;
    if (d->major == 9) return OCT_CUDA_SM90;
    oct_fail(OCT_E_DEVICE, "CUDA device %d (%s) has compute capability %d.%d; this build has kernels for 9.0 (Hopper)", ordinal,
             d->name, d->major, d->minor);
#else
    (void)ordinal;
    oct_fail(OCT_E_DEVICE, "this build has no CUDA kernels: it was made without nvcc");
#endif
    return 0;
}

/* The primary context, or NULL with the error text set. */
static void *context_of(const oct_cuda_device *d)
{
    void *context = atomic_load_explicit(&contexts[d->ordinal], memory_order_acquire);
    if (context) return context;
    pthread_mutex_lock(&lock);
    if (!(context = atomic_load(&contexts[d->ordinal]))) {
        const int32_t r = cu.primary_retain(&context, d->handle);
        if (r) oct_cuda_fail("cuDevicePrimaryCtxRetain", r), context = 0;
        else atomic_store_explicit(&contexts[d->ordinal], context, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    return context;
}

oct_status oct_cuda_enter(const oct_cuda_device *d, int *pushed)
{
    void *now = 0, *context = context_of(d);
    *pushed = 0;
    if (!context) return OCT_E_DEVICE;
    int32_t r = cu.ctx_current(&now);
    if (!r && now == context) return OCT_OK;
    if (!r) r = cu.ctx_push(context);
    if (r) return oct_cuda_fail("cuCtxPushCurrent", r);
    *pushed = 1;
    return OCT_OK;
}

void oct_cuda_leave(int pushed)
{
    void *was;
    if (pushed) cu.ctx_pop(&was);
}

int oct_cuda_readable(const oct_cuda_device *d, const void *p)
{
    int32_t type = 0, attribute_id = CU_PTR_MEMORY_TYPE;
    void *value = &type;
    if (d->pageable) return 1;
    /* Of memory that it does not know the driver says type 0; the entry for one attribute makes it an error of the API. */
    return !cu.pointer_attributes(1, &attribute_id, &value, (uint64_t)(uintptr_t)p) && type != 0;
}

/* ---- Modules ---- */

/* The context is current and the lock is held. Kernels may have all the shared memory that there is. */
static oct_status load(oct_cuda_module *m, const oct_cuda_device *d)
{
    void *module, **f = m->functions[d->ordinal];
    int32_t r = cu.module_load(&module, m->image);
    if (r) return oct_fail(OCT_E_DEVICE, "loading the kernels of %s on %s: %s", m->name, d->name, words(r));
    for (int32_t i = 0; i < m->count && !r; i++) {
        int32_t fixed = 0;
        if ((r = cu.module_function(&f[i], module, m->kernels[i])) || (r = cu.function_get(&fixed, CU_FN_STATIC_SMEM, f[i])) ||
            (r = cu.function_set(f[i], CU_FN_MAX_DYNAMIC_SMEM, d->smem - fixed)))
            oct_fail(OCT_E_DEVICE, "kernel %s of %s: %s", m->kernels[i], m->name, words(r));
    }
    if (r) cu.module_unload(module);
    return r ? OCT_E_DEVICE : OCT_OK;
}

/* Loading is allowed while a stream is being captured: nothing of it goes through a stream. */
static oct_status ensure(oct_cuda_module *m, const oct_cuda_device *d)
{
    oct_status s = OCT_OK;
    if (atomic_load_explicit(&m->loaded[d->ordinal], memory_order_acquire)) return OCT_OK;
    pthread_mutex_lock(&lock);
    if (!atomic_load(&m->loaded[d->ordinal])) {
        int32_t mode = CU_CAPTURE_RELAXED;
        cu.capture_mode(&mode);
        s = load(m, d);
        cu.capture_mode(&mode);
        if (s == OCT_OK) atomic_store_explicit(&m->loaded[d->ordinal], 1, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    return s;
}

oct_status oct_cuda_warm(int32_t device)
{
    if (!oct_cuda_features(device)) return OCT_E_DEVICE;
    oct_status s = OCT_OK;
#if OCT_HAVE_SM90
    static oct_cuda_module *const modules[] = {
#define C(name) &oct_module_##name,
#include "cubins.def"
#undef C
        0
    };
    const oct_cuda_device *d = oct_cuda_open(device);
    int pushed;
    OCT_TRY(oct_cuda_enter(d, &pushed));
    for (int i = 0; modules[i] && s == OCT_OK; i++) s = ensure(modules[i], d);
    oct_cuda_leave(pushed);
#endif
    return s;
}

/* ---- Launches ---- */

oct_status oct_cuda_launch(const oct_on *on, oct_cuda_module *m, int32_t kernel, const oct_cuda_launch_t *l)
{
    if (!l->x) return OCT_OK;
    const int64_t y = l->y ? l->y : 1, z = l->z ? l->z : 1;
    const oct_cuda_device *d = oct_cuda_open(on->device);
    int pushed;
    if (!d) return OCT_E_DEVICE;
    if (l->x > INT32_MAX || y > 65535 || z > 65535)
        return oct_fail(OCT_E_UNSUPPORTED, "%s: m %lld, n %lld, k %lld needs a grid of %lld x %lld x %lld; too large", l->op,
                        (long long)l->m, (long long)l->n, (long long)l->k, (long long)l->x, (long long)y, (long long)z);
    OCT_TRY(oct_cuda_enter(d, &pushed));
    oct_status s = ensure(m, d);
    if (s == OCT_OK) {
        cu_attribute at[2] = { { .id = 0 } };
        uint32_t n = 0;
        if (l->cluster > 1) {
            at[n].id = CU_AT_CLUSTER;
            at[n].value.cluster.x = (uint32_t)l->cluster;
            at[n].value.cluster.y = at[n].value.cluster.z = 1;
            n++;
        }
        if (on->flags & OCT_ON_CHAIN) {
            at[n].id = CU_AT_PROGRAMMATIC;
            at[n++].value.flag = 1;
        }
        const cu_config config = { (uint32_t)l->x, (uint32_t)y, (uint32_t)z, (uint32_t)l->threads, 1, 1, (uint32_t)l->smem,
                                   on->stream, at, n };
        void *params[1];
        memcpy(params, &l->params, sizeof params); /* the driver takes it without const, and only reads */
        const int32_t r = cu.launch(&config, m->functions[d->ordinal][kernel], params, 0);
        if (r)
            s = oct_fail(OCT_E_DEVICE, "%s: launch of %s on device %d (m %lld, n %lld, k %lld; %lld x %lld x %lld CTAs of %d): %s",
                         l->op, m->kernels[kernel], d->ordinal, (long long)l->m, (long long)l->n, (long long)l->k,
                         (long long)l->x, (long long)y, (long long)z, l->threads, words(r));
    }
    oct_cuda_leave(pushed);
    return s;
}

/* ---- Tensor maps ---- */

oct_status oct_cuda_tensor_map(const char *op, oct_tensor_map *map, const oct_tensor_map_spec *s)
{
    enum { UINT8 = 0, FLOAT32 = 7, BFLOAT16 = 9, PROMOTE_256 = 3 };
    uint64_t dims[5], strides[4];
    uint32_t box[5], steps[5];
    void *base;
    for (int i = 0; i < s->rank; i++) {
        dims[i] = (uint64_t)s->dims[i];
        box[i] = (uint32_t)s->box[i];
        steps[i] = 1;
        if (i) strides[i - 1] = (uint64_t)s->strides_bytes[i - 1];
    }
    memcpy(&base, &s->base, sizeof base);
    if (!have_driver()) return OCT_E_DEVICE;
    const int32_t r = cu.tensor_map(map->words, s->dtype == OCT_F32 ? FLOAT32 : s->dtype == OCT_BF16 ? BFLOAT16 : UINT8,
                                    (uint32_t)s->rank, base, dims, strides, box, steps, 0, s->swizzle, PROMOTE_256, 0);
    if (r)
        return oct_fail(OCT_E_DEVICE, "%s: tensor map of rank %d, %lld x %lld, box %d x %d, row stride %lld bytes: %s", op, s->rank,
                        (long long)s->dims[0], (long long)s->dims[1], s->box[0], s->box[1], (long long)s->strides_bytes[0],
                        words(r));
    return OCT_OK;
}

/* ---- The public part ---- */

oct_status oct_cuda_info(int32_t device, oct_cuda_info_t *info)
{
    if (!info) return oct_fail(OCT_E_NULL, "cuda_info: info is NULL");
    memset(info, 0, sizeof *info);
    info->built_in = OCT_HAVE_SM90;
    const oct_cuda_device *d = oct_cuda_open(device);
    if (!d) return OCT_E_DEVICE;
    memcpy(info->name, d->name, sizeof info->name);
    info->driver = d->driver;
    info->major = d->major;
    info->minor = d->minor;
    info->sms = d->sms;
    info->memory = d->memory;
    info->l2_bytes = d->l2_bytes;
    info->runs_here = oct_cuda_features(device) != 0;
    return OCT_OK;
}
