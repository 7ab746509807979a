/* pairwise.c - a short list of cases in which every pair of values of any two axes meets. */
#include "pairwise.h"
#include <stdlib.h>
#include <string.h>

static uint64_t next(uint64_t *s)
{
    *s ^= *s << 13; *s ^= *s >> 7; *s ^= *s << 17;
    return *s * 0x2545f4914f6cdd1dULL >> 33;
}

/* Greedy: of some candidates, each grown from a pair that has not met yet, the one in which most new pairs meet. */
int ck_pairwise(const int *sizes, int axes, uint64_t seed, int **cases)
{
    enum { CANDIDATES = 24 };
    int *start = malloc((size_t)axes * sizeof *start), total = 0;
    for (int i = 0; i < axes; i++) { start[i] = total; total += sizes[i]; }
    /* met[u][v]: value u (numbered across all axes) has met v */
    unsigned char *met = calloc((size_t)total * (size_t)total, 1);
    int *best = malloc((size_t)axes * sizeof *best), *cand = malloc((size_t)axes * sizeof *cand);
    int *order = malloc((size_t)axes * sizeof *order);
    int left = 0, count = 0, room = 0;
    for (int i = 0; i < axes; i++)
        for (int j = i + 1; j < axes; j++) left += sizes[i] * sizes[j];
    *cases = 0;
    seed = seed * 2 + 1;
    while (left > 0 || count == 0) {
        int best_new = -1;
        for (int t = 0; t < CANDIDATES; t++) {
            for (int i = 0; i < axes; i++) { cand[i] = -1; order[i] = i; }
            for (int i = axes - 1; i > 0; i--) {
                const int j = (int)(next(&seed) % (uint64_t)(i + 1)), o = order[i];
                order[i] = order[j]; order[j] = o;
            }
            int gained = 0;
            for (int n = 0; n < axes; n++) { /* give each axis in turn the value that meets most new ones */
                const int i = order[n], first = (int)(next(&seed) % (uint64_t)sizes[i]);
                int most = -1;
                for (int k = 0; k < sizes[i]; k++) {
                    const int v = (first + k) % sizes[i];
                    int fresh = 0, open = 0;
                    for (int j = 0; j < axes; j++) {
                        if (j == i) continue;
                        if (cand[j] >= 0) fresh += !met[(start[i] + v) * total + start[j] + cand[j]];
                        else if (n == 0)
                            for (int w = 0; w < sizes[j]; w++) open += !met[(start[i] + v) * total + start[j] + w];
                    }
                    const int score = n == 0 ? open : fresh;
                    if (score > most) { most = score; cand[i] = v; }
                }
                if (n) gained += most;
            }
            if (gained > best_new) { best_new = gained; memcpy(best, cand, (size_t)axes * sizeof *best); }
        }
        for (int i = 0; i < axes; i++)
            for (int j = 0; j < axes; j++) {
                unsigned char *m = &met[(start[i] + best[i]) * total + start[j] + best[j]];
                if (i < j && !*m) left--;
                *m = 1;
            }
        if (count == room) *cases = realloc(*cases, (size_t)(room = room ? 2 * room : 64) * (size_t)axes * sizeof **cases);
        memcpy(*cases + count++ * axes, best, (size_t)axes * sizeof *best);
    }
    free(start); free(met); free(best); free(cand); free(order);
    return count;
}
