"""FBGEMM's operators from octavo, eager and compiled: quantize, multiply, append to a paged INT4 cache, attend."""
import torch

import octavo.torch  # the one line that changes where fbgemm_gpu.experimental.gen_ai was imported

f = torch.ops.fbgemm
x, w = torch.randn(4, 512), torch.randn(256, 512)


@torch.compile(fullgraph=True, backend="aot_eager")
def linear(x, w):
    xq, xs = f.quantize_fp8_per_row(x, scale_ub=torch.tensor([1200.0]))
    wq, ws = f.quantize_fp8_per_row(w)
    return f.f8f8bf16_rowwise(xq, wq, xs, ws)


y = linear(x, w).float()
exact = x @ w.T
print(f"FP8 x FP8, 4 x 256 x 512: relative error {(y - exact).norm() / exact.norm():.3f}")

# Two sequences, pages of 4 tokens in any order; head size 64, 2 KV heads, INT4 with 1 group: 32 + 4 bytes a row
heads, kv_heads, d, logical_int4 = 8, 2, 64, 2
cache_k, cache_v = (torch.zeros(1, 6 * 4, kv_heads, d // 2 + 4, dtype=torch.uint8) for _ in range(2))
pages = torch.tensor([[4, 0, 2], [1, 5, 3]], dtype=torch.int32)
lane, position = torch.tensor([0] * 9 + [1] * 5, dtype=torch.int32), torch.tensor([*range(9), *range(5)], dtype=torch.int32)
q, k, v = (torch.randn(14, h, d).bfloat16() for h in (heads, kv_heads, kv_heads))
q = f.rope_qkv_varseq_prefill(q, k, v, cache_k, cache_v, lane, position, 10000.0, 1, pages, 4, cache_logical_dtype_int=logical_int4)
out = torch.ops.octavo.attn(q, cache_k, cache_v, position + 1, lane, None, logical_int4, 1, pages, 4)
first = out[0].float() - v[0].repeat_interleave(heads // kv_heads, 0).float()
print(f"causal attention over the cache: {tuple(out.shape)}; a first token sees itself alone, to within INT4: {first.abs().max():.2f}")

try:
    f.f8f8bf16_rowwise(x, w, x[:, 0], w[:, 0])
except RuntimeError as e:
    print("an error:", e)
