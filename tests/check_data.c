/* check_data.c - guarded buffers, hostile inputs, comparisons. */
#define _GNU_SOURCE
#include "check_case.h"
#include "core/num/bf16.h"
#include "core/num/f8.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- Buffers ---- */

static void *guarded(ck_case *c, int64_t bytes, int64_t align, int fill, int input)
{
    const int64_t page = sysconf(_SC_PAGESIZE), body = (bytes + align + page - 1) / page * page;
    char *p = mmap(0, (size_t)(body + 2 * page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || c->buf_count == CK_BUFS) {
        fprintf(stderr, "check: no memory for %lld bytes\n", (long long)bytes);
        exit(1);
    }
    mprotect(p, (size_t)page, PROT_NONE);
    mprotect(p + page + body, (size_t)page, PROT_NONE);
    memset(p + page, fill, (size_t)body);
    char *at = c->place_begin ? p + page : p + page + body - (bytes + align - 1) / align * align;
    c->bufs[c->buf_count++] = (ck_buf){ p, at, body + 2 * page, bytes, input };
    return at;
}

static int64_t span(int64_t rows, int64_t cols, int64_t ld, int64_t elem) { return rows ? ((rows - 1) * ld + cols) * elem : 0; }

void *ck_input(ck_case *c, int64_t rows, int64_t cols, int64_t ld, int64_t elem)
{
    return guarded(c, span(rows, cols, ld, elem), elem, 0xff, 1);
}
void *ck_output(ck_case *c, int64_t rows, int64_t cols, int64_t ld, int64_t elem)
{
    return guarded(c, span(rows, cols, ld, elem), elem, 0xa5, 0);
}
void *ck_scratch(ck_case *c, int64_t bytes, int64_t align) { return guarded(c, bytes, align, 0xff, 0); }

void ck_freeze(ck_case *c)
{
    for (int i = 0; i < c->buf_count; i++) {
        const ck_buf *b = &c->bufs[i];
        const int64_t page = sysconf(_SC_PAGESIZE);
        if (b->input) mprotect(b->base + page, (size_t)(b->mapped - 2 * page), PROT_READ);
    }
}

void ck_free_bufs(ck_case *c)
{
    while (c->buf_count) {
        const ck_buf *b = &c->bufs[--c->buf_count];
        munmap(b->base, (size_t)b->mapped);
    }
}

/* ---- Random values ---- */

uint64_t ck_rnd(ck_case *c)
{
    c->rng ^= c->rng << 13; c->rng ^= c->rng >> 7; c->rng ^= c->rng << 17;
    return c->rng * 0x2545f4914f6cdd1dULL;
}

float ck_uniform(ck_case *c, float lo, float hi) { return lo + (hi - lo) * (float)(ck_rnd(c) >> 40) * 0x1p-24f; }

/* Any NaN: quiet and signaling, of both signs, with a payload. Or an infinity. Seldom, or often in a row of them. */
enum { CK_SPECIAL_ROW = CK_KIND_COUNT };
static float special(ck_case *c, int often)
{
    const uint64_t r = ck_rnd(c) % (often ? 12 : 400), bits = ck_rnd(c);
    if (r == 0) return INFINITY;
    if (r == 1) return -INFINITY;
    if (r == 2) return oct_f32_from_bits(0x7f810000u | (uint32_t)(bits & 0x807fffff));
    return ck_uniform(c, -1, 1);
}

static float value_of(ck_case *c, int kind, int32_t dtype, int64_t row, int64_t i)
{
    /* amax of f32 and bf16 inputs stays where products and sums of the ops are finite */
    const float max = dtype == OCT_F8E4M3FN ? 448.0f : dtype == OCT_F16 ? 65504.0f : 3e18f;
    const float sub = dtype == OCT_F8E4M3FN ? 0x1p-6f : dtype == OCT_F16 ? 0x1p-14f : 0x1p-126f;
    switch (kind) {
    case CK_NEAR_MAX:   return ck_uniform(c, 0.9f, 1.0f) * (ck_rnd(c) & 1 ? max : -max);
    case CK_SUBNORMAL:  return ck_uniform(c, -1, 1) * sub;
    case CK_CODES:      return oct_f8e4m3fn_to_f32((uint8_t)(i % 127 | (i % 254 >= 127) << 7)) * (float)(1 << ck_rnd(c) % 3);
    case CK_SPECIAL:    return special(c, 0);
    case CK_SPECIAL_ROW: return special(c, 1);
    case CK_OUTLIER:    return ck_uniform(c, -1, 1) * (row == 0 || i % 101 == 7 ? 1000.0f : 0.01f);
    case CK_ZERO:       return ck_rnd(c) & 1 ? 0.0f : -0.0f;
    case CK_TINY_RANGE: return 0.7421875f;
    }
    return ck_uniform(c, -1, 1);
}

void ck_fill(ck_case *c, void *p, int32_t dtype, int64_t rows, int64_t cols, int64_t ld, int kind)
{
    const int64_t every = rows < 3 ? 1 : 3, dirty = (int64_t)(ck_rnd(c) % (uint64_t)every); /* rows of many specials */
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            const int64_t at = i * ld + j;
            const float x = value_of(c, kind == CK_SPECIAL && i % every == dirty ? CK_SPECIAL_ROW : kind, dtype, i, i * cols + j);
            if (dtype == OCT_F32) ((float *)p)[at] = x;
            else if (dtype == OCT_BF16) ((uint16_t *)p)[at] = x != x ? (uint16_t)(oct_f32_bits(x) >> 16) : oct_bf16_from_f32(x);
            else if (dtype == OCT_F16)
                ((uint16_t *)p)[at] = x != x ? (uint16_t)(oct_f32_bits(x) >> 16 | 0x7c01) : oct_f16_from_f32(x);
            else if (kind == CK_CODES) ((uint8_t *)p)[at] = (uint8_t)((i * cols + j) % 254 % 127 | ((i * cols + j) % 254 >= 127) << 7);
            else if (kind == CK_SPECIAL && x != x) ((uint8_t *)p)[at] = ck_rnd(c) & 1 ? 0x7f : 0xff;
            else ((uint8_t *)p)[at] = oct_f8e4m3fn_from_f32(x);
        }
}

