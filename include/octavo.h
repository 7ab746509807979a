/* octavo.h - kernels of low-precision generative-AI inference; the whole public interface.
 * C11, safe to include from C++, no types of CUDA, HIP, Python or torch.
 *
 * What holds for every op, so that the comments below need not repeat it:
 *   call      Fill the op's args struct with designated initialisers and pass its address. `size` comes first and
 *             is sizeof the struct; a field left zero means its default. A smaller struct (an older caller) is read
 *             as zero-filled; a larger one with anything but zeros in the part unknown here is UNSUPPORTED. So is
 *             a reserved field that is not zero.
 *   memory    The caller owns every buffer. No op allocates, prints, aborts, keeps a pointer or synchronises.
 *             Scratch memory, where oct_<op>_scratch() asks for it, is passed in `on`; its contents mean nothing
 *             before or after the call.
 *   extents   int64_t, in elements. An extent may be 0: then nothing is read, and an output over an empty sum is 0.
 *   strides   int64_t, in elements unless the name ends in _bytes; 0 means packed. The last index is contiguous.
 *             The bytes between a row's extent and its stride may be read and are never written.
 *   alignment Every pointer is aligned to its element's size; more is never needed.
 *   aliasing  Outputs overlap nothing else, except where a comment says "in place".
 *   numbers   Round to nearest, ties to even; subnormals are kept; the caller's MXCSR is saved, set and restored.
 *             Every result that is NaN is the quiet NaN 0x7FC00000 (f32), 0x7FC0 (bf16), 0x7F (f8e4m3fn), except
 *             where NaN travels through a sum: then any NaN.
 *   scale     value = scale * code. Scales are f32.
 *   threads   Work is cut by shape, never by the number of threads: results do not depend on it. Ops may be called
 *             from several threads at once on disjoint outputs.
 *   accuracy  EXACT  the same bits as the reference.
 *             STEP   the output is the reference's value rounded to the output type, where the value before rounding
 *                    may differ by the bound stated with the op: so a code differs only near a rounding boundary.
 *             BOUND  |result - exact| <= the bound stated with the op.
 *             u = 2^-24, half an ulp of f32 at 1.
 *   errors    A negative oct_status; oct_error_text() then says op, argument, reason and the nearest valid choice.
 *             Arguments are checked before anything is written: after an error the outputs are as they were.
 *   reference src/<op>/<op>_ref.c: scalar C, written as the formula.
 */
#ifndef OCTAVO_H
#define OCTAVO_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define OCT_API __attribute__((visibility("default")))
#else
#define OCT_API
#endif

/* ---- Status ---------------------------------------------------------------------------------------------------- */

typedef int32_t oct_status;
#define OCT_OK             0
#define OCT_E_NULL        (-1) /* a required pointer is NULL */
#define OCT_E_SHAPE       (-2) /* an extent or stride is negative, too small, or overflows */
#define OCT_E_DTYPE       (-3) /* a dtype, or the combination of dtypes, is not one the op lists */
#define OCT_E_ALIGN       (-4) /* a pointer is not aligned to its element */
#define OCT_E_UNSUPPORTED (-5) /* a valid request that this version, or this machine, cannot serve */
#define OCT_E_DEVICE      (-6) /* the device refused */
#define OCT_E_SCRATCH     (-7) /* on.scratch (or, on a GPU, on.sync) is missing or too small: see oct_<op>_scratch */
#define OCT_E_VALUE       (-8) /* a constant, flag or number is outside what the op lists */

OCT_API const char *oct_status_str(oct_status s); /* a few words; never NULL */
OCT_API const char *oct_error_text(void);         /* this thread's last error as a sentence; "" before the first */
OCT_API const char *oct_version(void);            /* "0.1.0" */

/* ---- Types ----------------------------------------------------------------------------------------------------- */
/* Named as in DLPack and ml_dtypes. fn: no infinities, one NaN a sign. fnuz: no infinities, no -0, NaN is 0x80. */

#define OCT_F32         1
#define OCT_F16         2
#define OCT_BF16        3
#define OCT_F8E4M3FN    4 /* OCP: bias 7, largest 448, NaN 0x7F and 0xFF */
#define OCT_F8E4M3FNUZ  5 /* bias 8, largest 240, NaN 0x80 (MI300X) */
#define OCT_F8E5M2      6
#define OCT_F8E5M2FNUZ  7
#define OCT_F8E8M0FNU   8
#define OCT_F4E2M1FN    9
#define OCT_I8         10
#define OCT_I4         11
#define OCT_U8         12
#define OCT_I32        13

OCT_API const char *oct_dtype_str(int32_t dtype); /* "bf16"; "?" when unknown */
OCT_API int32_t oct_dtype_bits(int32_t dtype);    /* 16; 0 when unknown */

/* ---- Where and with what an op runs ---------------------------------------------------------------------------- */

#define OCT_CPU  0
#define OCT_CUDA 1
#define OCT_HIP  2

/* Calls body(arg, i) once for every i in [0, n), in any order, on any threads; returns when all have returned. */
typedef void oct_body(void *arg, int64_t i);
typedef void oct_parallel_for_fn(void *ctx, int64_t n, oct_body *body, void *arg);

