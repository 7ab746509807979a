/* plain.h - plain C loops that octavo's kernels are held against. Everything is packed. */
#ifndef OCTAVO_BENCH_PEERS_PLAIN_H
#define OCTAVO_BENCH_PEERS_PLAIN_H
#include <stdint.h>

/* Row-wise quantization, rule MIN: x [m, k], y [m, k] f8e4m3fn, scale [m]. */
void plain_quant_row_bf16(const uint16_t *x, int64_t m, int64_t k, uint8_t *y, float *scale);
void plain_quant_row_f32(const float *x, int64_t m, int64_t k, uint8_t *y, float *scale);

/* Attention of one query token: q, y [heads, d], k, v [len, kv_heads, d], bf16. */
void plain_attn_bf16(const uint16_t *q, const uint16_t *k, const uint16_t *v, int64_t heads, int64_t kv_heads, int64_t d,
                     int64_t len, uint16_t *y);
#endif