double ck_value(const void *p, int32_t dtype, int64_t i)
{
    switch (dtype) {
    case OCT_F32:  return ((const float *)p)[i];
    case OCT_BF16: return oct_bf16_to_f32(((const uint16_t *)p)[i]);
    case OCT_F16:  return oct_f16_to_f32(((const uint16_t *)p)[i]);
    default:       return oct_f8e4m3fn_to_f32(((const uint8_t *)p)[i]);
    }
}

/* ---- Comparisons ---- */

void ck_compared(ck_case *c, int64_t n) { c->compared += n; }

static void hex(char *s, const unsigned char *p, int64_t elem)
{
    for (int64_t i = elem; i-- > 0; s += 2) sprintf(s, "%02x", p[i]);
}

void ck_same(ck_case *c, const char *what, const void *got, const void *want, int64_t rows, int64_t cols, int64_t ld, int64_t elem)
{
    const unsigned char *g = got, *w = want;
    const int64_t n = span(rows, cols, ld, elem);
    for (int64_t i = 0; i < n; i++)
        if (g[i] != w[i]) {
            const int64_t e = i / elem;
            char gs[20], ws[20];
            hex(gs, g + e * elem, elem);
            hex(ws, w + e * elem, elem);
            ck_fail(c, "%s[%lld,%lld]%s is 0x%s, want 0x%s", what, (long long)(e / ld), (long long)(e % ld),
                    e % ld >= cols ? " (padding)" : "", gs, ws);
            return;
        }
    ck_compared(c, rows * cols);
}