typedef struct oct_on {
    int32_t device_type;               /* OCT_CPU (0), OCT_CUDA, OCT_HIP */
    int32_t device;                    /* ordinal of the GPU */
    void *stream;                      /* GPU stream; NULL is the default stream */
    oct_parallel_for_fn *parallel_for; /* CPU: the host's own thread pool; NULL: OpenMP, or serial if built without */
    void *ctx;                         /* first argument of parallel_for */
    int32_t threads;                   /* CPU: at most this many (OpenMP); 0: its default; 1: the calling thread */
    int32_t flags;                     /* OCT_ON_ */
    void *scratch;                     /* memory on the same device, aligned to 64 bytes on a CPU, 256 on a GPU */
    int64_t scratch_bytes;
    void *sync;                        /* GPU: OCT_SYNC_BYTES for counters, zeroed once by the caller, left zero by
                                          every op, one a stream (ops on one stream share it) */
    int64_t sync_bytes;
    int64_t reserved[4];
} oct_on;

/* GPU: the op may begin while the op before it on the stream ends (programmatic dependent launch; the CPU ignores it).
 * It waits for that op before it touches what an op may write, weights excepted: the caller vouches that the weights of
 * the call (w, w_scale and bias of gemm, weight of norm_quant, table of rope_kv) are not written by work that is still in
 * flight. In a chain of octavo's ops this hides the start of each kernel, and the first weights are already there. */
#define OCT_ON_CHAIN 1
#define OCT_SYNC_BYTES 65536

static inline oct_on oct_cpu(void)
{
    const oct_on on = { OCT_CPU, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0, 0, 0, 0 } };
    return on;
}
/* A device and a stream of its primary context (the context of the CUDA runtime and of torch); NULL: its default stream.
 * Every pointer of the call, constants such as scale_ub included, is then memory that the device can read. The op is
 * queued and the call returns; faults of the kernel show at a later call, as with any CUDA program. Ops capture into CUDA
 * graphs: pointers freeze there. The calling thread's current context is left as found. */
static inline oct_on oct_cuda(int32_t device, void *stream)
{
    const oct_on on = { OCT_CUDA, device, stream, 0, 0, 0, 0, 0, 0, 0, 0, { 0, 0, 0, 0 } };
    return on;
}

/* ---- The machine and the table of kernels ---------------------------------------------------------------------- */

/* CPU features that kernels ask for, as a bit mask. AVX2 stands for AVX2, FMA and F16C together. */
#define OCT_CPU_AVX2        1u
#define OCT_CPU_AVX512      2u /* F BW VL DQ */
#define OCT_CPU_AVX512_BF16 4u
#define OCT_CPU_AVX512_VBMI 8u
#define OCT_CPU_AMX_BF16   16u


OCT_API uint32_t oct_cpu_features(void);     /* what this machine has, less what is masked */
OCT_API void oct_cpu_mask(uint32_t allowed); /* later calls see only these; ~0u: all again (for tests and benchmarks) */

typedef struct oct_cuda_info_t {
    char name[96];                           /* "NVIDIA H200" */
    int32_t built_in;                        /* 1: this build has kernels for CUDA devices */
    int32_t runs_here;                       /* 1: they run on this device */
    int32_t driver;                          /* 13000: the driver is one of CUDA 13.0 */
    int32_t major, minor, sms;               /* compute capability, multiprocessors */
    int64_t memory, l2_bytes;
    int64_t reserved[4];
} oct_cuda_info_t;
/* OCT_E_DEVICE, and why in oct_error_text(), without such a device or a driver; built_in is set all the same. */
OCT_API oct_status oct_cuda_info(int32_t device, oct_cuda_info_t *info);
/* Loads every kernel of the device, which the first call of an op does otherwise for its own. */
OCT_API oct_status oct_cuda_warm(int32_t device);

typedef struct oct_kernel_info_t {
    const char *op, *name, *backend;         /* "gemm", "oct_gemm_dot_avx2", "avx2" */
    const char *needs;                       /* "avx2", "avx512", "sm90"; "" when it runs anywhere */
    int32_t runs_here;                       /* 1: this machine (for GPU kernels: its device 0) has what it needs */
    int32_t reserved;
} oct_kernel_info_t;
OCT_API int32_t oct_kernel_count(void);
OCT_API oct_status oct_kernel_info(int32_t i, oct_kernel_info_t *info); /* rows of an op stand best first, ref last */

/* Tracing: called after every op with the op, the row chosen and the status. NULL: none. The library never prints. */
typedef void oct_trace_fn(void *ctx, const char *op, const char *kernel, oct_status s);
OCT_API void oct_set_trace(oct_trace_fn *fn, void *ctx);

/* ---- Scales ---------------------------------------------------------------------------------------------------- */

/* Scope: which elements of an [m, k] matrix share a scale, and the shape of the scales. cdiv(a, b) = ceil(a / b). */
#define OCT_SCALE_NONE   0
#define OCT_SCALE_TENSOR 1 /* all:                      [1] */
#define OCT_SCALE_ROW    2 /* a row:                    [m] */
#define OCT_SCALE_GROUP  3 /* block_k columns of a row: [m][cdiv(k, block_k)] */
#define OCT_SCALE_BLOCK  4 /* block_m x block_k:        [cdiv(m, block_m)][cdiv(k, block_k)] */
#define OCT_SCALE_COL    5 /* a column:                 [k] */

