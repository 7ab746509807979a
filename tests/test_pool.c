/* test_pool.c - the decoder's threads: every task of every loop once, none after its loop, for loops of any length one
 * right after another and with pauses long enough for threads to sleep. */
#define _POSIX_C_SOURCE 200809L
#include "llama/pool.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

enum { MOST = 500 };

typedef struct {
    _Atomic int times[MOST];
    int64_t n;
    _Atomic int wrong;
    int plain[MOST]; /* not atomic: written by the task, read by the caller */
} loop;

static void task(void *arg, int64_t i)
{
    loop *l = arg;
    if (i < 0 || i >= l->n) atomic_store(&l->wrong, 1);
    else {
        atomic_fetch_add(&l->times[i], 1);
        l->plain[i] = (int)i + 1;
    }
}

static int run_once(lm_pool *p, int64_t n)
{
    static loop l[2]; /* in turns: a late task would show in the loop before */
    static int turn;
    loop *now = &l[turn ^= 1], *before = &l[turn ^ 1];
    for (int i = 0; i < MOST; i++) {
        atomic_store(&now->times[i], 0);
        now->plain[i] = 0;
    }
    atomic_store(&now->wrong, 0);
    now->n = n;
    if (p) lm_pool_for(p, n, task, now);
    else
        for (int64_t i = 0; i < n; i++) task(now, i);
    for (int64_t i = 0; i < MOST; i++)
        if (atomic_load(&now->times[i]) != (i < n) || now->plain[i] != (i < n ? i + 1 : 0)) return 0;
    for (int64_t i = 0; i < before->n; i++)
        if (atomic_load(&before->times[i]) != 1) return 0;
    return !atomic_load(&now->wrong);
}

int main(void)
{
    int passed = 0, failed = 0;
    for (int threads = 0; threads <= 5; threads++) {
        lm_pool *p = lm_pool_open(threads);
        int ok = (threads != 1) == (p != 0) || !threads; /* 0: as many as there are */
        for (int i = 0; i < 4000 && ok; i++) {
            ok = run_once(p, (int64_t)i * 7919 % (i % 3 ? 9 : MOST));
            if (i % 100 == 0) nanosleep(&(struct timespec){ 0, 500000 }, 0);
        }
        lm_pool_close(p);
        if (ok) passed++;
        else {
            failed++;
            printf("  FAIL %d threads\n", threads);
        }
    }
    lm_pool_close(0);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
