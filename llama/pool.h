/* pool.h - threads that share the tasks of a loop: the decoder's oct_on.parallel_for.
 *
 * A token is some 300 short loops. A parallel region of OpenMP ends when all its threads have come to its end, so that where
 * other programs keep the processors busy, every loop waits for a thread that is not running. Here a loop ends when all
 * its tasks are done: a thread that comes late finds none left. */
#ifndef OCTAVO_LLAMA_POOL_H
#define OCTAVO_LLAMA_POOL_H

#include "octavo.h"

typedef struct lm_pool lm_pool;

/* threads: the caller's included; 0: as many as there are processors. NULL when that is one, or none could be made. */
lm_pool *lm_pool_open(int threads);
void lm_pool_close(lm_pool *p); /* NULL is allowed */

/* An oct_parallel_for_fn; ctx is the pool, which serves one caller at a time. */
void lm_pool_for(void *ctx, int64_t n, oct_body *body, void *arg);

#endif
