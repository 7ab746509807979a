/* check.c - walks every row of kernels.def through its op's cases. */
#define _GNU_SOURCE
#include "check_case.h"
#include "check_cuda.h"
#include "pairwise.h"
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const ck_op *const ops[OCT_OP_COUNT] = {
#define O(op, args) &ck_##op,
#include "ops.def"
#undef O
};

/* The harness's own axes, behind the op's. */
enum { PLACE, FP, THREADS, OWN };
static const int own_sizes[OWN] = { 2, 2, 3 };
static const char *const own_names[OWN][3] = { { "end", "begin" }, { "fp clean", "fp dirty" }, { "pool", "pool", "serial" } };

static ck_case *running; /* for the fault handler */

static void on_fault(int sig)
{
    static char text[1400];
    const int n = snprintf(text, sizeof text, "  FAIL %s: signal %d (%s) in: %s\n", running ? running->row->name : "?",
                           sig, sig == SIGSEGV ? "a read or write outside a buffer, or into an input" : "fault",
                           running ? running->what : "?");
    if (write(1, text, (size_t)n) < 0) _exit(71);
    _exit(70);
}

int64_t ck_pick(const ck_case *c, int axis)
{
    const ck_axis *a = &c->op->axes[axis];
    return a->values ? a->values[c->pick[axis]] : c->pick[axis];
}
const oct_row *ck_row(const ck_case *c) { return c->row; }
const oct_row *ck_ref(const ck_case *c) { return c->ref; }
int ck_failed(const ck_case *c) { return c->failed; }

void ck_fail(ck_case *c, const char *fmt, ...)
{
    va_list ap;
    if (c->failed++) return; /* the first says it */
    printf("  FAIL %s: ", c->row->name);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n       in: %s\n", c->what);
}

/* A full args struct of any op, with room for on. */
typedef union any_args {
    int64_t size;
#define O(op, args) args op##_;
#include "ops.def"
#undef O
} any_args;

int ck_fits(ck_case *c, const void *args)
{
    any_args full, on_device;
    int64_t scratch;
    if (oct_row_device(c->row) == OCT_CUDA) {
        memcpy(&on_device, args, (size_t)c->op->op->args_size);
        *(oct_on *)(void *)((char *)&on_device + c->op->op->on_offset) = oct_cuda(0, 0);
        args = &on_device;
    }
    const oct_status s = oct_op_run_row(c->op->op, c->row, args, &full, &scratch);
    if (s == OCT_OK) return c->fits = 1;
    if (s != OCT_E_UNSUPPORTED) ck_fail(c, "the args of the case are refused: %s", oct_error_text());
    return 0;
}

int ck_run(ck_case *c, const oct_row *row, void *args)
{
    any_args full;
    int64_t scratch = 0;
    oct_on *on = (oct_on *)((char *)args + c->op->op->on_offset);
    oct_status s;
    if (oct_row_device(row) == OCT_CUDA) {
        any_args moved;
        s = ck_gpu_run(c, row, args, &moved, &full, c->op->op->args_size);
        if (s != OCT_OK) ck_fail(c, "%s returned %s: %s", row->name, oct_status_str(s), oct_error_text());
        return s == OCT_OK && !c->failed;
    }
    *on = (oct_on){ .threads = c->threads ? 0 : 1, .parallel_for = c->threads ? ck_pool : 0 };
    if ((s = oct_op_run_row(c->op->op, row, args, &full, &scratch)) == OCT_OK) {
        on->scratch = scratch ? ck_scratch(c, scratch, 64) : 0;
        on->scratch_bytes = scratch;
        ck_freeze(c);
        const uint32_t saved = c->fp_dirty ? ck_fp_dirty() : 0;
        s = oct_op_run_row(c->op->op, row, args, &full, 0);
        if (c->fp_dirty) ck_fp_restore(saved);
    }
    if (s != OCT_OK) ck_fail(c, "%s returned %s: %s", row->name, oct_status_str(s), oct_error_text());
    return s == OCT_OK;
}

static void describe(ck_case *c)
{
    int at = 0;
    const int room = (int)sizeof c->what;
    for (int i = 0; i < c->op->axis_count && at < room; i++) {
        const ck_axis *a = &c->op->axes[i];
        if (a->names) at += snprintf(c->what + at, (size_t)(room - at), "%s=%s ", a->name, a->names[c->pick[i]]);
        else at += snprintf(c->what + at, (size_t)(room - at), "%s=%lld ", a->name, (long long)ck_pick(c, i));
    }
    for (int i = 0; i < OWN && at < room; i++)
        at += snprintf(c->what + at, (size_t)(room - at), "%s%s", i ? ", " : "", own_names[i][c->pick[c->op->axis_count + i]]);
}

