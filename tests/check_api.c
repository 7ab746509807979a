/* check_api.c - the public interface as a caller meets it: bad arguments give the documented status and a text that
 * helps, nothing is written after an error, and what octavo.h says of every op holds. Linked with liboctavo.so. */
#define _GNU_SOURCE
#include "api.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int passed, failed;

void api_expect(int ok, const char *fmt, ...)
{
    va_list ap;
    if (ok) {
        passed++;
        return;
    }
    failed++;
    printf("FAIL ");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

void *api_mem(api_arena *m, int64_t bytes)
{
    unsigned char *p = m->at + m->used;
    for (int64_t i = 0; i < bytes; i++) p[i] = (unsigned char)(0x30 + i * 7 % 11);
    m->used += (bytes + 63) / 64 * 64;
    if (m->used > (int64_t)sizeof m->at) {
        printf("FAIL the arena is too small\n");
        _exit(1);
    }
    return p;
}

const api_op *api_find(const char *name)
{
    for (int i = 0; i < api_op_count; i++)
        if (!strcmp(api_ops[i].name, name)) return &api_ops[i];
    return 0;
}

/* ---- Calls ---- */

typedef union any_args {
    int64_t size;
    unsigned char bytes[1024];
} any_args;

static _Alignas(64) unsigned char scratch_mem[1 << 22];

static oct_on *on_of(const api_op *op, any_args *a) { return (oct_on *)(void *)(a->bytes + op->on); }

/* A good call with the scratch that it asks for. */
static any_args good(const api_op *op, api_arena *m)
{
    any_args a;
    memset(&a, 0, sizeof a);
    m->used = 0;
    op->good(&a, m);
    a.size = op->size;
    const int64_t need = op->scratch(&a);
    api_expect(need >= 0 && need <= (int64_t)sizeof scratch_mem, "%s: scratch of a good call is %lld (%s)", op->name,
               (long long)need, oct_error_text());
    if (need > 0) {
        on_of(op, &a)->scratch = scratch_mem;
        on_of(op, &a)->scratch_bytes = need;
    }
    return a;
}

static int holds(const char *text, const char *const *parts)
{
    for (; *parts; parts++)
        if (!strstr(text, *parts)) return 0;
    return 1;
}

void api_accept(const api_op *op, const void *args, const char *what)
{
    char why[64] = "x";
    any_args a;
    memset(&a, 0, sizeof a); /* behind a larger struct's known part there are zeros */
    memcpy(&a, args, (size_t)op->size);
    const int64_t need = op->scratch(args);
    if (need > 0 && need <= (int64_t)sizeof scratch_mem) {
        on_of(op, &a)->scratch = scratch_mem;
        on_of(op, &a)->scratch_bytes = need;
    }
    const oct_status c = op->check(&a, why, sizeof why), s = op->run(&a);
    api_expect(c == OCT_OK && !why[0] && s == OCT_OK, "%s, %s: check %d, run %d: %s", op->name, what, c, s, oct_error_text());
}

static struct { int calls; char op[32], kernel[64]; oct_status s; } traced;
static void on_trace(void *ctx, const char *op, const char *kernel, oct_status s)
{
    traced.calls += ctx == (void *)&traced;
    traced.s = s;
    snprintf(traced.op, sizeof traced.op, "%s", op);
    snprintf(traced.kernel, sizeof traced.kernel, "%s", kernel);
}

void api_refuse(const api_op *op, const void *args, api_arena *m, oct_status want, int pointers, const char *const *parts)
{
    static api_arena before;
    char why[512] = "", text[512] = "";
    memcpy(before.at, m->at, (size_t)m->used);
    traced.calls = 0;
    const oct_status s = op->run(args);
    snprintf(text, sizeof text, "%s", oct_error_text());
    api_expect(s == want, "%s, %s: run gives %d, want %d: %s", op->name, parts[0], s, want, text);
    api_expect(!memcmp(before.at, m->at, (size_t)m->used), "%s, %s: memory was written though it failed", op->name, parts[0]);
    api_expect(!strncmp(text, op->name, strlen(op->name)) && text[strlen(op->name)] == ':', "%s: the text does not begin with the op: %s",
               op->name, text);
    api_expect(holds(text, parts), "%s: the text lacks one of '%s', '%s': %s", op->name, parts[0], parts[1] ? parts[1] : "", text);
    api_expect(traced.calls == 1 && traced.s == want && !strcmp(traced.op, op->name), "%s, %s: trace of the failure", op->name, parts[0]);
    if (pointers) want = OCT_OK; /* a shape can be asked about before there are buffers */
    api_expect(op->check(args, why, sizeof why) == want, "%s, %s: check gives another status than %d", op->name, parts[0], want);
    api_expect(want ? !strcmp(why, text) : !why[0], "%s, %s: check says: %s", op->name, parts[0], why);
    api_expect(op->choice(args, why, sizeof why) == want, "%s, %s: choice gives another status than %d", op->name, parts[0], want);
    const int64_t need = op->scratch(args);
    api_expect(want ? need == want : need >= 0, "%s, %s: scratch gives %lld", op->name, parts[0], (long long)need);
}

static void refuse(const api_op *op, const any_args *a, api_arena *m, oct_status want, int pointers, const char *part, long long value)
{
    char number[32];
    snprintf(number, sizeof number, "%lld", value);
    const char *const parts[] = { part, pointers ? 0 : number, 0 };
    api_refuse(op, a, m, want, pointers, parts);
}

/* ---- Every field with its bad values ---- */

static void set32(any_args *a, size_t at, int64_t v) { const int32_t x = (int32_t)v; memcpy(a->bytes + at, &x, sizeof x); }
static void set64(any_args *a, size_t at, int64_t v) { memcpy(a->bytes + at, &v, sizeof v); }
static void set_ptr(any_args *a, size_t at, uintptr_t v) { memcpy(a->bytes + at, &v, sizeof v); }
static uintptr_t get_ptr(const any_args *a, size_t at) { uintptr_t v; memcpy(&v, a->bytes + at, sizeof v); return v; }

static const int64_t odd_values[] = { INT32_MIN, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 31, 32, 100, INT32_MAX };
enum { ODD = sizeof odd_values / sizeof *odd_values };

static void check_field(const api_op *op, const api_field *f, api_arena *m)
{
    const any_args ok = good(op, m);
    any_args a;
    switch (f->kind) {
    case API_DTYPE:
        for (int i = 0; i < ODD; i++) {
            const int64_t v = odd_values[i];
            if (v >= 0 && v < 63 && f->a >> v & 1) continue;
            set32((a = ok, &a), f->at, v);
            refuse(op, &a, m, OCT_E_DTYPE, 0, f->name, v);
            const char *const parts[] = { f->name, "supported: ", oct_dtype_str((int32_t)v), 0 };
            api_refuse(op, &a, m, OCT_E_DTYPE, 0, parts);
        }
        break;
    case API_CHOICE:
        for (int i = 0; i < ODD; i++) {
            const int64_t v = odd_values[i];
            set32((a = ok, &a), f->at, v);
            const char *const parts[] = { f->name, "supported: ", 0 };
            if (v < 0 || v >= f->a) {
                refuse(op, &a, m, OCT_E_VALUE, 0, f->name, v);
                api_refuse(op, &a, m, OCT_E_VALUE, 0, parts);
            } else if (f->b >> v & 1)
                api_refuse(op, &a, m, OCT_E_UNSUPPORTED, 0, parts);
        }
        break;
    case API_FLAGS:
        for (int bit = 0; bit < 32; bit++)
            if (!(f->a >> bit & 1)) {
                set32((a = ok, &a), f->at, (int64_t)(1u << bit));
                const char *const parts[] = { f->name, 0 };
                api_refuse(op, &a, m, f->b >> bit & 1 ? OCT_E_UNSUPPORTED : OCT_E_VALUE, 0, parts);
            }
        break;
    case API_EXTENT: {
        const int64_t bad[] = { f->a - 1, f->a - 2, -77, INT32_MIN, INT64_MIN };
        for (int i = 0; i < 5; i++)
            if (bad[i]) { /* 0 means a default where 1 is the least */
                set64((a = ok, &a), f->at, bad[i]);
                refuse(op, &a, m, OCT_E_SHAPE, 0, f->name, bad[i]);
            }
        if (f->b) {
            const int64_t huge[] = { INT64_MAX, INT64_MAX / 2 + 1 };
            for (int i = 0; i < 2; i++) {
                set64((a = ok, &a), f->at, huge[i]);
                const char *const parts[] = { "", 0 };
                api_refuse(op, &a, m, OCT_E_SHAPE, 0, parts);
            }
        }
        break;
    }
    case API_STRIDE: {
        const int64_t bad[] = { f->a - 1, 1, -1, -2, INT64_MIN, INT64_MAX };
        for (int i = 0; i < 6; i++) {
            if (!bad[i] || (f->b && bad[i] == -1) || (bad[i] == 1 && f->a <= 1)) continue;
            set64((a = ok, &a), f->at, bad[i]);
            const char *const parts[] = { f->name, 0 };
            api_refuse(op, &a, m, OCT_E_SHAPE, 0, parts);
        }
        set64((a = ok, &a), f->at, f->a);
        api_accept(op, &a, f->name);
        break;
    }
    case API_PTR:
        set_ptr((a = ok, &a), f->at, 0);
        if (f->b) refuse(op, &a, m, OCT_E_NULL, 1, f->name, 0);
        for (int64_t off = 1; off < f->a; off *= 2) {
            set_ptr((a = ok, &a), f->at, get_ptr(&ok, f->at) + (uintptr_t)off);
            refuse(op, &a, m, OCT_E_ALIGN, 1, f->name, 0);
        }
        break;
    case API_PTR_NOT_YET:
    case API_I64_NOT_YET:
    case API_I32_NOT_YET: {
        const char *const parts[] = { f->name, "not", 0 };
        a = ok;
        if (f->kind == API_PTR_NOT_YET) set_ptr(&a, f->at, (uintptr_t)scratch_mem);
        else if (f->kind == API_I64_NOT_YET) set64(&a, f->at, 1);
        else set32(&a, f->at, 1);
        api_refuse(op, &a, m, OCT_E_UNSUPPORTED, 0, parts);
    }
    }
}

/* ---- What holds for every op ---- */

static void check_size(const api_op *op, api_arena *m)
{
    const any_args ok = good(op, m);
    const int64_t bad[] = { 0, 1, 7, op->size - 4, -8, INT64_MIN, INT64_MAX };
    any_args a;
    const char *const null_parts[] = { "args is NULL", 0 };
    api_refuse(op, 0, m, OCT_E_NULL, 0, null_parts);
    for (int i = 0; i < 7; i++) {
        a = ok, a.size = bad[i];
        refuse(op, &a, m, OCT_E_VALUE, 0, "args.size", bad[i]);
    }
    a = ok, a.size = op->size + 24; /* a newer caller, whose new fields are zero */
    api_accept(op, &a, "a larger struct with a zero tail");
    a.bytes[op->size + 23] = 1;
    refuse(op, &a, m, OCT_E_UNSUPPORTED, 0, "newer struct", op->size + 24);

    /* An older caller: nothing behind its struct is read. The struct ends at an unmapped page. */
    const int64_t page = sysconf(_SC_PAGESIZE);
    unsigned char *two = mmap(0, (size_t)(2 * page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(two + page, (size_t)page, PROT_NONE);
    for (int64_t size = 8; size <= op->size; size += 8) {
        char why[256];
        a = ok, a.size = size;
        unsigned char *old = two + page - size;
        memcpy(old, &a, (size_t)size);
        memset(a.bytes + size, 0, sizeof a - (size_t)size); /* the same, written out */
        a.size = op->size;
        const oct_status s = op->check(&a, 0, 0);
        api_expect(op->check(old, why, sizeof why) == s && op->scratch(old) == op->scratch(&a),
                   "%s: a struct of %lld bytes is not read as zero-filled", op->name, (long long)size);
        if (size >= op->reserved)
            api_expect(op->run(old) == OCT_OK, "%s: an older struct of %lld bytes: %s", op->name, (long long)size, oct_error_text());
    }
    munmap(two, (size_t)(2 * page));
}

static void check_on(const api_op *op, api_arena *m)
{
    const any_args ok = good(op, m);
    const int32_t devices[] = { OCT_HIP, 3, -1, INT32_MAX };
    any_args a;
    for (int i = 0; i < 4; i++) {
        on_of(op, (a = ok, &a))->device_type = devices[i];
        refuse(op, &a, m, OCT_E_UNSUPPORTED, 0, "device_type", devices[i]);
    }
    /* Host memory never reaches a kernel: there is no kernel, no GPU, or the pointers are refused. */
    on_of(op, (a = ok, &a))->device_type = OCT_CUDA;
    const oct_status cuda = op->run(&a);
    api_expect((cuda == OCT_E_UNSUPPORTED || cuda == OCT_E_DEVICE) && !strncmp(oct_error_text(), op->name, strlen(op->name)),
               "%s on a GPU with host memory gives %d: %s", op->name, cuda, oct_error_text());
    on_of(op, (a = ok, &a))->device_type = OCT_CUDA;
    on_of(op, &a)->device = 1000;
    const oct_status none = op->run(&a);
    api_expect(none == OCT_E_UNSUPPORTED || none == OCT_E_DEVICE, "%s on device 1000 gives %d", op->name, none);
    on_of(op, (a = ok, &a))->threads = -1;
    refuse(op, &a, m, OCT_E_VALUE, 0, "on.threads", -1);
    const char *const reserved[] = { "reserved", 0 };
    on_of(op, (a = ok, &a))->flags = 2;
    refuse(op, &a, m, OCT_E_VALUE, 0, "on.flags", 2);
    for (int i = 0; i < 4; i++) {
        on_of(op, (a = ok, &a))->reserved[i] = -1;
        api_refuse(op, &a, m, OCT_E_UNSUPPORTED, 0, reserved);
        set64((a = ok, &a), (size_t)(op->reserved + 8 * i), 1);
        api_refuse(op, &a, m, OCT_E_UNSUPPORTED, 0, reserved);
    }
    const int64_t need = on_of(op, (a = ok, &a))->scratch_bytes;
    if (!need) return;
    on_of(op, &a)->scratch = 0;
    refuse(op, &a, m, OCT_E_SCRATCH, 1, "on.scratch", 0);
    (a = ok), on_of(op, &a)->scratch_bytes = need - 1;
    refuse(op, &a, m, OCT_E_SCRATCH, 1, "on.scratch", 0);
    (a = ok), on_of(op, &a)->scratch_bytes = -1;
    refuse(op, &a, m, OCT_E_SCRATCH, 1, "on.scratch", 0);
    for (int off = 1; off < 64; off *= 2) {
        (a = ok), on_of(op, &a)->scratch = scratch_mem + off;
        refuse(op, &a, m, OCT_E_ALIGN, 1, "on.scratch", 0);
    }
}

/* Before there are buffers: check, choice and scratch answer from shapes alone. */
static void check_dry(const api_op *op, api_arena *m)
{
    char text[512], dry_text[512];
    const any_args ok = good(op, m);
    any_args a = ok;
    for (int i = 0; i < op->field_count; i++)
        if (op->fields[i].kind == API_PTR) set_ptr(&a, op->fields[i].at, 0);
    on_of(op, &a)->scratch = 0;
    on_of(op, &a)->scratch_bytes = 0;
    api_expect(op->check(&a, text, sizeof text) == OCT_OK && !text[0], "%s: check without buffers: %s", op->name, text);
    api_expect(op->choice(&ok, text, sizeof text) == OCT_OK && op->choice(&a, dry_text, sizeof dry_text) == OCT_OK &&
                   !strcmp(text, dry_text), "%s: choice without buffers: %s; with: %s", op->name, dry_text, text);
    api_expect(op->scratch(&a) == op->scratch(&ok), "%s: scratch depends on the buffers", op->name);

    /* The texts fit any buffer. */
    api_expect(op->check(&a, 0, 0) == OCT_OK && op->choice(&a, 0, 0) == OCT_OK, "%s: check or choice without room for a text", op->name);
    memset(dry_text, 'x', sizeof dry_text);
    op->choice(&a, dry_text, 4);
    api_expect(!strncmp(dry_text, "oct", 4) && dry_text[4] == 'x', "%s: choice into 4 bytes", op->name);
    memset(dry_text, 'x', sizeof dry_text);
    op->check(&a, dry_text, 0), op->choice(&a, dry_text, -1);
    api_expect(dry_text[0] == 'x', "%s: a text was written into 0 bytes", op->name);
}

static void check_choice(const api_op *op, api_arena *m)
{
    char text[512], name[64];
    const any_args a = good(op, m);
    api_expect(op->choice(&a, text, sizeof text) == OCT_OK, "%s: choice: %s", op->name, text);
    api_expect(op->run(&a) == OCT_OK && traced.s == OCT_OK, "%s: a good call: %s", op->name, oct_error_text());
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text, ";"), text);
    api_expect(!strcmp(name, traced.kernel), "%s: choice names %s, the trace %s", op->name, name, traced.kernel);
    int found = 0;
    oct_kernel_info_t info;
    for (int i = 0; oct_kernel_info(i, &info) == OCT_OK; i++) found += !strcmp(info.name, name) && !strcmp(info.op, op->name);
    api_expect(found == 1, "%s: choice names %s, which kernel_info lacks", op->name, name);

    oct_cpu_mask(0);
    api_expect(oct_cpu_features() == 0, "cpu_features after masking everything");
    op->choice(&a, text, sizeof text);
    snprintf(name, sizeof name, "oct_%s_ref", op->name);
    api_expect(!strncmp(text, name, strlen(name)), "%s: choice with everything masked: %s", op->name, text);
    if (text[strlen(name)]) api_expect(strstr(text, "; not oct_") && strstr(text, "this CPU lacks it"), "%s: choice gives no reason: %s", op->name, text);
    any_args masked = a;
    on_of(op, &masked)->scratch = scratch_mem;
    on_of(op, &masked)->scratch_bytes = sizeof scratch_mem;
    api_expect(op->run(&masked) == OCT_OK && !strcmp(traced.kernel, name), "%s: masked, %s ran: %s", op->name, traced.kernel, oct_error_text());
    oct_cpu_mask(~0u);
}

static void check_reference_rows(const api_op *op)
{
    oct_kernel_info_t info, last = { 0 };
    for (int i = 0; oct_kernel_info(i, &info) == OCT_OK; i++)
        if (!strcmp(info.op, op->name)) last = info;
    api_expect(last.backend && !strcmp(last.backend, "ref") && last.runs_here == 1 && !strcmp(last.needs, ""),
               "%s: the last row is not a reference that runs anywhere", op->name);
}

/* ---- Threads ---- */

static struct { int calls; int64_t n; } pooled;
static void backward(void *ctx, int64_t n, oct_body *body, void *arg)
{
    pooled.calls += ctx == (void *)&pooled;
    pooled.n += n;
    while (n--) body(arg, n);
}

static void check_threads(const api_op *op)
{
    static api_arena base, other;
    any_args a = good(op, &base);
    on_of(op, &a)->threads = 1;
    on_of(op, &a)->parallel_for = backward;
    on_of(op, &a)->ctx = &pooled;
    pooled.calls = 0;
    api_expect(op->run(&a) == OCT_OK && !pooled.calls, "%s: on.threads 1 does not mean the calling thread", op->name);
    for (int32_t threads = 0; threads <= 8; threads = threads ? 2 * threads : 2) {
        any_args b = good(op, &other);
        on_of(op, &b)->threads = threads;
        api_expect(op->run(&b) == OCT_OK && !memcmp(base.at, other.at, sizeof base.at), "%s: %d threads give other bits than one",
                   op->name, threads);
    }
    any_args b = good(op, &other);
    on_of(op, &b)->parallel_for = backward;
    on_of(op, &b)->ctx = &pooled;
    api_expect(op->run(&b) == OCT_OK && pooled.calls > 0 && pooled.n > pooled.calls,
               "%s: the caller's parallel_for was called %d times for %lld tasks", op->name, pooled.calls, (long long)pooled.n);
    api_expect(!memcmp(base.at, other.at, sizeof base.at), "%s: the caller's parallel_for gives other bits", op->name);
}

/* Several threads use the library at once: each has its own error text, and all compute the same. */
enum { CALLERS = 4, ROUNDS = 3 };
typedef struct caller {
    pthread_t thread;
    int id, wrong;
    api_arena arena;
    _Alignas(64) unsigned char scratch[1 << 20];
} caller;
static caller callers[CALLERS];

static void *call(void *p)
{
    caller *c = p;
    char want[64];
    snprintf(want, sizeof want, "device_type %d", 100 + c->id);
    c->wrong += oct_error_text()[0] != 0;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < api_op_count; i++) {
            const api_op *op = &api_ops[i];
            any_args a;
            memset(&a, 0, sizeof a);
            c->arena.used = 0;
            op->good(&a, &c->arena);
            a.size = op->size;
            on_of(op, &a)->threads = 1;
            on_of(op, &a)->scratch = c->scratch;
            on_of(op, &a)->scratch_bytes = sizeof c->scratch;
            c->wrong += op->run(&a) != OCT_OK;
            on_of(op, &a)->device_type = 100 + c->id;
            c->wrong += op->run(&a) != OCT_E_UNSUPPORTED || !strstr(oct_error_text(), want);
        }
    return 0;
}

