"""Every operator under torch.library.opcheck and torch.compile(fullgraph=True), by the examples below; and its schema."""
import pathlib
import re

import pytest
import torch

import octavo.torch as ot
from reference import BF16, F8

E = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


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


def i32(*values):
    return torch.tensor(values, dtype=torch.int32)


def cache(b, t, h, row, dtype=BF16):
    """Zeros: `row` counts bytes."""
    k = torch.zeros(b, t, h, row, dtype=torch.uint8)
    return (k, k.clone()) if dtype == torch.uint8 else (k.view(BF16), k.clone().view(BF16))


ub = torch.tensor([1.5])
EXAMPLES = {
    "quantize_fp8_per_row": [(x32(5, 33),), (bf(2, 3, 40), None, ub, F8, False)],
    "quantize_fp8_per_tensor": [(x32(5, 33),), (bf(5, 33), None, ub)],
    "quantize_fp8_per_col": [(x32(5, 33), None, ub)],
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
    "f8f8bf16_rowwise_grouped_stacked": [(f8(9, 33), f8(3, 7, 33), ones(9), ones(3, 7), torch.tensor([2, 0, 5]))],
    "f8f8bf16_rowwise_grouped_dynamic": [(f8(3, 4, 33), f8(3, 7, 33), ones(3, 4), ones(3, 7), torch.tensor([2, 0, 4]))],
    "f8f8bf16_groupwise_grouped": [(f8(9, 200), f8(3, 7, 200), ones(2, 9), ones(3, 2, 1), torch.tensor([2, 0, 5]))],
    "bf16bf16bf16_grouped_stacked": [(bf(9, 33), bf(3, 7, 33), torch.tensor([2, 0, 5]))],
    "bf16bf16bf16_grouped_dynamic": [(bf(3, 4, 33), bf(3, 7, 33), torch.tensor([2, 0, 4]))],
    "norm": [(x32(5, 33),), (bf(5, 33), ones(33), 1e-6, x32(5, 33), torch.float32)],
    "norm_quant": [(x32(5, 33), ones(33)), (bf(2, 5, 33), None, 1e-5, bf(2, 5, 33), 8, ub, 1)],
    "rope_qkv_varseq_prefill": [(bf(3, 4, 16), bf(3, 2, 16), bf(3, 2, 16), *cache(2, 8, 2, 32), i32(0, 0, 1), i32(0, 1, 5), 1e4),
                                (bf(3, 4, 16), bf(3, 2, 16), bf(3, 2, 16), *cache(1, 16, 2, 20, torch.uint8), i32(0, 0, 1), i32(0, 1, -1), 1e4, 1,
                                 i32(3, 1, 0, 2).view(2, 2), 4, torch.tensor([2]), i32(0, 1, 5), 1, True, 8192, 8.0, 1.0, 4.0, None, None, True, True)],
    "rope_qkv_decoding": [(bf(2, 4, 16), bf(2, 2, 16), bf(2, 2, 16), *cache(2, 8, 2, 16, torch.uint8), i32(5, 3), 1e4, 2, None, 64, None, i32(1, 0), None, 2),
                          (bf(2, 4, 16), None, None, *cache(2, 8, 2, 32), i32(5, 3), 1e4, 1, None, 64, None, None, None, 0, False, 8192, 16.0, 1.0, 32.0,
                           None, None, False, False)],
    "nope_qkv_varseq_prefill": [(bf(3, 4, 16), bf(3, 2, 16), bf(3, 2, 16), *cache(2, 8, 2, 32), i32(0, 0, 1), i32(0, 1, 5))],
    "nope_qkv_decoding": [(bf(2, 4, 16), bf(2, 2, 16), bf(2, 2, 16), *cache(2, 8, 2, 32), i32(5, 3))],
    "rope_kv": [(bf(2, 4, 16), bf(2, 2, 16), bf(2, 2, 16), *cache(2, 8, 2, 32), i32(5, 3))],
    "gqa_attn_splitk": [(bf(2, 1, 4, 16), *cache(2, 8, 1, 32), i32(5, -1), 0.25, 3)],
    "mqa_attn": [(bf(2, 1, 4, 16), *cache(2, 8, 1, 32), i32(5, 3), 0.25)],
    "attn": [(bf(3, 4, 16), *cache(2, 8, 2, 32), i32(5, 3, 4), i32(0, 1, 1), None, 0, 1, None, 64, torch.float32)],
    "dequantize_int4_cache": [(*cache(2, 8, 2, 12, torch.uint8), i32(5, 3), 1)],
    "dequantize_fp8_cache": [(*cache(2, 8, 2, 20, torch.uint8), i32(5, 3)), (*cache(1, 8, 2, 20, torch.uint8), i32(4, 3), None, None, i32(0, 1, 2, 3).view(2, 2), 2)],
    "silu_mul": [(bf(5, 33), bf(5, 33))],
    "silu_mul_quant": [(bf(5, 33), bf(5, 33)), (x32(5, 33), x32(5, 33), 8, ub, 1)],
}


def test_every_operator_has_an_example():
    assert set(names("octavo")) == set(EXAMPLES)
    assert set(names("fbgemm")) | set(names("mslk")) < set(EXAMPLES) and names("fbgemm") and names("mslk")


def copies(args):
    return tuple(a.clone() if isinstance(a, torch.Tensor) else [t.clone() for t in a] if isinstance(a, list) else a for a in args)


def flat(result):
    return [] if result is None else [result] if isinstance(result, torch.Tensor) else list(result)


def equal(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.stride() == b.stride() and \
        torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("name", EXAMPLES)
def test_opcheck_and_compile(name):
    op = getattr(torch.ops.octavo, name).default
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


@pytest.mark.parametrize("namespace", ["fbgemm", "mslk"])
def test_other_namespaces_have_the_same(namespace):
    for name in names(namespace):
        op, ours = (getattr(getattr(torch.ops, n), name).default for n in (namespace, "octavo"))
        for args in EXAMPLES[name]:
            assert all(map(equal, flat(op(*copies(args))), flat(ours(*copies(args)))))
            torch.library.opcheck(op, copies(args), test_utils="test_faketensor")


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


def test_coverage_lists_every_operator():
    """docs/coverage.md: registered where it says CPU, not registered where it says not yet; m: in mslk too."""
    root = pathlib.Path(__file__).parents[3]
    real = {line.split("(")[0] for line in (pathlib.Path(__file__).parent / "schemas.txt").read_text().splitlines()}
    here, listed, section = {f"{ns}::{n}" for ns in ("fbgemm", "mslk") for n in names(ns)}, set(), ""
    for line in (root / "docs/coverage.md").read_text().splitlines():
        section = line if line.startswith("## ") else section
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 3 or "Triton" in section or "Beyond" in section:
            continue
        for name, m in re.findall(r"`(\w+)`( m)?", cells[1]):
            for qualified in [f"fbgemm::{name}"] * (f"fbgemm::{name}" in real) + [f"mslk::{name}"] * bool(m):
                listed.add(qualified)
                assert (qualified in here) == ("not yet" not in cells[2]), qualified
            for device in ("CPU", "CUDA"):
                if "not yet" not in cells[2]:
                    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"fbgemm::{name}", device) == (device in cells[2]), (name, device)
    assert listed == real
    text = (root / "docs/coverage.md").read_text()
    assert all(f"`{name}`" in text for name in [*ot.triton_functions, *EXAMPLES])