/* Layout of two-dimensional scales: which index is contiguous. */
#define OCT_K_MAJOR  0 /* [rows][cdiv(k, block_k)] */
#define OCT_MN_MAJOR 1 /* [cdiv(k, block_k)][rows] */

/* Rule: from amax = max |x| over the scope (NaN ignored, 0 when nothing else is there) to the scale and the codes.
 * MAX is the largest finite code (448); every operation is one f32 operation, correctly rounded; sat rounds to
 * nearest even and saturates to +-MAX, NaN gives 0x7F.
 *   MIN  s = max(min(amax, ub) / MAX, 1 / (MAX 512))                    q = sat(x / s)          FBGEMM's CUDA ops
 *   EPS  a = max(min(amax, ub), 1e-12f), r = MAX / a, s = 1 / r         q = sat(x * r)          FBGEMM's Triton ops
 * ub is the upper bound of amax, +infinity when no scale_ub is given (a NaN bound counts as none). */
#define OCT_RULE_MIN 0
#define OCT_RULE_EPS 1

/* ---- quant: high precision to codes and scales ------------------------------------------------------------------ */

#define OCT_QUANT_SCALE_GIVEN 1 /* `scale` is an input: q = sat(x / scale) whatever the rule; scale_ub must be NULL */

/* q[i,j] = sat(x[i,j] / s) with the scope's scale s; see Rule.
 *   x      in  [m, k]  f32, bf16, f16                   row stride ldx
 *   y      out [m, k]  f8e4m3fn (other codes not yet)   row stride ldy
 *   scale  out (in with SCALE_GIVEN)  f32               shape of the scope; for GROUP and BLOCK, ld_scale is the
 *                                                       stride between its rows (K_MAJOR) or K groups (MN_MAJOR)
 *   block_m, block_k: of BLOCK and GROUP; 0 means 128. Edge blocks are smaller.
 *   valid_m in  [cdiv(m, group_m)] i64, or NULL: of the group_m rows from row g group_m on (0: m rows, one group), the first
 *               valid_m[g] count; below 0 is as 0, beyond the group as all. TENSOR: amax is over the rows that count, and all are
 *               encoded. ROW, GROUP, BLOCK, COL: a row that does not count is taken as zeros: codes 0, and for ROW and GROUP the
 *               scale of amax = 0; nothing of it is read. With SCALE_GIVEN: NULL.
 *   Infinity: an amax of infinity gives s = infinity; finite x then give 0 with x's sign, infinite x give NaN.
 *   k = 0 or m = 0: no codes; the scopes that exist (TENSOR; ROW with k = 0; COL with m = 0) get the scale of amax = 0.
 *   EXACT. Deterministic. No scratch.
 *   source: FBGEMM GenAI quantize_fp8_per_tensor, _per_row, _per_col, quantize_fp8_row, _group, _block */
typedef struct oct_quant_args {
    int64_t size;
    oct_on on;
    int32_t scaling;      /* TENSOR, ROW, COL, GROUP, BLOCK */
    int32_t rule;         /* OCT_RULE_ */
    int32_t scale_layout; /* K_MAJOR, MN_MAJOR */
    int32_t flags;        /* OCT_QUANT_ */
    int64_t m, k, block_m, block_k;
    const void *x;
    int32_t x_dtype, y_dtype;
    int64_t ldx;
    void *y;
    int64_t ldy;
    float *scale;
    int64_t ld_scale;
    const float *scale_ub;    /* in [1], or NULL; on the CPU or on the op's device */
    const int64_t *valid_m;   /* (on GPUs not yet: NULL) */
    int64_t group_m;
    const uint64_t *seed;     /* in [2]: stochastic rounding (not yet: NULL) */
    int64_t reserved[4];
} oct_quant_args;
OCT_API oct_status oct_quant(const oct_quant_args *a);
OCT_API oct_status oct_quant_check(const oct_quant_args *a, char *why, int64_t n);
OCT_API oct_status oct_quant_choice(const oct_quant_args *a, char *text, int64_t n);
OCT_API int64_t oct_quant_scratch(const oct_quant_args *a);
/* For every op:
 *   oct_<op>_check    what the op would return, and the reason in words, without running it (pointers are not read)
 *   oct_<op>_choice   names the row that would run, and why no row before it does
 *   oct_<op>_scratch  bytes of on.scratch that it needs (0: none), or a negative status. Depends on shapes only. */

/* ---- dequant: codes and scales to high precision ---------------------------------------------------------------- */

/* y[i,j] = round(scale * x[i,j]), one f32 product, then rounded to y's type.
 *   x      in  [m, k]  f8e4m3fn                         row stride ldx
 *   y      out [m, k]  f32, bf16, f16                   row stride ldy
 *   scale  in  f32, as oct_quant writes it; NONE: no scale (NULL)
 *   EXACT. Deterministic. No scratch. */