static void check_callers(void)
{
    oct_set_trace(0, 0);
    for (int i = 0; i < CALLERS; i++) {
        callers[i].id = i;
        pthread_create(&callers[i].thread, 0, call, &callers[i]);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, 0);
        api_expect(!callers[i].wrong, "thread %d: %d calls went wrong, or show another thread's error", i, callers[i].wrong);
        api_expect(!memcmp(callers[i].arena.at, callers[0].arena.at, sizeof callers[0].arena.at), "thread %d computed other bits", i);
    }
    oct_set_trace(on_trace, &traced);
}

/* ---- The caller's floating-point environment ---- */

#if defined(__x86_64__)
#include <xmmintrin.h>
static uint32_t worker_csr;
static void dirty_pool(void *ctx, int64_t n, oct_body *body, void *arg)
{
    (void)ctx;
    for (int64_t i = 0; i < n; i++) {
        _mm_setcsr(0xffc0); /* FTZ, DAZ, round toward zero */
        body(arg, i);
        worker_csr |= _mm_getcsr() ^ 0xffc0;
    }
    _mm_setcsr(0x1f80);
}

static void check_environment(const api_op *op)
{
    static api_arena clean, dirty;
    const uint32_t odd[] = { 0x9fc0, 0x5f80, 0x3f80, 0x7f80 }; /* FTZ DAZ; up; down; toward zero */
    any_args a = good(op, &clean);
    op->run(&a);
    for (int i = 0; i < 4; i++) {
        a = good(op, &dirty);
        const uint32_t saved = _mm_getcsr();
        _mm_setcsr(odd[i]);
        const oct_status s = op->run(&a);
        on_of(op, &a)->threads = -1;
        op->run(&a);
        const uint32_t after = _mm_getcsr();
        _mm_setcsr(saved);
        api_expect(s == OCT_OK && (after & ~0x3fu) == (odd[i] & ~0x3fu), "%s: MXCSR was %x and came back as %x", op->name, odd[i], after);
        api_expect(!memcmp(clean.at, dirty.at, sizeof clean.at), "%s: MXCSR %x changes the result", op->name, odd[i]);
    }
    a = good(op, &dirty);
    on_of(op, &a)->parallel_for = dirty_pool;
    worker_csr = 0;
    api_expect(op->run(&a) == OCT_OK && !(worker_csr & ~0x3fu), "%s: a worker's MXCSR does not come back", op->name);
    api_expect(!memcmp(clean.at, dirty.at, sizeof clean.at), "%s: a worker's MXCSR changes the result", op->name);
}
#else
static void check_environment(const api_op *op) { (void)op; }
#endif

