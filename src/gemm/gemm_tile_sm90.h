/* gemm_tile_sm90.h - what host and device side of the large GEMM share: the kernel's parameter and its geometry. */
#ifndef OCTAVO_GEMM_TILE_SM90_H
#define OCTAVO_GEMM_TILE_SM90_H
#include "gemm/gemm_sm90.h"

enum { TILE_ROWS = 128, TILE_THREADS = 384 }; /* rows of y a CTA; two warpgroups multiply, a warp of the third fetches */
enum { TILE_FAST, TILE_ACCURATE, TILE_SCALED };
/* Columns of y that are staged at once: fewer where shared memory is short. */
#define TILE_BOX_COLUMNS(columns, mode) (((columns) == 256 && (mode) != TILE_SCALED) || (columns) == 128 ? 64 : 32)
/* Shared memory: the ring (x and w, scales of x and w), two boxes of y and two column tables a warpgroup, barriers. */
#define TILE_STAGE_BYTES(columns, mode) ((TILE_ROWS + (columns)) * 128 + ((mode) == TILE_SCALED ? (TILE_ROWS + 4) * 4 : 0))
#define TILE_OTHER_BYTES(columns, mode) (4 * 64 * TILE_BOX_COLUMNS(columns, mode) * 2 + 4 * TILE_BOX_COLUMNS(columns, mode) * 8 + 16)
#define TILE_STAGES(columns, mode) ((227 * 1024 - TILE_OTHER_BYTES(columns, mode)) / (TILE_STAGE_BYTES(columns, mode) + 16))
#define TILE_SMEM(columns, mode) (TILE_STAGES(columns, mode) * (TILE_STAGE_BYTES(columns, mode) + 16) + TILE_OTHER_BYTES(columns, mode))

typedef struct gemm_tile_params {
    oct_tensor_map x, w, y; /* [batch][rows][k], [batch][rows][k], [batch][m][n] */
    gemm_output out;
    gemm_scales scales;
    int32_t m, n, batch;
    int32_t k_steps;      /* blocks of 128 bytes of k */
    int32_t tiles_m, tiles_n; /* of clusters */
    int32_t raster;       /* tiles along m that are walked before the next along n */
    int32_t log_share;    /* 1: two CTAs one above the other share w */
    int32_t w_shared;     /* 1: all batches have one w */
    int32_t boxes;        /* 1: y is stored by the copy engine */
    int32_t bulk_scales;  /* 1: x's scales of a tile and k block are one copy */
    int32_t chain;
} gemm_tile_params;

#endif