typedef struct oct_dequant_args {
    int64_t size;
    oct_on on;
    int32_t scaling;      /* NONE, TENSOR, ROW, COL, GROUP, BLOCK */
    int32_t scale_layout;
    int64_t m, k, block_m, block_k;
    const void *x;
    int32_t x_dtype, y_dtype;
    int64_t ldx;
    void *y;
    int64_t ldy;
    const float *scale;
    int64_t ld_scale;
    int64_t reserved[4];
} oct_dequant_args;
OCT_API oct_status oct_dequant(const oct_dequant_args *a);
OCT_API oct_status oct_dequant_check(const oct_dequant_args *a, char *why, int64_t n);
OCT_API oct_status oct_dequant_choice(const oct_dequant_args *a, char *text, int64_t n);
OCT_API int64_t oct_dequant_scratch(const oct_dequant_args *a);

/* ---- gemm: y = x w^T -------------------------------------------------------------------------------------------- */

#define OCT_GEMM_W_FINITE        1 /* the caller vouches that w holds no NaN: a faster row may be chosen */
#define OCT_GEMM_BATCH_INVARIANT 2 /* the bits of a row of y do not depend on m */
#define OCT_GEMM_ZERO_REST       8 /* with groups: rows of y that belong to no problem become 0 */
#define OCT_GEMM_FAST_ACCUM      4 /* GPUs: sums may stay in the tensor core; the CPU ignores it */

/* y[b,i,j] = round( sum_k s x[b,i,k] w[b,j,k]  +  bias[b,j] ),  s = sx sw: one f32 product
 *   x      in  [batch, m, k]  bf16, f8e4m3fn      row stride ldx, batch stride stride_x
 *   w      in  [batch, n, k]  bf16, f8e4m3fn      row stride ldw, batch stride stride_w (0 with batch > 1: packed;
 *                                                 OCT_BROADCAST: all batches share one w)
 *   y      out [batch, m, n]  bf16, f32           row stride ldy, batch stride stride_y
 *   bias   in  [batch, n] f32 or bf16, or NULL    batch stride stride_bias
 *   types  x bf16 and w bf16: NONE.  x f8e4m3fn and w f8e4m3fn: any scaling.
 *          x bf16 and w f8e4m3fn (weight only): NONE, TENSOR, ROW, BLOCK; there is no x_scale (NULL), sx = 1.
 *   scaling  sx                                      sw
 *     NONE   1                                       1
 *     TENSOR x_scale[b]                              w_scale[b]
 *     ROW    x_scale[b][i]                           w_scale[b][j]
 *     BLOCK  x_scale[b][i/128][k/128]                w_scale[b][j/128][k/128]     (block_m, block_n, block_k: 128 or 0)
 *     GROUP  x_scale[b][i][k/128]                    w_scale[b][j/128][k/128]
 *     Scales of a batch are packed one after another. scale_layout MN_MAJOR: x_scale [k/128][m], w_scale [k/128][n/128].
 *   groups = G > 0: G problems of unequal size in one call. (On GPUs not yet.)
 *     m_sizes  in [G] i64, memory as x's: the rows of each problem; sizes are cut at 0 and where m ends.
 *     batch = G > 1: the first m_sizes[g] rows of batch g are the problem; what lies where is as without groups.
 *     batch = 0 or 1: stacked. x [m, k] and y [m, n] hold the rows of group 0, then those of group 1, and so on; w, w_scale and bias
 *                are [G, ..], as of a batch; x_scale TENSOR [G], ROW [m], GROUP K_MAJOR [m][k/128], MN_MAJOR of each group
 *                [k/128][m_sizes[g]], one after another. BLOCK: not stacked.
 *     Rows of y that belong to no problem are not written; with OCT_GEMM_ZERO_REST they become 0. Of x they are not read.
 *   k = 0: y = bias or 0.
 *   BOUND, for T = sum_k |s x w| + |bias| and S = max |s|:  2 (k + 8) u (T + 2^-126 (1 + S + S max_k |x[i,k]|)), and rounding
 *          to y's type on top; the second part is what f32 loses near 0.
 *          CUDA, x and w f8e4m3fn: a tensor core adds 32 products at a time to a sum, keeps 14 bits of the largest term and of the
 *          result, and passes the sum on to f32 after l of k at most: l = 256, or k with FAST_ACCUM. So, for d = 35 2^-13 and
 *          every 32 of k, add  |s| d (1 + d)^(l/32) A,  A = the largest of their |x w| (with |x| and |w| below 2^-6 counted as
 *          2^-6) and of |sum x w| over up to l of k that end with them or just before. docs/formats.md has measured errors.
 *          Sums are f32: where T, or sum_k |x w| before scaling, is 2^127 or more, infinity or NaN may stand for y.
 *          NaN in x or w gives NaN in every y that it meets and touches no other; infinity in x or w gives what the
 *          formula gives; a scale s that is not finite gives a y that is not finite.
 *   Deterministic: the same bits on every run, whatever the threads. With BATCH_INVARIANT a row's bits depend neither on m nor
 *          on the other rows: one kernel then serves every m, the slower one for many rows.
 *   scratch: see oct_gemm_scratch.
 *   source: FBGEMM GenAI f8f8bf16, _tensorwise, _rowwise, _rowwise_batched, _blockwise, _groupwise, bf16fp8bf16, the grouped family */
