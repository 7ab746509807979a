"""torch.ops.octavo.*, and the same as torch.ops.fbgemm.* and torch.ops.mslk.* where nobody else has or will have them; the functions of
FBGEMM's Triton module. All work is in liboctavo: here are names, shapes for torch.compile, and defaults."""
import ctypes
import importlib.util
import os
import sys

_floor = "octavo.torch needs torch 2.10 or later (tested: 2.11, 2.13)"
_rest = "`import octavo` and the command line work without torch"
try:
    import torch
except ImportError as e:
    raise ImportError(f"{_floor}, and torch cannot be imported: {e}. {_rest}.") from e

from octavo import fbgemm as _fbgemm

_library = ctypes.CDLL(os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib", "liboctavo_torch.so"))
_taken_t, _added_t = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p), ctypes.CFUNCTYPE(None, ctypes.c_char_p)


def register(namespace):
    """Adds the operators of "octavo", "fbgemm" or "mslk" that nobody has defined yet; returns their names. Safe to call again.
    A library that defines the same operators in C++ and is loaded afterwards would abort the process: see docs/python.md."""
    names, text = [], ctypes.create_string_buffer(256)
    taken = _taken_t(lambda name: torch._C._dispatch_has_kernel(name.decode()))
    status = _library.octavo_torch_register(namespace.encode(), taken, _added_t(lambda name: names.append(name.decode())), text,
                                            ctypes.c_int64(len(text)))
    if status < 0:
        raise ImportError(f"{_floor}; this is torch {torch.__version__}, and {text.value.decode()}. {_rest}.")
    from octavo._fakes import fakes  # names what an old torch lacks

    for name in names:
        if not torch._C._dispatch_has_kernel_for_dispatch_key(name, "Meta"):
            torch.library.register_fake(name, fakes[name.split("::")[1]])
    return names


def _may_come(package):
    """Whether a real package that defines operators could still be imported."""
    if package == "fbgemm":
        return _fbgemm.installed() and "fbgemm_gpu.experimental.gen_ai" not in sys.modules
    return package not in sys.modules and importlib.util.find_spec(package) is not None


register("octavo")
for _namespace in ("fbgemm", "mslk"):
    if not _may_come(_namespace):
        register(_namespace)

# ---- FBGEMM's Triton module: fbgemm_gpu.experimental.gemm.triton_gemm.fp8_gemm ---------------------------------------------------

triton_functions = ["quantize_fp8_row", "quantize_fp8_block", "quantize_fp8_group", "triton_quantize_fp8_row", "triton_quantize_fp8_block",
                    "triton_quantize_fp8_group", "dequantize_fp8_row", "dequantize_fp8_block", "scale_fp8_row", "matmul_fp8_row",
                    "matmul_fp8_block"]
__all__ = ["register"] + triton_functions
_ops = torch.ops.octavo


def _to(device, *tensors):
    return tensors if device is None else tuple(t.to(device) for t in tensors)


def triton_quantize_fp8_row(a, scale_ub=None, zero_start_index_M=None, align_rows_to=None):
    """Codes like `a`, a scale for each row of its last dimension. Rows from zero_start_index_M[batch] on become zeros."""
    if zero_start_index_M is not None:
        rows = torch.arange(a.shape[-2], device=a.device) < zero_start_index_M.reshape(a.shape[:-2]).unsqueeze(-1)
        a = torch.where(rows.unsqueeze(-1), a, torch.zeros((), dtype=a.dtype, device=a.device))
    return _ops.quantize_fp8_row(a, scale_ub, align_rows_to or 1)


def quantize_fp8_row(a, scale_ub=None, zero_start_index_M=None, use_triton=True, output_device=None, align_rows_to=None):
    return _to(output_device, *triton_quantize_fp8_row(a, scale_ub, zero_start_index_M, align_rows_to))


def triton_quantize_fp8_block(x, block_m=256, block_k=256, scale_ub=None, k_major=True):
    """A scale a block: [M / block_m, K / block_k], both rounded up, or its transpose. Leading dimensions count as rows."""
    q, scale = _ops.quantize_fp8_block(x, block_m, block_k, scale_ub, k_major)
    return q, scale


