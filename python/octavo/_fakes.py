"""Shapes and dtypes of every operator's results, by its name: what torch.compile, torch.export and device="meta" ask for."""
import torch

F8, BF16, F32 = torch.float8_e4m3fn, torch.bfloat16, torch.float32
fakes = {}


def fake(*names):
    def add(function):
        fakes.update(dict.fromkeys(names or (function.__name__,), function))
        return function
    return add


def _rows(x):
    n = 1
    for size in x.shape[:-1]:
        n *= size
    return n


def _cdiv(a, b):
    return (a + b - 1) // b


# ---- quant.c


@fake()
def quantize_fp8_per_row(input, bs=None, scale_ub=None, output_dtype=None, stochastic_rounding=False):
    return [input.new_empty(input.shape, dtype=F8), input.new_empty(_rows(input), dtype=F32)]


@fake()
def quantize_fp8_per_tensor(input, bs=None, scale_ub=None, stochastic_rounding=False):
    return [input.new_empty(input.shape, dtype=F8), input.new_empty((), dtype=F32)]


@fake()
def quantize_fp8_per_col(input, bs=None, scale_ub=None):
    return [input.new_empty(input.shape, dtype=F8), input.new_empty(input.shape[-1], dtype=F32)]


@fake()
def get_fp8_per_tensor_scale(input, bs=None, scale_ub=None):
    return input.new_empty(1, dtype=F32)


@fake()
def quantize_fp8_per_tensor_fixed_scale(input, scale, bs=None, stochatic_rounding=False):
    return input.new_empty(input.shape, dtype=F8)


@fake()
def quantize_fp8_row(a, scale_ub=None, align_rows_to=1):
    columns = _cdiv(a.shape[-1], align_rows_to) * align_rows_to
    return a.new_empty((*a.shape[:-1], columns), dtype=F8), a.new_empty(a.shape[:-1], dtype=F32)


@fake()
def quantize_fp8_block(x, block_m=256, block_k=256, scale_ub=None, k_major=True):
    m, k = _cdiv(_rows(x), block_m), _cdiv(x.shape[-1], block_k)
    return x.new_empty(x.shape, dtype=F8), x.new_empty((m, k) if k_major else (k, m), dtype=F32)


@fake()
def quantize_fp8_group(x, group_size=128, scale_ub=None, k_major=True):
    m, k = _rows(x), _cdiv(x.shape[-1], group_size)
    return x.new_empty(x.shape, dtype=F8), x.new_empty((m, k) if k_major else (k, m), dtype=F32)


@fake("dequantize_fp8_row", "dequantize_fp8_block")
def dequantize(xq, xs, block_m=256, block_k=256):
    return xq.new_empty(xq.shape, dtype=BF16)


# ---- gemm.c, grouped.c


@fake("f8f8bf16", "f8f8bf16_tensorwise")
def tensor_scaled(XQ, WQ, scale, use_fast_accum=True):
    return XQ.new_empty((*XQ.shape[:-1], WQ.shape[0]), dtype=BF16)


@fake()
def f8f8bf16_lite(XQ, WQ, scale):
    return XQ.new_empty((*XQ.shape[:-1], WQ.shape[0]), dtype=BF16)


@fake()
def f8f8bf16_cublas(A, B, Ainvs=None, Binvs=None, use_fast_accum=True, output=None):
    return A.new_empty((*A.shape[:-1], B.shape[0]), dtype=BF16) if output is None else output


@fake()
def f8f8bf16_rowwise(XQ, WQ, x_scale, w_scale, bias=None, use_fast_accum=True):
    return XQ.new_empty((*XQ.shape[:-1], WQ.shape[0]), dtype=BF16)


@fake()
def f8f8bf16_rowwise_out(XQ, WQ, x_scale, w_scale, output, bias=None, use_fast_accum=True):
    return None


@fake()
def f8f8bf16_rowwise_batched(XQ, WQ, x_scale, w_scale, bias=None, use_fast_accum=True, output=None):
    return XQ.new_empty((*XQ.shape[:-1], WQ.shape[1]), dtype=BF16) if output is None else output


@fake("f8f8bf16_blockwise", "f8f8bf16_groupwise")
def block_scaled(XQ, WQ, x_scale, w_scale, block_m=128, block_n=128, block_k=128):
    return XQ.new_empty((*XQ.shape[:-1], WQ.shape[0]), dtype=BF16)


@fake("bf16_fast_gemv", "bf16fp8bf16_fast_gemv")
def gemv(X, W, w_scale=None):
    return X.new_empty((*X.shape[:-1], W.shape[0]), dtype=BF16)