#define OCT_BROADCAST (-1)
typedef struct oct_gemm_args {
    int64_t size;
    oct_on on;
    int32_t scaling;      /* NONE, TENSOR, ROW, BLOCK, GROUP */
    int32_t scale_layout;
    int32_t flags;        /* OCT_GEMM_ */
    int32_t w_layout;     /* 0: as stored; other values are reserved for packed weights */
    int64_t m, n, k, batch; /* batch 0 means 1 */
    int64_t block_m, block_n, block_k;
    const void *x;
    int32_t x_dtype, w_dtype;
    int64_t ldx, stride_x;
    const void *w;
    int64_t ldw, stride_w;
    const float *x_scale, *w_scale;
    const void *bias;
    int32_t bias_dtype, y_dtype;
    int64_t stride_bias;
    void *y;
    int64_t ldy, stride_y;
    const int64_t *m_sizes;   /* rows of each group, or NULL */
    int64_t groups;           /* 0: none */
    int64_t reserved[4];
} oct_gemm_args;
OCT_API oct_status oct_gemm(const oct_gemm_args *a);
OCT_API oct_status oct_gemm_check(const oct_gemm_args *a, char *why, int64_t n);
OCT_API oct_status oct_gemm_choice(const oct_gemm_args *a, char *text, int64_t n);
OCT_API int64_t oct_gemm_scratch(const oct_gemm_args *a);

/* ---- norm_quant: residual add, RMSNorm, quantize ---------------------------------------------------------------- */

/* h[i,j] = x[i,j] + residual[i,j]      (h = x without residual), rounded to the type of residual_out when that is given
 * r[i]   = 1 / sqrt(mean_j h[i,j]^2 + eps)
 * v[i,j] = h[i,j] r[i] weight[j]
 * y[i,j] = round(v[i,j])               y bf16 or f32: scaling NONE
 *        = sat(v[i,j] / s)             y f8e4m3fn: scaling ROW or GROUP; s by rule from amax of v
 *   x            in  [m, k]  bf16, f32                        row stride ldx
 *   residual     in  [m, k]  residual_dtype: bf16, f32; or NULL         ld_residual
 *   residual_out out [m, k]  residual_dtype; or NULL; may be `residual` (in place)   ld_residual_out
 *   weight       in  [k]     bf16, f32; NULL: 1
 *   y            out [m, k]  bf16, f32, f8e4m3fn              row stride ldy
 *   scale        out f32     [m] or [m][cdiv(k, block_k)], layout and ld_scale as in quant; block_k 0 means 128
 *   residual_out: EXACT (one f32 addition, rounded).
 *   y: STEP, v within (k/2 + 8) u |v|; scale within the same relative bound, plus 2 u.
 *   Deterministic; a row's bits do not depend on m. No scratch. */
typedef struct oct_norm_quant_args {
    int64_t size;
    oct_on on;
    int32_t scaling;      /* NONE, ROW, GROUP */
    int32_t rule, scale_layout, flags;
    int64_t m, k, block_k;
    const void *x;
    int32_t x_dtype, residual_dtype;
    int64_t ldx;
    const void *residual;
    int64_t ld_residual;
    void *residual_out;
    int64_t ld_residual_out;
    const void *weight;
    int32_t weight_dtype, y_dtype;
    float eps;
    int32_t reserved0;
    void *y;
    int64_t ldy;
    float *scale;
    int64_t ld_scale;
    const float *scale_ub;
    int64_t reserved[4];
} oct_norm_quant_args;
OCT_API oct_status oct_norm_quant(const oct_norm_quant_args *a);
OCT_API oct_status oct_norm_quant_check(const oct_norm_quant_args *a, char *why, int64_t n);
OCT_API oct_status oct_norm_quant_choice(const oct_norm_quant_args *a, char *text, int64_t n);
OCT_API int64_t oct_norm_quant_scratch(const oct_norm_quant_args *a);

/* ---- silu_mul_quant: the gate of SwiGLU, and quantize ------------------------------------------------------------ */

/* v[i,j] = gate / (1 + exp(-gate)) * up
 * y[i,j] = round(v) or sat(v / s), as in norm_quant
 *   gate, up  in  [m, k]  bf16, f32 (one dtype for both)      row strides ld_gate, ld_up
 *   y         out [m, k]  bf16, f32, f8e4m3fn                 row stride ldy
 *   scale     out as in norm_quant
 *   y: STEP, v within 16 u |v| + 2^-126 |up| + 2^-150; scale within the same, plus 2 u relative.
 *   gate = -infinity gives NaN when the exponential meets it as 0 * infinity is avoided: the result is -0 * up.
 *   gate = NaN or up = NaN: NaN. Deterministic; a row's bits do not depend on m. No scratch. */
typedef struct oct_silu_mul_quant_args {
    int64_t size;
    oct_on on;
    int32_t scaling;      /* NONE, ROW, GROUP */
    int32_t rule, scale_layout, flags;
    int64_t m, k, block_k;
    const void *gate;
    int64_t ld_gate;
    const void *up;
    int64_t ld_up;
    int32_t x_dtype, y_dtype;
    void *y;
    int64_t ldy;
    float *scale;
    int64_t ld_scale;
    const float *scale_ub;
    int64_t reserved[4];
} oct_silu_mul_quant_args;
OCT_API oct_status oct_silu_mul_quant(const oct_silu_mul_quant_args *a);
OCT_API oct_status oct_silu_mul_quant_check(const oct_silu_mul_quant_args *a, char *why, int64_t n);
OCT_API oct_status oct_silu_mul_quant_choice(const oct_silu_mul_quant_args *a, char *text, int64_t n);
OCT_API int64_t oct_silu_mul_quant_scratch(const oct_silu_mul_quant_args *a);