def quantize_fp8_block(x, block_m=256, block_k=256, scale_ub=None, use_triton=True, output_device=None, k_major=True):
    return _to(output_device, *triton_quantize_fp8_block(x, block_m, block_k, scale_ub, k_major))


def triton_quantize_fp8_group(x, group_size=128, scale_ub=None, m_sizes=None, k_major=True):
    """A scale for group_size elements of a row: [M, K / group_size], or its transpose. With m_sizes the transpose is made for each
    group of rows on its own and they lie one after another, in a tensor that is still called [M, K / group_size]."""
    if m_sizes is None:
        return _ops.quantize_fp8_group(x, group_size, scale_ub, k_major)
    q, scale = _ops.quantize_fp8_group(x, group_size, scale_ub, True)
    m, groups = scale.shape
    ends, row = m_sizes.to(scale.device, torch.int64).cumsum(0), torch.arange(m, device=scale.device)
    ends, sizes = torch.cat([ends, ends.new_full((1,), m)]), torch.cat([m_sizes.to(ends), (m - ends[-1:])])
    g = torch.searchsorted(ends[:-1], row, right=True)  # rows behind the last group make one more
    start = ends[g] - sizes[g]
    to = (start * groups + row - start).unsqueeze(1) + torch.arange(groups, device=row.device) * sizes[g].unsqueeze(1)
    return q, torch.empty_like(scale).view(-1).index_copy(0, to.reshape(-1), scale.reshape(-1)).view(m, groups)


def quantize_fp8_group(x, group_size=128, scale_ub=None, m_sizes=None, k_major=True, use_triton=True, output_device=None):
    return _to(output_device, *triton_quantize_fp8_group(x, group_size, scale_ub, m_sizes, k_major))


def dequantize_fp8_row(xq, xs):
    return _ops.dequantize_fp8_row(xq, xs)


def dequantize_fp8_block(xq, xs, block_m=256, block_k=256):
    return _ops.dequantize_fp8_block(xq, xs, block_m, block_k)


def scale_fp8_row(a, x_scale, w_scale):
    """a[m, n] x_scale[m] w_scale[n], the product in float32, in a's dtype."""
    return (a.float() * x_scale.reshape(-1, 1) * w_scale.reshape(1, -1)).to(a.dtype)


def matmul_fp8_row(a, b, a_scale, b_scale, bias=None, dot_out_dtype=None, allow_tf32=True, fp8_fast_accum=True, imprecise_acc=False,
                   tma_persistent=True, no_use_persistent=None, use_persistent=None, use_warp_specialization=False):
    """a [.., M, K] b [N, K]^T with a scale a row of each; a_scale None: 1. What chooses among Triton's kernels has no meaning here."""
    return _ops.matmul_fp8_row(a, b, a_scale, b_scale, bias, dot_out_dtype, fp8_fast_accum)


def matmul_fp8_block(a, b, a_scale, b_scale, scale_block_m=256, scale_block_n=256, scale_block_k=256, dot_out_dtype=None,
                     allow_tf32=True, fp8_fast_accum=True):
    """a [M, K] b [N, K]^T with a scale a block. The kernel has blocks of 128; larger ones are repeated."""
    for name, block in ("scale_block_m", scale_block_m), ("scale_block_n", scale_block_n), ("scale_block_k", scale_block_k):
        if block < 128 or block % 128:
            raise RuntimeError(f"matmul_fp8_block: {name} is {block}; it must be a multiple of 128")

    def blocks(scale, rows, block):
        scale = scale.repeat_interleave(block // 128, 0).repeat_interleave(scale_block_k // 128, 1)
        return scale[: -(-rows // 128), : -(-a.shape[-1] // 128)].contiguous()

    return _ops.matmul_fp8_block(a, b, blocks(a_scale, a.shape[0], scale_block_m), blocks(b_scale, b.shape[0], scale_block_n),
                                 dot_out_dtype, fp8_fast_accum)