/* ---- The rest of octavo.h ---- */

static void check_words(void)
{
    static const struct { int32_t dtype; const char *name; int32_t bits; } dtypes[] = {
        { OCT_F32, "f32", 32 }, { OCT_F16, "f16", 16 }, { OCT_BF16, "bf16", 16 }, { OCT_F8E4M3FN, "f8e4m3fn", 8 },
        { OCT_F8E4M3FNUZ, "f8e4m3fnuz", 8 }, { OCT_F8E5M2, "f8e5m2", 8 }, { OCT_F8E5M2FNUZ, "f8e5m2fnuz", 8 },
        { OCT_F8E8M0FNU, "f8e8m0fnu", 8 }, { OCT_F4E2M1FN, "f4e2m1fn", 4 }, { OCT_I8, "i8", 8 }, { OCT_I4, "i4", 4 },
        { OCT_U8, "u8", 8 }, { OCT_I32, "i32", 32 }, { 0, "?", 0 }, { -1, "?", 0 }, { 14, "?", 0 }, { INT32_MAX, "?", 0 } };
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        api_expect(!strcmp(oct_dtype_str(dtypes[i].dtype), dtypes[i].name) && oct_dtype_bits(dtypes[i].dtype) == dtypes[i].bits,
                   "dtype %d", dtypes[i].dtype);
    for (oct_status s = OCT_E_VALUE; s <= OCT_OK; s++)
        for (oct_status t = OCT_E_VALUE; t <= OCT_OK; t++)
            api_expect(oct_status_str(s)[0] && (s == t) == !strcmp(oct_status_str(s), oct_status_str(t)), "status %d and %d", s, t);
    api_expect(!strcmp(oct_status_str(-99), "unknown status") && !strcmp(oct_status_str(1), "unknown status"), "unknown status");
    api_expect(!strcmp(oct_version(), OCT_VERSION), "version is %s", oct_version());
}

