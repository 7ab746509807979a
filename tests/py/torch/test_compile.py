"""Every operator under torch.library.opcheck and torch.compile(fullgraph=True), by the examples below; and its schema."""
import pathlib
import re

import pytest
import torch

import octavo.torch as ot
from reference import BF16, F8

E = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
namespaces = ("octavo", "fbgemm", "mslk")


def names(namespace):
    return sorted(n.split("::")[1] for n in torch._C._dispatch_get_all_op_names() if n.startswith(namespace + "::"))


def x32(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def f8(*shape, seed=0):
    return x32(*shape, seed=seed).to(F8)


def ones(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5)) + 0.5


def bf(*shape, seed=0):
    return x32(*shape, seed=seed).to(BF16)


ub = torch.tensor([1.5])
EXAMPLES = {
    "quantize_fp8_per_row": [(x32(5, 33),), (bf(2, 3, 40), None, ub, F8, False)],
    "quantize_fp8_per_tensor": [(x32(5, 33),), (bf(5, 33), None, ub)],
    "get_fp8_per_tensor_scale": [(x32(5, 33), None, ub)],
    "quantize_fp8_per_tensor_fixed_scale": [(x32(5, 33), ub)],
    "quantize_fp8_row": [(x32(5, 33), ub), (bf(2, 5, 33), None, 16)],
    "quantize_fp8_block": [(x32(5, 33), 2, 8, ub, True), (x32(5, 33), 2, 8, None, False)],
    "quantize_fp8_group": [(x32(5, 33), 8, ub, True), (bf(2, 5, 33), 8, None, False)],
    "dequantize_fp8_row": [(f8(5, 33), ones(5))],
    "dequantize_fp8_block": [(f8(5, 33), ones(3, 5), 2, 8)],
    "f8f8bf16": [(f8(5, 33), f8(7, 33), ub)],
    "f8f8bf16_lite": [(f8(5, 33), f8(7, 33), ub)],
    "f8f8bf16_tensorwise": [(f8(2, 5, 33), f8(7, 33), 0.5, False)],
    "f8f8bf16_cublas": [(f8(5, 33), f8(7, 33), ub)],
    "f8f8bf16_rowwise": [(f8(5, 33), f8(7, 33), ones(5), ones(7)), (f8(2, 5, 33), f8(7, 33), ones(10), ones(7, 1), ones(7), False)],
    "f8f8bf16_rowwise_out": [(f8(5, 33), f8(7, 33), ones(5), ones(7), torch.zeros(5, 7, dtype=BF16), ones(7))],
    "f8f8bf16_rowwise_batched": [(f8(2, 5, 33), f8(2, 7, 33), ones(2, 5), ones(2, 7), ones(2, 7))],
    "f8f8bf16_blockwise": [(f8(5, 200), f8(7, 200), ones(1, 2), ones(1, 2))],
    "f8f8bf16_groupwise": [(f8(5, 200), f8(7, 200), ones(2, 5), ones(2, 1))],
    "bf16_fast_gemv": [(bf(2, 33), bf(7, 33))],
    "bf16fp8bf16_fast_gemv": [(bf(2, 33), f8(7, 33), ub)],
    "fp8fp8bf16_fast_gemv": [(f8(2, 33), f8(7, 33), ones(2), ones(7)), (f8(3, 2, 33), f8(3, 7, 33), ones(3, 2), ones(3, 7), True)],
    "matmul_fp8_row": [(f8(5, 33), f8(7, 33), None, ones(7), ones(7), torch.float32)],
    "matmul_fp8_block": [(f8(5, 200), f8(7, 200), ones(1, 2), ones(1, 2))],
    "f8f8bf16_rowwise_grouped": [([f8(2, 33), f8(3, 16)], [f8(7, 33), f8(5, 16)], [ones(2), ones(3)], [ones(7), ones(5)])],
    "f8f8bf16_rowwise_grouped_cat": [([f8(2, 33), f8(3, 16)], [f8(7, 33), f8(7, 16)], [ones(2), ones(3)], [ones(7), ones(7)])],
    "bf16bf16bf16_grouped": [([bf(2, 33), bf(3, 16)], [bf(7, 33), bf(5, 16)])],
    "bf16bf16bf16_grouped_cat": [([bf(2, 33), bf(3, 16)], [bf(7, 33), bf(7, 16)])],
    "norm": [(x32(5, 33),), (bf(5, 33), ones(33), 1e-6, x32(5, 33), torch.float32)],
    "norm_quant": [(x32(5, 33), ones(33)), (bf(2, 5, 33), None, 1e-5, bf(2, 5, 33), 8, ub, 1)],
    "silu_mul": [(bf(5, 33), bf(5, 33))],
    "silu_mul_quant": [(bf(5, 33), bf(5, 33)), (x32(5, 33), x32(5, 33), 8, ub, 1)],
}
PAIRS = [(ns, name) for ns in namespaces for name in names(ns)]


