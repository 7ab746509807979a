"""On a CUDA device: every operator that is registered there against itself on the CPU; streams, graphs, memory, compiled."""
import pytest
import torch

import octavo.torch as ot
from test_compile import EXAMPLES, copies, flat
from reference import BF16, F8

pytestmark = pytest.mark.cuda
f, o = torch.ops.fbgemm, torch.ops.octavo


def on_cuda(name):
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"octavo::{name}", "CUDA")


def to(device, args):
    return tuple(a.to(device) if isinstance(a, torch.Tensor) else [t.to(device) for t in a] if isinstance(a, list) else a for a in args)


def close(a, b):
    """Within 1 % of the largest."""
    a, b = a.cpu().float(), b.float()
    return a.shape == b.shape and (not a.numel() or (a - b).abs().max() <= 0.01 * b.abs().max())


@pytest.mark.parametrize("name", EXAMPLES)
def test_same_as_on_the_cpu(name):
    if not on_cuda(name):
        pytest.skip("not on CUDA")
    op = getattr(o, name).default
    for args in EXAMPLES[name]:
        want, mine = flat(op(*copies(args))), to("cuda", args)
        got = flat(op(*mine))
        assert all(t.is_cuda for t in got)
        for a, b in zip(got, want):
            if name.startswith(("quantize", "get_fp8", "dequantize")):
                assert torch.equal(a.cpu().reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
            elif a.dtype == F8:
                # codes of computed values may be neighbours
                assert ((a.cpu().float() - b.float()).abs() <= 0.125 * b.float().abs() + 2.0**-9).all()
            else:
                assert close(a, b), name
        torch.library.opcheck(op, to("cuda", copies(args)), test_utils=("test_faketensor", "test_autograd_registration"))


def layer(x, wq, ws, ub):
    q, s = f.quantize_fp8_per_row(x, None, ub)
    return f.f8f8bf16_rowwise(q, wq, s, ws)


def problem():
    x, w = torch.randn(48, 512, device="cuda").to(BF16), torch.randn(256, 512, device="cuda")
    return x, *f.quantize_fp8_per_row(w)


def test_side_stream():
    x, wq, ws = problem()
    want, side = layer(x, wq, ws, None), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(20_000_000)  # what comes after it on this stream has to wait, and so has what reads it
        y = x + 0
        got = layer(y, wq, ws, None)
    side.synchronize()
    assert torch.equal(got, want)


def test_graph():
    x, wq, ws = problem()
    for ub in (None, torch.tensor([1.5], device="cuda"), torch.tensor([1.5])):  # one on the CPU freezes
        held = x.clone()
        layer(held, wq, ws, ub)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = layer(held, wq, ws, ub)
        for scale in (1.0, 3.0):
            held.copy_(x * scale)
            graph.replay()
            torch.cuda.synchronize()
            assert torch.equal(y, layer(held.clone(), wq, ws, ub))


def test_two_devices():
    if torch.cuda.device_count() < 2:
        pytest.skip("one device")
    x, wq, ws = problem()
    want = layer(x, wq, ws, None)
    with torch.cuda.device(0):
        got = layer(*(t.to("cuda:1") for t in (x, wq, ws)), None)
    assert got.device.index == 1 and torch.equal(got.cpu(), want.cpu())
    with pytest.raises(RuntimeError, match="WQ is on another device than XQ"):
        f.f8f8bf16_rowwise(*(t.to("cuda:1") for t in f.quantize_fp8_per_row(x)[:1]), wq, ws, ws)


def test_no_leak():
    x, wq, ws = problem()
    for _ in range(100):
        layer(x, wq, ws, None)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(5000):
        layer(x, wq, ws, None)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == before


def test_compiled():
    x, wq, ws = problem()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, wq, ws, None), layer(x, wq, ws, None))


def test_triton_functions():
    x = torch.randn(40, 512, device="cuda")
    q, s = ot.quantize_fp8_row(x, zero_start_index_M=torch.tensor([9], device="cuda"))
    assert not q[9:].view(torch.uint8).any() and q[:9].view(torch.uint8).any()
    sizes = torch.tensor([8, 32], device="cuda")
    _, a = ot.quantize_fp8_group(x, m_sizes=sizes)
    _, b = ot.quantize_fp8_group(x)
    assert torch.equal(a.view(-1), torch.cat([b[:8].T.reshape(-1), b[8:].T.reshape(-1)]))
    wq, ws = ot.quantize_fp8_block(torch.randn(256, 512, device="cuda"))
    xq, xs = ot.quantize_fp8_block(x)
    y = ot.matmul_fp8_block(xq, wq, xs, ws)
    assert close(y, ot.matmul_fp8_block(xq.cpu(), wq.cpu(), xs.cpu(), ws.cpu()))


def test_what_is_not_on_cuda_says_so():
    assert not on_cuda("attn") and not on_cuda("rope_kv")
    with pytest.raises(NotImplementedError, match="Could not run 'octavo::attn'"):
        o.attn(*to("cuda", EXAMPLES["attn"][0]))