@fake()
def fp8fp8bf16_fast_gemv(X, W, x_scale, w_scale, is_batched=False):
    return X.new_empty((*X.shape[:-1], W.shape[-2]), dtype=BF16)


@fake()
def matmul_fp8_row(a, b, a_scale, b_scale, bias=None, dtype=None, fast_accum=True):
    return a.new_empty((*a.shape[:-1], b.shape[0]), dtype=dtype or BF16)


@fake()
def matmul_fp8_block(a, b, a_scale, b_scale, dtype=None, fast_accum=True):
    return a.new_empty((*a.shape[:-1], b.shape[0]), dtype=dtype or BF16)


@fake("f8f8bf16_rowwise_grouped", "bf16bf16bf16_grouped")
def grouped(X, W, x_scale=None, w_scale=None):
    return [x.new_empty((x.shape[0], w.shape[0]), dtype=BF16) for x, w in zip(X, W)]


@fake("f8f8bf16_rowwise_grouped_cat", "bf16bf16bf16_grouped_cat")
def grouped_cat(X, W, x_scale=None, w_scale=None):
    return X[0].new_empty((sum(x.shape[0] for x in X), W[0].shape[0]), dtype=BF16)


@fake("f8f8bf16_rowwise_grouped_stacked", "f8f8bf16_groupwise_grouped")
def stacked(XQ, WQ, x_scale, w_scale, M_sizes):
    return XQ.new_empty((XQ.shape[0], WQ.shape[1]), dtype=BF16)


@fake()
def bf16bf16bf16_grouped_stacked(X, W, M_sizes, out=None, num_sms=None):
    return X.new_empty((X.shape[0], W.shape[1])) if out is None else out


@fake("f8f8bf16_rowwise_grouped_dynamic", "bf16bf16bf16_grouped_dynamic")
def dynamic(X, W, *rest):
    return X.new_empty((X.shape[0], X.shape[1], W.shape[1]), dtype=BF16)


# ---- fused.c


def _quantized(x, group_size):
    scales = (*x.shape[:-1], _cdiv(x.shape[-1], group_size)) if group_size else x.shape[:-1]
    return x.new_empty(x.shape, dtype=F8), x.new_empty(scales, dtype=F32)


@fake()
def norm(x, weight=None, eps=1e-5, residual=None, dtype=None):
    return x.new_empty(x.shape, dtype=dtype or BF16)


@fake()
def norm_quant(x, weight=None, eps=1e-5, residual=None, group_size=0, scale_ub=None, rule=0):
    return _quantized(x, group_size)


@fake()
def silu_mul(gate, up):
    return gate.new_empty(gate.shape)


@fake()
def silu_mul_quant(gate, up, group_size=0, scale_ub=None, rule=0):
    return _quantized(gate, group_size)


# ---- rope.c, attn.c


@fake("rope_qkv_varseq_prefill", "rope_qkv_decoding", "nope_qkv_varseq_prefill", "nope_qkv_decoding", "rope_kv")
def rotated(XQ, *args, **kwargs):
    return XQ.new_empty(XQ.shape)


@fake()
def gqa_attn_splitk(XQ, cache_K, cache_V, seq_positions, qk_scale, num_split_ks, *args, **kwargs):
    b, _, h, d = XQ.shape
    return XQ.new_empty(XQ.shape), XQ.new_empty((b, num_split_ks, h, d), dtype=F32), XQ.new_empty((b, 2, num_split_ks, h), dtype=F32)


@fake()
def mqa_attn(XQ, *args, **kwargs):
    return XQ.new_empty(XQ.shape)


@fake()
def dequantize_int4_cache(cache_K, cache_V, kv_seqlen, num_groups=1, qparam_k=None, qparam_v=None):
    shape = (*cache_K.shape[:-1], 2 * (cache_K.shape[-1] - 4 * (num_groups or 1)))
    return cache_K.new_empty(shape, dtype=BF16), cache_K.new_empty(shape, dtype=BF16)


@fake()
def dequantize_fp8_cache(cache_K, cache_V, kv_seqlen, qparam_k=None, qparam_v=None, block_tables=None, page_size=64):
    shape = (*cache_K.shape[:-1], cache_K.shape[-1] - 4)
    return cache_K.new_empty(shape, dtype=BF16), cache_K.new_empty(shape, dtype=BF16)


@fake()
def attn(q, cache_K, cache_V, len, lane=None, scale=None, cache_logical_dtype_int=0, num_groups=1, block_tables=None, page_size=64, dtype=None):
    return q.new_empty(q.shape, dtype=dtype or BF16)