def test_every_operator_has_an_example():
    assert {name for _, name in PAIRS} == set(EXAMPLES)
    assert names("fbgemm") and names("mslk") and names("octavo")


def copies(args):
    return tuple(a.clone() if isinstance(a, torch.Tensor) else [t.clone() for t in a] if isinstance(a, list) else a for a in args)


def flat(result):
    return [] if result is None else [result] if isinstance(result, torch.Tensor) else list(result)


def equal(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.stride() == b.stride() and \
        torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("namespace,name", PAIRS, ids=lambda p: p)
def test_opcheck_and_compile(namespace, name):
    op = getattr(getattr(torch.ops, namespace), name).default
    for args in EXAMPLES[name]:
        # test_schema compares inputs before and after by allclose, which torch lacks for float8 on the CPU
        has_f8 = any(t.dtype == F8 for a in args for t in (a if isinstance(a, list) else [a]) if isinstance(t, torch.Tensor))
        checks = E[1:] if has_f8 else E
        outcome = torch.library.opcheck(op, copies(args), test_utils=checks)
        assert set(outcome.values()) == {"SUCCESS"} and len(outcome) == len(checks)
        torch._dynamo.reset()
        compiled = torch.compile(lambda *a: op(*a), fullgraph=True, backend="aot_eager")
        mine, theirs = copies(args), copies(args)
        want, got = flat(op(*mine)), flat(compiled(*theirs))
        assert len(want) == len(got) and all(map(equal, want, got))
        for a, b in zip(mine, theirs):  # what is written to
            if isinstance(a, torch.Tensor):
                assert equal(a, b)


def test_inductor_makes_one_graph_for_all_sizes():
    def model(x, w, residual):
        q, s = torch.ops.octavo.norm_quant(x, None, 1e-5, residual)
        wq, ws = torch.ops.fbgemm.quantize_fp8_per_row(w)
        y = torch.ops.fbgemm.f8f8bf16_rowwise(q, wq, s, ws, use_fast_accum=True)
        a, b = ot.quantize_fp8_row(y)
        return ot.matmul_fp8_row(a, wq[:, :8], b, ws) + 1

    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for m in (3, 5, 9):
        x, w, r1, r2 = x32(m, 32), x32(8, 32), x32(m, 32, seed=1), x32(m, 32, seed=1)
        assert torch.equal(model(x, w, r1), compiled(x, w, r2)) and torch.equal(r1, r2) and not torch.equal(r1, x32(m, 32, seed=1))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1


def test_schemas_are_those_of_the_real_libraries():
    """schemas.txt: what fbgemm-gpu-genai and mslk register, one line an operator."""
    real = dict(re.match(r"(\w+::\w+)(.*)", line).groups() for line in (pathlib.Path(__file__).parent / "schemas.txt").read_text().splitlines())
    for namespace in ("fbgemm", "mslk"):
        for name in names(namespace):
            assert str(getattr(getattr(torch.ops, namespace), name).default._schema) == f"{namespace}::{name}" + real[f"{namespace}::{name}"]