static void check_table(void)
{
    oct_kernel_info_t info = { 0 };
    const int32_t n = oct_kernel_count(), bad[] = { -1, n, INT32_MAX, INT32_MIN };
    api_expect(n > 0, "no kernels");
    for (int i = 0; i < 4; i++) {
        char number[32];
        snprintf(number, sizeof number, "%d", bad[i]);
        api_expect(oct_kernel_info(bad[i], &info) == OCT_E_VALUE && strstr(oct_error_text(), number) && !info.op, "kernel_info(%d)", bad[i]);
    }
    api_expect(oct_kernel_info(0, 0) == OCT_E_NULL, "kernel_info without info");
    for (int32_t i = 0; i < n; i++) {
        api_expect(oct_kernel_info(i, &info) == OCT_OK && info.op && info.name && info.backend && info.needs, "kernel_info(%d)", i);
        api_expect(api_find(info.op) != 0, "op %s has no entry in tests/api_ops.c", info.op);
        oct_cpu_mask(0);
        oct_kernel_info(i, &info);
        api_expect(info.runs_here == !info.needs[0] || !strcmp(info.needs, "sm90"), "%s: runs_here with everything masked", info.name);
        oct_cpu_mask(~0u);
    }
}

static void check_kv(void)
{
    const oct_kv ok = { .size = sizeof ok, .format = OCT_KV_BF16, .heads = 2, .d = 8, .pages = 3, .page_size = 4 };
    static const struct { int32_t format, groups; int64_t d, row; } rows[] = {
        { OCT_KV_BF16, 0, 8, 16 }, { OCT_KV_BF16, 0, 128, 256 }, { OCT_KV_F8_TOKEN, 0, 8, 12 }, { OCT_KV_F8_TOKEN, 0, 128, 132 },
        { OCT_KV_F8_TOKEN, 0, 6, 10 }, { OCT_KV_I4, 0, 8, 8 }, { OCT_KV_I4, 1, 128, 68 }, { OCT_KV_I4, 2, 128, 72 },
        { OCT_KV_I4, 4, 128, 80 }, { OCT_KV_I4, 8, 128, 96 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        oct_kv kv = ok;
        kv.format = rows[i].format; kv.groups = rows[i].groups; kv.d = rows[i].d;
        api_expect(oct_kv_row_bytes(&kv) == rows[i].row && oct_kv_bytes(&kv) == 3 * 4 * 2 * rows[i].row, "kv row %zu: %lld, all %lld", i,
                   (long long)oct_kv_row_bytes(&kv), (long long)oct_kv_bytes(&kv));
    }
    oct_kv strided = ok;
    strided.head_bytes = 20; strided.token_bytes = 64; strided.page_bytes = 300;
    api_expect(oct_kv_row_bytes(&strided) == 16 && oct_kv_bytes(&strided) == 900, "kv with strides: %lld", (long long)oct_kv_bytes(&strided));
    oct_kv heads_first = ok; /* 2 heads, 4 tokens a page */
    heads_first.token_bytes = 16; heads_first.head_bytes = 64;
    api_expect(oct_kv_row_bytes(&heads_first) == 16 && oct_kv_bytes(&heads_first) == 3 * 128, "kv, heads first: %lld", (long long)oct_kv_bytes(&heads_first));
    heads_first.token_bytes = 18; heads_first.head_bytes = 80; heads_first.page_bytes = 170;
    api_expect(oct_kv_bytes(&heads_first) == 510, "kv, heads first, apart: %lld", (long long)oct_kv_bytes(&heads_first));
    oct_kv newer[2] = { ok };
    newer[0].size = sizeof newer;
    api_expect(oct_kv_row_bytes(newer) == 16, "a larger kv with a zero tail");
    newer[1].heads = 1;
    api_expect(oct_kv_row_bytes(newer) == OCT_E_UNSUPPORTED && strstr(oct_error_text(), "newer"), "a larger kv with a new field");
    oct_kv older = ok;
    older.size = offsetof(oct_kv, k);
    older.page_bytes = -5; /* behind it: not read */
    api_expect(oct_kv_bytes(&older) == 3 * 4 * 2 * 16, "an older kv: %s", oct_error_text());

    static const int32_t I = INT32_MAX;
#define BAD(status, part, ...)                                                                                      \
    do {                                                                                                            \
        oct_kv kv = ok;                                                                                             \
        __VA_ARGS__;                                                                                                \
        const int64_t r = oct_kv_row_bytes(&kv);                                                                    \
        api_expect(r == (status) && strstr(oct_error_text(), part), "kv %s: row_bytes %lld: %s", #__VA_ARGS__, (long long)r, oct_error_text()); \
        api_expect(oct_kv_bytes(&kv) == (status), "kv %s: bytes", #__VA_ARGS__);                                    \
    } while (0)
    BAD(OCT_E_VALUE, "kv.size is 0", kv.size = 0);
    BAD(OCT_E_VALUE, "kv.size is 7", kv.size = 7);
    BAD(OCT_E_VALUE, "kv.size is 92", kv.size = 92);
    BAD(OCT_E_VALUE, "kv.size", kv.size = INT64_MAX);
    BAD(OCT_E_VALUE, "kv.size", kv.size = INT64_MIN);
    BAD(OCT_E_VALUE, "-1", kv.format = -1);
    BAD(OCT_E_VALUE, "6", kv.format = 6);
    BAD(OCT_E_VALUE, "supported: BF16", kv.format = I);
    BAD(OCT_E_UNSUPPORTED, "kv.format", kv.format = 0);
    BAD(OCT_E_UNSUPPORTED, "F8_TOKEN_OUT", kv.format = OCT_KV_F8_TOKEN_OUT);
    BAD(OCT_E_UNSUPPORTED, "F8_HEAD", kv.format = OCT_KV_F8_HEAD);
    BAD(OCT_E_SHAPE, "kv.heads is 0", kv.heads = 0);
    BAD(OCT_E_SHAPE, "kv.heads is -3", kv.heads = -3);
    BAD(OCT_E_SHAPE, "kv.d is 0", kv.d = 0);
    BAD(OCT_E_SHAPE, "kv.d is 7", kv.d = 7);
    BAD(OCT_E_SHAPE, "kv.d is", kv.d = INT64_MIN);
    BAD(OCT_E_UNSUPPORTED, "2048", kv.d = 2050);
    BAD(OCT_E_UNSUPPORTED, "2048", kv.d = INT64_MAX - 1);
    BAD(OCT_E_SHAPE, "kv.page_size is 0", kv.page_size = 0);
    BAD(OCT_E_SHAPE, "kv.pages is -1", kv.pages = -1);
    BAD(OCT_E_SHAPE, "kv.lanes is -1", kv.lanes = -1);
    BAD(OCT_E_SHAPE, "kv.lanes is 4", kv.lanes = 4);
    BAD(OCT_E_SHAPE, "", kv.pages = INT64_MAX);
    BAD(OCT_E_SHAPE, "", kv.heads = INT64_MAX);
    BAD(OCT_E_SHAPE, "", kv.page_size = INT64_MAX);
    BAD(OCT_E_SHAPE, "head 14", kv.head_bytes = 14);
    BAD(OCT_E_SHAPE, "head 17", kv.head_bytes = 17);
    BAD(OCT_E_SHAPE, "head -16", kv.head_bytes = -16);
    BAD(OCT_E_SHAPE, "token 30", kv.token_bytes = 30);
    BAD(OCT_E_SHAPE, "page 126", kv.page_bytes = 126);
    BAD(OCT_E_SHAPE, "", kv.page_bytes = INT64_MAX - 1);
    BAD(OCT_E_SHAPE, "token 16", kv.token_bytes = 16);                                              /* each order overlaps */
    BAD(OCT_E_SHAPE, "head 62", kv.token_bytes = 16, kv.head_bytes = 62);
    BAD(OCT_E_SHAPE, "token 14", kv.token_bytes = 14, kv.head_bytes = 64);
    BAD(OCT_E_SHAPE, "page 126", kv.token_bytes = 16, kv.head_bytes = 64, kv.page_bytes = 126);
    BAD(OCT_E_SHAPE, "head 65", kv.token_bytes = 16, kv.head_bytes = 65);
    BAD(OCT_E_SHAPE, "", kv.token_bytes = 16, kv.head_bytes = INT64_MAX / 2 + 1);
    BAD(OCT_E_SHAPE, "", kv.token_bytes = INT64_MAX / 4 * 2, kv.head_bytes = 16);
    BAD(OCT_E_VALUE, "kv.groups is 3", kv.format = OCT_KV_I4, kv.groups = 3);
    BAD(OCT_E_VALUE, "kv.groups", kv.format = OCT_KV_I4, kv.groups = I);
    BAD(OCT_E_VALUE, "kv.groups", kv.format = OCT_KV_I4, kv.groups = INT32_MIN);
    BAD(OCT_E_SHAPE, "multiple of 16", kv.format = OCT_KV_I4, kv.groups = 8);
    BAD(OCT_E_UNSUPPORTED, "high_first", kv.format = OCT_KV_I4, kv.high_first = 1);
    BAD(OCT_E_UNSUPPORTED, "k_param", kv.k_param = scratch_mem);
    BAD(OCT_E_UNSUPPORTED, "v_param", kv.v_param = scratch_mem);
    BAD(OCT_E_UNSUPPORTED, "reserved", kv.reserved0 = 1);
    BAD(OCT_E_UNSUPPORTED, "reserved", kv.reserved[5] = 1);
    BAD(OCT_E_SHAPE, "kv.ld_page_table is 0", kv.page_table = (int32_t *)(void *)scratch_mem);
    BAD(OCT_E_SHAPE, "page_table overflows", kv.page_table = (int32_t *)(void *)scratch_mem, kv.ld_page_table = INT64_MAX);
#undef BAD
    api_expect(oct_kv_row_bytes(0) == OCT_E_NULL && oct_kv_bytes(0) == OCT_E_NULL, "kv is NULL");
}

int main(void)
{
    static api_arena m;
    setvbuf(stdout, 0, _IOLBF, 0);
    api_expect(!oct_error_text()[0], "an error text before the first error: %s", oct_error_text());
    check_words();
    oct_set_trace(on_trace, &traced);
    check_table();
    check_kv();
    for (int i = 0; i < api_op_count; i++) {
        const api_op *op = &api_ops[i];
        const int before = passed, wrong = failed;
        const any_args a = good(op, &m);
        api_accept(op, &a, "a good call");
        check_reference_rows(op);
        check_size(op, &m);
        check_on(op, &m);
        check_dry(op, &m);
        check_choice(op, &m);
        check_threads(op);
        check_environment(op);
        for (int f = 0; f < op->field_count; f++) check_field(op, &op->fields[f], &m);
        if (op->more) op->more();
        printf("%-16s %d passed, %d failed\n", op->name, passed - before, failed - wrong);
    }
    check_callers();
    oct_set_trace(0, 0);
    traced.calls = 0;
    if (api_op_count) {
        const any_args a = good(&api_ops[0], &m);
        api_ops[0].run(&a);
    }
    api_expect(!traced.calls, "the trace goes on after it was taken away");
    printf("%d passed, %d failed\n", passed, failed);
    return failed || !passed;
}