typedef struct tally { int64_t cases, fitting, failed, compared; } tally;

static void run_case(const ck_op *op, const oct_row *row, const oct_row *ref, const int *pick, uint64_t seed, tally *t)
{
    static ck_case c;
    memset(&c, 0, sizeof c);
    c.op = op; c.row = row; c.ref = ref; c.pick = pick;
    c.rng = seed * 2 + 1;
    for (int i = 0; i < 8; i++) ck_rnd(&c);
    c.place_begin = pick[op->axis_count + PLACE];
    c.fp_dirty = pick[op->axis_count + FP];
    c.threads = pick[op->axis_count + THREADS] < 2;
    describe(&c);
    running = &c;
    op->run(&c);
    ck_free_bufs(&c);
    running = 0;
    if (c.fits && !c.failed && !c.compared) ck_fail(&c, "nothing was compared");
    t->cases++;
    t->fitting += c.fits;
    t->failed += c.failed > 0;
    t->compared += c.compared;
}

/* Every pair of axis values meets in the list; then `extra` cases at random. */
static int list_cases(const ck_op *op, const ck_options *o, uint64_t seed, int **cases)
{
    int sizes[40];
    const int axes = op->axis_count + OWN;
    for (int i = 0; i < op->axis_count; i++) sizes[i] = op->axes[i].n - (o->quick ? op->axes[i].big : 0);
    for (int i = 0; i < OWN; i++) sizes[op->axis_count + i] = own_sizes[i];
    const int pairs = ck_pairwise(sizes, axes, seed, cases);
    *cases = realloc(*cases, (size_t)(pairs + o->extra) * (size_t)axes * sizeof **cases);
    uint64_t s = seed * 2 + 1;
    for (int i = pairs * axes; i < (pairs + o->extra) * axes; i++) {
        s ^= s << 13; s ^= s >> 7; s ^= s << 17;
        (*cases)[i] = (int)((s * 0x2545f4914f6cdd1dULL >> 33) % (uint64_t)sizes[i % axes]);
    }
    return pairs + o->extra;
}

int ck_check_all(const ck_options *o)
{
    const uint64_t seed = o->seed ? o->seed : (uint64_t)time(0);
    int passed = 0, failed = 0, skipped = 0;
    const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
    for (int i = 0; i < 4; i++) signal(faults[i], on_fault);
    ck_gpu_exact(o->exact);
    setvbuf(stdout, 0, _IOLBF, 0);
    printf("check: seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < oct_row_count; i++) {
        const oct_row *row = &oct_rows[i], *ref = row;
        const ck_op *op = ops[row->op];
        for (int j = 0; j < oct_row_count; j++)
            if (oct_rows[j].op == row->op) ref = &oct_rows[j]; /* the last */
        if (o->filter && !strstr(row->name, o->filter)) continue;
        if (o->backend && strcmp(o->backend, row->backend)) continue;
        if ((row->needs & oct_features_of(oct_row_device(row), 0)) != row->needs) {
            printf("%-32s SKIP %s\n", row->name, oct_row_device(row) == OCT_CPU ? "this CPU lacks it" : oct_error_text());
            skipped++;
            continue;
        }
        if (strcmp(ref->backend, "ref")) {
            printf("%-32s FAIL the op has no reference row, last\n", row->name);
            failed++;
            continue;
        }
        int *cases;
        tally t = { 0, 0, 0, 0 };
        const int n = list_cases(op, o, seed, &cases), axes = op->axis_count + OWN;
        for (int j = 0; j < n && t.failed < 5; j++) run_case(op, row, ref, cases + j * axes, seed + (uint64_t)j, &t);
        free(cases);
        if (!t.failed && !t.fitting) {
            printf("  FAIL %s: no case fits it\n", row->name);
            t.failed = 1;
        }
        printf("%-32s %s %lld of %lld cases fit, %lld values compared\n", row->name, t.failed ? "FAIL" : "ok  ",
               (long long)t.fitting, (long long)t.cases, (long long)t.compared);
        if (t.failed) failed++;
        else passed++;
    }
    for (int i = 0; i < OCT_OP_COUNT; i++)
        if (ops[i]->not_yet && !o->filter && !o->backend) printf("%-16s not yet: %s\n", ops[i]->op->name, ops[i]->not_yet);
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed || (!passed && !(o->backend && skipped));
}