/* ---- The KV cache ------------------------------------------------------------------------------------------------ */

/* One row holds the key (or value) of one token and KV head. Row contents, d = head size, all little endian:
 *   BF16            2 d bytes       values
 *   F8_TOKEN        4 + d bytes     f16 scale, f16 shift, then d f8e4m3fn codes       value = scale code + shift
 *   I4              4 G + d/2 bytes G pairs (f16 scale, f16 shift), then d/2 bytes; byte i holds element 2i in its low
 *                                   and 2i+1 in its high nibble, unsigned; group g covers [g d/G, (g+1) d/G)
 *   F8_TOKEN_OUT    d bytes         codes; (f16 scale, f16 shift) pairs in k_param, v_param                (not yet)
 *   F8_HEAD         d bytes         codes; one f32 scale a lane and head in k_param, v_param               (not yet)
 * How values become rows. mn, mx are over the row, or the group of I4, a zero of either sign counting as +0. Every
 * operation is one correctly rounded f32 operation unless said; min, max and clamping ignore NaN (the other operand
 * is the result; none at all: mn = +inf, mx = -inf). So the bits are defined for every input, the same in all rows
 * and backends; what a row (group) with NaN or infinity means is of no use, and nothing outside it is touched:
 *   F8_TOKEN  half = min((mx - mn) / 2, 32750); scale = max(half / 448, 1/(448 512)); shift = mn + 448 scale;
 *             code = sat(fma(x, 1/scale, -shift/scale)), NaN 0x7F; stored: f16(scale), f16(shift)
 *   I4        scale = (mx - mn) / 15; inv = f32(15 / (scale 15 + 1e-8)) with the parenthesis in double;
 *             code = round((x - mn) inv) clamped to 0..15, NaN 0; stored: f16(scale), f16(mn)
 *   BF16      bf16(x)
 * What a row means, for kv_dequant and attn: scale * code + shift, unrounded, with the stored f16 parameters.
 *
 * Where row (lane b, token t, head h) lies, in k and alike in v:
 *   page = page_table ? page_table[b ld_page_table + t / page_size] : b         (a contiguous cache has a page a lane)
 *   at     page page_bytes + (t % page_size) token_bytes + h head_bytes
 * A page holds [token][head] rows (token_bytes >= heads head_bytes) or [head][token] rows (head_bytes >= page_size
 * token_bytes); rows may lie apart, and may not overlap. Strides of 0 mean packed: head_bytes = bytes of a row,
 * token_bytes = heads head_bytes, page_bytes = the larger of page_size token_bytes and heads head_bytes; so [head][token]
 * gives head_bytes and token_bytes. FBGEMM's contiguous cache [B, MAX_T, H, ROW]: page_size = MAX_T, pages = B. Its paged
 * cache: page_table. */
#define OCT_KV_BF16         1
#define OCT_KV_F8_TOKEN     2
#define OCT_KV_I4           3
#define OCT_KV_F8_TOKEN_OUT 4
#define OCT_KV_F8_HEAD      5

typedef struct oct_kv {
    int64_t size;
    int32_t format;      /* OCT_KV_ */
    int32_t groups;      /* I4: 1, 2, 4, 8 (0 means 1) with d % (2 groups) == 0 */
    int32_t high_first;  /* I4: 0: element 2i in the low nibble; 1: in the high nibble (not yet) */
    int32_t reserved0;
    int64_t heads, d;    /* KV heads, head size (even, at most 2048; F8_TOKEN: 4 | d keeps parameters aligned, not required) */
    int64_t pages;       /* pages that k and v hold; page numbers are below it */
    int64_t page_size;   /* tokens a page, > 0 */
    int64_t lanes;       /* sequences: rows of page_table; = pages when contiguous (0 means that) */
    void *k, *v;
    int64_t page_bytes, token_bytes, head_bytes;
    const int32_t *page_table; /* [lanes][ld_page_table], or NULL */
    int64_t ld_page_table;     /* also: pages a lane can have */
    void *k_param, *v_param;   /* (not yet: NULL) */
    int64_t reserved[6];
} oct_kv;
OCT_API int64_t oct_kv_row_bytes(const oct_kv *kv); /* of one row; negative status when the format is wrong */
OCT_API int64_t oct_kv_bytes(const oct_kv *kv);     /* that k must hold, and v likewise */

/* ---- rope_kv: rotate q and k, append k and v to the cache -------------------------------------------------------- */

#define OCT_ROPE_INTERLEAVED 0 /* pairs (x[2j], x[2j+1])       Meta, FBGEMM */
#define OCT_ROPE_HALF        1 /* pairs (x[j], x[j + d/2])     Hugging Face */
#define OCT_ROPE_NONE        2 /* no rotation: append only (q is copied) */

