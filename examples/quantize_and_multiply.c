/* quantize_and_multiply.c - y = x w^T through FP8: quantize both sides with a scale a row, multiply, compare with double.
 *
 *   cc quantize_and_multiply.c $(pkg-config --cflags --libs octavo) -lm && ./a.out */
#include <octavo.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { M = 5, N = 300, K = 1000 };

static void must(oct_status s)
{
    if (s == OCT_OK) return;
    fprintf(stderr, "%s\n", oct_error_text()); /* names op, argument, reason and the nearest valid choice */
    exit(1);
}

int main(void)
{
    static float x[M * K], w[N * K], x_scale[M], w_scale[N], y[M * N];
    static unsigned char x8[M * K], w8[N * K];
    unsigned r = 1; /* any numbers will do */
    for (int i = 0; i < M * K; i++) x[i] = (float)((r = r * 1664525u + 1013904223u) >> 8) * 0x1p-23f - 1;
    for (int i = 0; i < N * K; i++) w[i] = (float)((r = r * 1664525u + 1013904223u) >> 8) * 0x1p-28f - 0.03125f;

    /* A scale a row: value = scale * code. Fields that are left out are zero and mean their default. */
    oct_quant_args q = { .size = sizeof q, .scaling = OCT_SCALE_ROW, .m = M, .k = K, .x = x, .x_dtype = OCT_F32,
                         .y = x8, .y_dtype = OCT_F8E4M3FN, .scale = x_scale };
    must(oct_quant(&q));
    q.m = N;
    q.x = w;
    q.y = w8;
    q.scale = w_scale;
    must(oct_quant(&q));

    oct_gemm_args g = { .size = sizeof g, .scaling = OCT_SCALE_ROW, .m = M, .n = N, .k = K, .x = x8, .x_dtype = OCT_F8E4M3FN,
                        .w = w8, .w_dtype = OCT_F8E4M3FN, .x_scale = x_scale, .w_scale = w_scale, .y = y, .y_dtype = OCT_F32 };
    char text[256];
    must(oct_gemm_choice(&g, text, sizeof text)); /* which kernel will run, and why none before it */
    printf("kernel: %s\n", text);
    g.on.scratch_bytes = oct_gemm_scratch(&g); /* ops allocate nothing: the caller brings what they ask for */
    g.on.scratch = aligned_alloc(64, (size_t)(g.on.scratch_bytes + 63) / 64 * 64 + 64);
    must(oct_gemm(&g));

    double error = 0, size = 0;
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < K; k++) sum += (double)x[i * K + k] * w[j * K + k];
            error += (y[i * N + j] - sum) * (y[i * N + j] - sum);
            size += sum * sum;
        }
    free(g.on.scratch);
    printf("error of FP8 on both sides: %.2f %% of the result\n", 100 * sqrt(error / size));
    return sqrt(error / size) < 0.06 ? 0 : 1; /* each code is off by at most 1/16 of its value */
}
