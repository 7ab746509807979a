#ifndef OCTAVO_TESTS_PAIRWISE_H
#define OCTAVO_TESTS_PAIRWISE_H
#include <stdint.h>
/* Fills *cases (to be freed) with count x axes values, 0 <= value < sizes[axis]; returns count. */
int ck_pairwise(const int *sizes, int axes, uint64_t seed, int **cases);
#endif
