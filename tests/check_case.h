/* check_case.h - the inside of a case: shared by the files of the harness, not by the checks. */
#ifndef OCTAVO_TESTS_CHECK_CASE_H
#define OCTAVO_TESTS_CHECK_CASE_H
#include "check.h"
#include <stddef.h>

enum { CK_BUFS = 512 };
typedef struct ck_buf {
    char *base, *at; /* the mapping; the first element */
    int64_t mapped, bytes;
    int input;
} ck_buf;

struct ck_case {
    const ck_op *op;
    const oct_row *row, *ref;
    const int *pick;          /* of the op's axes, then the harness's own */
    uint64_t rng;
    ck_buf bufs[CK_BUFS];
    int buf_count, fits, failed, place_begin, fp_dirty, threads;
    int64_t compared;
    char what[1024];          /* the case in words */
};

void ck_free_bufs(ck_case *c);
/* Scratch as the case places it; poisoned, so that a read before a write shows. align: 64 on a CPU, 256 on a GPU. */
void *ck_scratch(ck_case *c, int64_t bytes, int64_t align);
/* The caller's odd floating-point environment: DAZ, FTZ, round up. Returns what was. */
uint32_t ck_fp_dirty(void);
void ck_fp_restore(uint32_t saved);
/* A parallel_for over three POSIX threads, which sanitizers understand; from the last index to the first. */
void ck_pool(void *ctx, int64_t n, oct_body *body, void *arg);
#endif