/* The frequencies. f_j = theta^(-2j/d), j = 0 .. d/2 - 1. With scaling == 1 (Llama 3.1), wl = 2 pi / f_j:
 *   wl < old_context / high_freq: f_j.   wl > old_context / low_freq: f_j / factor.   between: with
 *   s = (old_context / wl - low_freq) / (high_freq - low_freq): (1 - s) f_j / factor + s f_j */
typedef struct oct_rope {
    float theta;      /* 500000 for Llama 3 */
    int32_t scaling;  /* 0: plain, 1: Llama 3.1 */
    float factor, low_freq, high_freq, old_context;
    int32_t reserved[2];
} oct_rope;

/* Fills table[p][0 .. d/2) with cos((first + p) f_j) and table[p][d/2 .. d) with sin, each computed in double and
 * rounded to f32. n positions. EXACT up to the C library's double functions. */
OCT_API oct_status oct_rope_table(const oct_rope *rope, int64_t d, int64_t first, int64_t n, float *table);

/* For each token i with pos[i] >= 0, with c, s = cos, sin of pos[i] f_j:
 *   q_out[i,h]    = round( (y0, y1) for each pair (x0, x1) of q[i,h] ),  y0 = fma(x0, c, -(x1 s))
 *                                                                        y1 = fma(x1, c,   x0 s)    in f32
 *   cache row of k at (lane[i], slot[i], h) = store( the same of k[i,h], not rounded to bf16 first )
 *   k_out[i,h]                              = round( the same )
 *   cache row of v                          = store( v[i,h] )
 * With OCT_ROPE_KV_NORM every rotated head y of q and of k (with NONE: every head of q and k) becomes, e = 0 .. d-1,
 *   y[e] r,  r = 1 / sqrt(S / d + norm_eps),  S = sum_e y[e]^2       (a head of zeros stays one: r = 1 where S + norm_eps = 0)
 *   in f64, operation by operation, the product rounded to f32 at last. S by halves: y squared, zeros behind up to a power of
 *   two n; then s[e] += s[e + n/2] for e < n/2, n halved, until one is left. So the bits are defined.
 * pos[i] = -1 skips the token: nothing of it is read or written.
 *   q      in  [t, heads, d]     bf16   strides ldq (token), head_q     may be NULL: k and v only
 *   q_out  out [t, heads, d]     bf16   strides ldq_out, head_q_out     may be q (in place, same strides)
 *   k, v   in  [t, kv.heads, d]  bf16   strides ldk, head_k, ldv, head_v
 *   k_out  out [t, kv.heads, d]  bf16   strides ldk_out, head_k_out     NULL: none; may be k (in place, same strides); needs kv
 *   pos    in  [t] i32   position, the angle
 *   slot   in  [t] i32   token index in the lane; NULL: pos
 *   lane   in  [t] i32   NULL: i (decoding: one token a lane)
 *   table  in  [table_len][d] f32 from oct_rope_table(first = 0), the fast way; a position outside it, or no table,
 *              uses `rope`
 *   kv     cache written; NULL: q only
 *   valid_t in [1] i64, or NULL: tokens i >= valid_t[0] are skipped and nothing is read of them, pos[i] included (a graph's
 *              batch that is not full); below 0 is as 0, above t as t
 * Two tokens of one call must not share (lane, slot). Lane, slot and page numbers out of range are found before
 * anything is written: OCT_E_VALUE.
 *   EXACT, with c and s from the table, and without one too: then they are computed as oct_rope_table does, which is
 *   exact up to the C library's double functions. A rotated value, before NORM, lies within 4 u (|x0| + |x1|) of the real one: u |x|
 *   each for c or s as rounded in the table, u |x1 s| for the product and u |y0| for the fma.
 *   Deterministic. No scratch.
 *   source: FBGEMM GenAI rope_qkv_varseq_prefill, rope_qkv_decoding, nope_qkv_* */
#define OCT_ROPE_KV_NORM 1 /* the heads of q and k are divided by their root mean square */

typedef struct oct_rope_kv_args {
    int64_t size;
    oct_on on;
    int32_t pairs;  /* OCT_ROPE_ */
    int32_t flags;  /* OCT_ROPE_KV_ */
    int64_t t, heads, d;
    const void *q;
    int64_t ldq, head_q;
    void *q_out;
    int64_t ldq_out, head_q_out;
    const void *k;
    int64_t ldk, head_k;
    const void *v;
    int64_t ldv, head_v;
    int32_t dtype;  /* of q, q_out, k, v, k_out: OCT_BF16 */
    float norm_eps; /* >= 0; FBGEMM's k_norm has none: 0 */
    const int32_t *pos, *slot, *lane;
    oct_rope rope;
    const float *table;
    int64_t table_len;
    const oct_kv *kv;
    void *k_out;
    int64_t ldk_out, head_k_out;
    const int64_t *valid_t;
    int64_t reserved[4];
} oct_rope_kv_args;
OCT_API oct_status oct_rope_kv(const oct_rope_kv_args *a);
OCT_API oct_status oct_rope_kv_check(const oct_rope_kv_args *a, char *why, int64_t n);
OCT_API oct_status oct_rope_kv_choice(const oct_rope_kv_args *a, char *text, int64_t n);
OCT_API int64_t oct_rope_kv_scratch(const oct_rope_kv_args *a);

/* ---- kv_dequant: a cache's values -------------------------------------------------------------------------------- */

