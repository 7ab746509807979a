/* pool.c - see pool.h. */
#define _GNU_SOURCE
#include "llama/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { MOST = 256, SPINS = 2000, PATIENCE = 1000 }; /* threads; looks before a thread sleeps, or gives its processor away */

/* `next` says it all in one word: the number of the loop, and below it the task that is taken next. A task is taken by
 * raising it, which fails when the loop is no longer the one that body, arg and count were read for. */
struct lm_pool {
    _Alignas(64) _Atomic uint64_t next;
    _Alignas(64) _Atomic uint32_t done;
    _Alignas(64) _Atomic uint32_t count;
    _Atomic(oct_body *) body;
    _Atomic(void *) arg;
    _Atomic int sleepers, stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread[MOST];
    int threads; /* beside the caller's */
};

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Takes and does tasks until the loop has none left; returns its number. */
static uint32_t share(lm_pool *p)
{
    for (;;) {
        uint64_t next = atomic_load(&p->next);
        oct_body *const body = atomic_load(&p->body);
        void *const arg = atomic_load(&p->arg);
        if ((uint32_t)next >= atomic_load(&p->count)) return (uint32_t)(next >> 32);
        if (!atomic_compare_exchange_weak(&p->next, &next, next + 1)) continue;
        body(arg, (int64_t)(uint32_t)next);
        atomic_fetch_add(&p->done, 1);
    }
}

static uint32_t loop_of(lm_pool *p) { return (uint32_t)(atomic_load(&p->next) >> 32); }

static void *work(void *arg)
{
    lm_pool *p = arg;
    uint32_t seen = 0;
    while (!atomic_load(&p->stop)) {
        for (int i = 0; i < SPINS && loop_of(p) == seen; i++) pause_briefly();
        if (loop_of(p) == seen) {
            pthread_mutex_lock(&p->lock);
            atomic_fetch_add(&p->sleepers, 1);
            while (loop_of(p) == seen && !atomic_load(&p->stop)) pthread_cond_wait(&p->wake, &p->lock);
            atomic_fetch_sub(&p->sleepers, 1);
            pthread_mutex_unlock(&p->lock);
        }
        seen = share(p);
    }
    return 0;
}

static void wake(lm_pool *p)
{
    if (!atomic_load(&p->sleepers)) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

void lm_pool_for(void *ctx, int64_t n, oct_body *body, void *arg)
{
    lm_pool *p = ctx;
    if (n <= 1 || n > UINT32_MAX / 2) {
        for (int64_t i = 0; i < n; i++) body(arg, i);
        return;
    }
    const uint64_t loop = loop_of(p);
    atomic_store(&p->next, loop << 32 | UINT32_MAX); /* still the last loop, and nothing to take from it whatever count says */
    atomic_store(&p->done, 0);
    atomic_store(&p->body, body);
    atomic_store(&p->arg, arg);
    atomic_store(&p->count, (uint32_t)n);
    atomic_store(&p->next, (loop + 1) << 32);
    wake(p);
    share(p);
    for (int i = 1; atomic_load(&p->done) != (uint32_t)n; i++) {
        pause_briefly();
        if (i % PATIENCE == 0) sched_yield(); /* to a thread in the midst of a task */
    }
}

lm_pool *lm_pool_open(int threads)
{
    lm_pool *p;
    if (!threads) {
        cpu_set_t set;
        threads = sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
    }
    if (threads <= 1 || !(p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64))) return 0;
    *p = (lm_pool){ .threads = 0 };
    pthread_mutex_init(&p->lock, 0);
    pthread_cond_init(&p->wake, 0);
    while (p->threads < threads - 1 && p->threads < MOST && !pthread_create(&p->thread[p->threads], 0, work, p)) p->threads++;
    if (p->threads) return p;
    lm_pool_close(p);
    return 0;
}

void lm_pool_close(lm_pool *p)
{
    if (!p) return;
    atomic_store(&p->stop, 1);
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    while (p->threads) pthread_join(p->thread[--p->threads], 0);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
