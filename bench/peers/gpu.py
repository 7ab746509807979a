"""gpu.py [--compile] [TEXT]: times what a user of a GPU would run instead, and prints "op,shape,peer,microseconds" lines that
`octavo bench --backend sm90 --peers` reads. The shapes are those of tests/check_<op>.c; only shapes that contain TEXT.
Peers: torch, torch.compile; FBGEMM's kernels where fbgemm-gpu-genai is importable. As octavo's bench does: a CUDA graph of 24
nodes or more over rotating buffers larger than three L2 caches together. --compile: fill the caches of compilers, time nothing.
"""
import importlib
import sys

import torch

BF, E4 = torch.bfloat16, torch.float8_e4m3fn
ARGS = [a for a in sys.argv[1:] if not a.startswith("--")]
COMPILE_ONLY = "--compile" in sys.argv


def graph_us(calls, rounds=11):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for call in calls[:2]:
            call()
        torch.cuda.synchronize()
        if COMPILE_ONLY:
            return 0.0
        graph, turns = torch.cuda.CUDAGraph(), -(-24 // len(calls))
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(turns):
                for call in calls:
                    call()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        graph.replay()
        times = []
        for _ in range(rounds):
            torch.cuda.synchronize()
            begin.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end) * 1e3 / (turns * len(calls)))
    return sorted(times)[rounds // 2]


def compiled(function):
    torch._dynamo.reset()
    return torch.compile(function, dynamic=False)


def report(op, shape, peer, function, inputs):
    """inputs: argument tuples in rotation."""
    try:
        us = graph_us([lambda x=x: function(*x) for x in inputs])
        print(f'{op},"{shape}",{peer},{us:.3f}', flush=True)
    except Exception as error:  # a peer that refuses a shape is no failure of ours
        print(f"# {op}, {shape}, {peer}: {type(error).__name__}: {str(error)[:100]!r}", flush=True)


def rotate(size, make):
    return [make() for _ in range(max(2, min(24, int(200e6 // size) + 1)))]


def random(*shape, dtype=BF):
    return torch.randn(*shape, device="cuda", dtype=dtype)


def scaled(x, amax):
    scale = amax.clamp(min=1e-12) / 448.0
    return (x / scale).clamp(-448, 448).to(E4), scale


def row(x):
    x = x.float()
    return scaled(x, x.abs().amax(-1, keepdim=True))


def column(x):
    x = x.float()
    return scaled(x, x.abs().amax(0, keepdim=True))


def tensor(x):
    x = x.float()
    return scaled(x, x.abs().amax())


def group(x):
    m, k = x.shape
    x = x.float().view(m, k // 128, 128)
    codes, scale = scaled(x, x.abs().amax(-1, keepdim=True))
    return codes.view(m, k), scale.view(m, k // 128).t().contiguous()


def block(x):
    m, k = x.shape
    x = x.float().view(m // 128, 128, k // 128, 128)
    codes, scale = scaled(x, x.abs().amax((1, 3), keepdim=True))
    return codes.view(m, k), scale


def dequant_row(codes, scale):
    return (codes.float() * scale).to(BF)


def norm(x, residual, weight):
    h = x + residual
    v = h.float()
    v = v * torch.rsqrt(v.square().mean(-1, keepdim=True) + 1e-5) * weight
    return (h,) + scaled(v, v.abs().amax(-1, keepdim=True))


def silu(gate, up):
    v = torch.nn.functional.silu(gate.float()) * up
    return scaled(v, v.abs().amax(-1, keepdim=True))


def fbgemm():
    """Names of FBGEMM's kernels, or none."""
    try:
        importlib.import_module("fbgemm_gpu.experimental.gen_ai")
        triton = importlib.import_module("fbgemm_gpu.experimental.gemm.triton_gemm.fp8_gemm")
    except ImportError as error:
        print(f"# without fbgemm-gpu-genai: {error}", flush=True)
        return {}
    ops = torch.ops.fbgemm
    return {
        "row": [("fbgemm", ops.quantize_fp8_per_row), ("fbgemm triton", triton.triton_quantize_fp8_row)],
        "tensor": [("fbgemm", ops.quantize_fp8_per_tensor)],
        "col": [("fbgemm", ops.quantize_fp8_per_col)],
        "group": [("fbgemm triton", triton.triton_quantize_fp8_group)],
        "block": [("fbgemm triton", lambda x: triton.triton_quantize_fp8_block(x, 128, 128))],
    }


def quantize(text):
    peers = fbgemm()
    shapes = [("row", row, "row {m}x{k} bf16", m, k) for m, k in ((8192, 8192), (16384, 16384), (2048, 53248), (16, 8192))]
    shapes += [("row", row, "row 8192x8192 {t}", 8192, 8192)]
    shapes += [("group", group, "group {m}x{k} bf16, mn", 8192, 8192), ("block", block, "block {m}x{k} bf16", 8192, 8192)]
    shapes += [("tensor", tensor, "tensor {m}x{k} bf16", m, 8192) for m in (8192, 16)]
    shapes += [("col", column, "col {m}x{k} bf16", 8192, 8192)]
    for kind, function, name, m, k in shapes:
        for dtype in (torch.float32, torch.float16) if "{t}" in name else (BF,):
            shape = name.format(m=m, k=k, t="f32" if dtype == torch.float32 else "f16")
            if text not in shape:
                continue
            inputs = rotate(3 * m * k, lambda: (random(m, k, dtype=dtype),))
            report("quant", shape, "torch.compile", compiled(function), inputs)
            for peer, call in peers.get(kind, []) if dtype == BF else []:
                report("quant", shape, peer, call, inputs)


def codes(*shape):
    return (random(*shape) * 112).clamp(-448, 448).to(E4)


def gemm_one(kind, m, n, k, ops):
    """Kinds and shapes are those of tests/check_gemm.c."""
    shape, peers = f"{kind} {m}x{n}x{k}", []
    x, one = codes(m, k), torch.ones((), device="cuda")
    xs, ws = torch.rand(m, 1, device="cuda"), torch.rand(1, n, device="cuda")
    sx, sw = torch.rand(k // 128, m, device="cuda"), torch.rand(n // 128, k // 128, device="cuda")
    fb_sw = sw.t().contiguous()
    fast = kind == "f8 fast"
    if kind == "bf16":
        x = random(m, k)
        peers.append(("torch", lambda w: x @ w.t()))
    elif kind == "f8 group":
        peers.append(("torch", lambda w: torch._scaled_mm(x, w.t(), sx.t(), sw.t(), out_dtype=BF)))
        if ops:
            peers.append(("fbgemm", lambda w: ops.f8f8bf16_groupwise(x, w, sx, fb_sw)))
    else:
        peers.append(("torch row", lambda w: torch._scaled_mm(x, w.t(), xs, ws, out_dtype=BF, use_fast_accum=fast)))
        if fast:
            peers.append(("torch tensor", lambda w: torch._scaled_mm(x, w.t(), one, one, out_dtype=BF, use_fast_accum=True)))
        if ops:
            peers.append(("fbgemm", lambda w: ops.f8f8bf16_rowwise(x, w, xs.flatten(), ws.flatten(), None, fast)))
    make = random if kind == "bf16" else codes
    weights = rotate(n * k * (2 if kind == "bf16" else 1), lambda: (make(n, k),))
    for peer, call in peers:
        report("gemm", shape, peer, call, weights)


def gemm(text):
    ops = torch.ops.fbgemm if fbgemm() else None
    few = ((1280, 8192), (8192, 1024), (8192, 3584), (7168, 8192), (8192, 8192), (13312, 16384))
    shapes = [("f8 fast", m, n, k) for m in (1, 16, 64) for n, k in few]
    shapes += [("f8 fast", 128, 8192, 8192), ("f8 fast", 256, 8192, 8192), ("f8 fast", 1024, 1280, 8192)]
    shapes += [("f8 fast", 1024, 7168, 8192), ("f8 fast", 2048, 8192, 8192), ("f8 fast", 4096, 8192, 1024)]
    shapes += [(kind, 8192, 8192, 8192) for kind in ("f8 fast", "f8 accurate", "f8 group", "bf16")]
    shapes += [(kind, 16, 8192, 8192) for kind in ("f8 group", "bf16")]
    for kind, m, n, k in shapes:
        if text in f"{kind} {m}x{n}x{k}":
            gemm_one(kind, m, n, k, ops)


def others(text):
    m, k = 8192, 8192
    if text in (shape := f"row {m}x{k} to bf16"):
        inputs = rotate(3 * m * k, lambda: (random(m, k).to(E4), torch.rand(m, 1, device="cuda")))
        report("dequant", shape, "torch.compile", compiled(dequant_row), inputs)
    for m, k in ((8192, 8192), (16, 8192)):
        if text in (shape := f"residual, row {m}x{k} bf16"):
            weight = random(k)
            inputs = rotate(7 * m * k, lambda: (random(m, k), random(m, k), weight))
            report("norm_quant", shape, "torch.compile", compiled(norm), inputs)
    for m, k in ((16384, 8192), (16, 28672)):
        if text in (shape := f"row {m}x{k} bf16"):
            inputs = rotate(5 * m * k, lambda: (random(m, k), random(m, k)))
            report("silu_mul_quant", shape, "torch.compile", compiled(silu), inputs)


torch.manual_seed(0)
print(f"# {torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
for part in (quantize, gemm, others):
    part(ARGS[0] if ARGS else "")