void ck_padding(ck_case *c, const char *what, const void *got, int64_t rows, int64_t cols, int64_t ld, int64_t elem)
{
    const unsigned char *g = got;
    for (int64_t i = 0; i + 1 < rows; i++)
        for (int64_t j = cols * elem; j < ld * elem; j++)
            if (g[i * ld * elem + j] != 0xa5) {
                ck_fail(c, "%s: padding of row %lld was written, byte %lld behind it", what, (long long)i, (long long)(j - cols * elem));
                return;
            }
}

/* Encodes a double by way of f32, rounded toward x0 so that the two roundings do not meet (round to odd). */
static float to_odd(double x)
{
    float f = (float)x;
    if (f == x || f != f || isinf(f)) return f;
    uint32_t u = oct_f32_bits(f);
    if (!(u & 1)) u += (fabs((double)f) < fabs(x)) ? 1u : (uint32_t)-1;
    return oct_f32_from_bits(u);
}

static int64_t ordinal(int64_t code, int64_t sign) { return code & sign ? -(code & (sign - 1)) : code; }

int ck_within(const void *got, int32_t dtype, int64_t i, double exact, double bound)
{
    const double g = ck_value(got, dtype, i);
    if (exact != exact || bound != bound) return g != g || bound != bound;
    if (g != g) return 0;
    if (dtype == OCT_F32) return g == exact || fabs(g - exact) <= bound + fabs(exact) * 0x1p-24 + 0x1p-150;
    const float lo = to_odd(exact - bound), hi = to_odd(exact + bound);
    if (dtype == OCT_BF16) {
        const int64_t o = ordinal(((const uint16_t *)got)[i], 0x8000);
        return o >= ordinal(oct_bf16_from_f32(lo), 0x8000) && o <= ordinal(oct_bf16_from_f32(hi), 0x8000);
    }
    const int64_t o = ordinal(((const uint8_t *)got)[i], 0x80);
    return o >= ordinal(oct_f8e4m3fn_from_f32(lo), 0x80) && o <= ordinal(oct_f8e4m3fn_from_f32(hi), 0x80);
}

/* ---- The caller's environment ---- */

#if defined(__x86_64__)
#include <xmmintrin.h>
uint32_t ck_fp_dirty(void)
{
    const uint32_t saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040 | 0x4000); /* FTZ, DAZ, round up */
    return saved;
}
void ck_fp_restore(uint32_t saved) { _mm_setcsr(saved); }
#else
#include <fenv.h>
uint32_t ck_fp_dirty(void) { const int r = fegetround(); fesetround(FE_UPWARD); return (uint32_t)r; }
void ck_fp_restore(uint32_t saved) { fesetround((int)saved); }
#endif

/* Three workers share the tasks in a fixed way and start together. So all of them run some, and nothing but the end
 * orders them: what ThreadSanitizer says of a task that writes where another one reads does not hang on luck. */
enum { WORKERS = 3 };
typedef struct pool { oct_body *body; void *arg; pthread_barrier_t start; } pool;
typedef struct share { pool *p; int64_t first; } share;
static void *worker(void *p)
{
    const share *s = p;
    const uint32_t saved = ck_fp_dirty();
    pthread_barrier_wait(&s->p->start);
    for (int64_t i = s->first; i >= 0; i -= WORKERS) s->p->body(s->p->arg, i);
    ck_fp_restore(saved);
    return 0;
}
void ck_pool(void *ctx, int64_t n, oct_body *body, void *arg)
{
    pool p = { .body = body, .arg = arg };
    pthread_t t[WORKERS];
    share s[WORKERS];
    (void)ctx;
    pthread_barrier_init(&p.start, 0, WORKERS);
    for (int i = 0; i < WORKERS; i++) {
        s[i] = (share){ &p, n - 1 - i };
        if (pthread_create(&t[i], 0, worker, &s[i])) {
            fprintf(stderr, "check: no thread to be had\n");
            exit(1);
        }
    }
    for (int i = 0; i < WORKERS; i++) pthread_join(t[i], 0);
    pthread_barrier_destroy(&p.start);
}