/* k_out[b,t,h,:] = round(scale code + shift) of cache row (b, t, h) for t < len[b], 0 for len[b] <= t < max_t; v alike.
 *   len           in  [kv.lanes] i32; 0 <= len[b] <= max_t, and no more than the lane's capacity
 *   k_out, v_out  out [kv.lanes, max_t, kv.heads, d]  bf16, f32; strides lane_out, token_out, head_out (both alike);
 *                 either may be NULL
 *   One fma in f32, then rounded: EXACT. Deterministic. No scratch. */
typedef struct oct_kv_dequant_args {
    int64_t size;
    oct_on on;
    const oct_kv *kv;
    const int32_t *len;
    int64_t max_t;
    void *k_out, *v_out;
    int32_t y_dtype, reserved0;
    int64_t lane_out, token_out, head_out;
    int64_t reserved[4];
} oct_kv_dequant_args;
OCT_API oct_status oct_kv_dequant(const oct_kv_dequant_args *a);
OCT_API oct_status oct_kv_dequant_check(const oct_kv_dequant_args *a, char *why, int64_t n);
OCT_API oct_status oct_kv_dequant_choice(const oct_kv_dequant_args *a, char *text, int64_t n);
OCT_API int64_t oct_kv_dequant_scratch(const oct_kv_dequant_args *a);

/* ---- attn: grouped-query attention over a KV cache --------------------------------------------------------------- */

/* For query token i and head h, with g = h / (heads / kv.heads), b = lane[i], n = len[i], K and V the cache's values:
 *   s[t] = scale sum_e q[i,h,e] K[b,t,g,e]      t = 0 .. n-1
 *   p[t] = exp(s[t] - max s) / sum exp(s - max s)
 *   y[i,h,:] = round( sum_t p[t] V[b,t,g,:] )   n = 0: zeros
 * With splits = S > 0, for split j of token i, tokens T = [j w, min(n, (j+1) w)) with w = cdiv(n, S):
 *   y_max[i,j,h]   = max s[t]     y_sum[i,j,h] = sum exp(s[t] - y_max)     y_split[i,j,h,:] = sum exp(s[t] - y_max) V[b,t,g,:]
 *   over t in T; no tokens, or no score above -infinity: -infinity, 0, 0. So y = sum_j f_j y_split / sum_j f_j y_sum with
 *   f_j = exp(y_max[j] - max_j y_max).
 * Decoding: one token a lane, len = tokens in the lane. Causal prefill: tokens of a lane in order, len = position + 1;
 * consecutive tokens of one lane share the reading of the cache.
 *   q    in  [t, heads, d]  bf16        strides ldq (token), head_q
 *   y    out [t, heads, d]  bf16, f32   strides ldy, head_y
 *   len  in  [t] i32   0 <= len[i] <= the lane's capacity
 *   lane in  [t] i32   NULL: i
 *   y_max, y_sum  out [t, S, heads] f32      token stride ld_split (0: S heads) of both; each may be NULL, as may y_split
 *   y_split       out [t, S, heads, d] f32   packed
 *   scale: 0 means 1/sqrt(d)
 *   heads % kv.heads == 0.
 *   BOUND: e = 4 (d + 8) u |scale| max_t sum_e |q K| + 2^-149 (d + 2 + max_t sum_e |K|) is the error of a score, the second part
 *          what f32 loses near 0;
 *          |y - exact| <= (2 e + 8 (n + 16) u) max_t |V[b,t,g,:]| + 2^-126 elementwise, and rounding to y's type on top;
 *          as long as these scores and n max |V| are far below f32's largest number. NaN or +infinity among a row's
 *          scores: NaN. An infinity in V shows as infinity or NaN.
 *          With max_t and n of the split's tokens: |y_max - exact| <= e;  y_sum and y_split: within exp(2 e) - 1 + 8 (n + 16) u
 *          of the exact y_sum, for y_split times max_t |V[b,t,g,:]|, + n 2^-125 (1 + max_t |V|).
 *   Deterministic; a token's bits depend neither on the other tokens of the call nor on the threads, but on splits.
 *   scratch: see oct_attn_scratch.
 *   source: FBGEMM GenAI gqa_attn_splitk, mqa_attn; lifted to any head size, KV heads, length, pages and prefill */
typedef struct oct_attn_args {
    int64_t size;
    oct_on on;
    int64_t t, heads, d;
    const void *q;
    int64_t ldq, head_q;
    int32_t q_dtype, y_dtype;
    void *y;
    int64_t ldy, head_y;
    const int32_t *len, *lane;
    const oct_kv *kv;
    float scale;
    int32_t window;       /* sliding window (not yet: 0) */
    int32_t splits, flags;/* 0: no split outputs; flags: none yet */
    float *y_max, *y_sum, *y_split;
    int64_t ld_split;
    int64_t reserved[4];
} oct_attn_args;
OCT_API oct_status oct_attn(const oct_attn_args *a);
OCT_API oct_status oct_attn_check(const oct_attn_args *a, char *why, int64_t n);
OCT_API oct_status oct_attn_choice(const oct_attn_args *a, char *text, int64_t n);
OCT_API int64_t oct_attn_scratch(const oct_attn_args *a);

#ifdef __cplusplus
}
#endif
#endif
