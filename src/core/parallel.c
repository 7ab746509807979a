/* parallel.c - the one loop that kernels spread over threads. */
#include "core/core.h"

typedef struct job {
    oct_body *body;
    void *arg;
} job;

static void clean_body(void *p, int64_t i)
{
    const job *j = p;
    const uint32_t saved = oct_fp_enter();
    j->body(j->arg, i);
    oct_fp_leave(saved);
}

void oct_parallel(const oct_on *on, int64_t n, oct_body *body, void *arg)
{
    job j = { body, arg };
    if (n > 1 && on->threads != 1) {
        if (on->parallel_for) {
            on->parallel_for(on->ctx, n, clean_body, &j);
            return;
        }
#ifdef _OPENMP
        extern int omp_get_max_threads(void);
        int threads = on->threads > 0 ? on->threads : omp_get_max_threads();
        if (threads > n) threads = (int)n;
        if (threads > 1) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
            for (int64_t i = 0; i < n; i++) clean_body(&j, i);
            return;
        }
#endif
    }
    for (int64_t i = 0; i < n; i++) body(arg, i);
}
