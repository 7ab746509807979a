"""Quantization: the same codes and scales as the formula in torch, for every shape, stride, dtype and value."""
import numpy as np
import pathlib
import pytest
import torch
from hypothesis import given, strategies as st

import octavo.torch as ot
from reference import BF16, F16, F32, F8, amax_of, codes, quantize_rows, rule_eps, rule_min, same_codes

f, o = torch.ops.fbgemm, torch.ops.octavo
SPECIAL = [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 3e38, 1e-45, -1e-38, 448.0, 1200.0]


@st.composite
def inputs(draw, dims=(1, 2, 3), dtypes=(F32, BF16, F16)):
    shape = [draw(st.integers(0, 7)) for _ in range(draw(st.sampled_from(dims)) - 1)] + [draw(st.integers(0, 300))]
    g = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    scale = draw(st.sampled_from([1.0, 1e-3, 1e4, 1e-30]))
    how = draw(st.sampled_from(["packed", "rows apart", "transposed", "offset"]))
    if how == "transposed" and len(shape) > 1:
        whole = torch.randn(*shape[:-2], shape[-1], shape[-2], generator=g)
    else:
        whole = torch.randn(*shape[:-1], shape[-1] + 3 * (how != "packed"), generator=g)
    whole *= scale
    for v in draw(st.lists(st.sampled_from(SPECIAL), max_size=2)):
        if whole.numel():
            whole.view(-1)[int(torch.randint(whole.numel(), (1,), generator=g))] = v
    whole = whole.to(draw(st.sampled_from(dtypes)))
    if how == "transposed" and len(shape) > 1:
        return whole.transpose(-1, -2)
    return whole[..., 3 * (how == "offset"):][..., :shape[-1]]


bounds = st.sampled_from([None, 0.5, 1200.0])


def ub_of(value):
    return None if value is None else torch.tensor([value])


@given(inputs(), bounds)
def test_per_row(x, ub):
    q, s = f.quantize_fp8_per_row(x, None, ub_of(ub))
    want, scale = quantize_rows(x, ub_of(ub))
    assert q.shape == x.shape and q.is_contiguous() and s.shape == scale.shape  # 3-D: one flat scale, as the real one
    assert torch.equal(s, scale) and same_codes(q, want)


@given(inputs(), bounds)
def test_per_tensor(x, ub):
    q, s = f.quantize_fp8_per_tensor(x, None, ub_of(ub))
    want = rule_min(amax_of(x.float(), tuple(range(x.ndim)), False), None if ub is None else torch.tensor(ub))
    assert s.shape == () and torch.equal(s, want) and same_codes(q, codes(x.float() / want))
    assert torch.equal(f.get_fp8_per_tensor_scale(x, None, ub_of(ub)), want.view(1))
    assert same_codes(f.quantize_fp8_per_tensor_fixed_scale(x, torch.tensor([0.25])), codes(x.float() / 0.25))


@given(inputs(dims=(2,)), bounds)
def test_per_column(x, ub):
    q, s = f.quantize_fp8_per_col(x, None, ub_of(ub))
    amax = amax_of(x.float().T, -1).view(-1)
    want = rule_min(amax, None if ub is None else torch.tensor(ub))
    assert torch.equal(s, want) and same_codes(q, codes(x.float() / want))


@given(inputs(dims=(2, 3)).filter(lambda x: x.numel()), st.integers(-1, 9))
def test_rows_that_count(x, bs):
    for rows, run in ((x.reshape(-1, x.shape[-1]), lambda b: f.quantize_fp8_per_tensor(x, b)[1]),
                      (x.reshape(x.shape[0], -1), lambda b: f.get_fp8_per_tensor_scale(x, b)[0])):
        part = rows[:max(bs, 0)].float()
        assert torch.equal(run(torch.tensor([bs])), rule_min(amax_of(part, (0, 1), False)))


@given(inputs(), bounds, st.sampled_from([None, 8, 16]))
def test_triton_row(x, ub, align):
    q, s = ot.quantize_fp8_row(x, ub_of(ub), align_rows_to=align)
    columns = x.shape[-1]
    scale, multiplier = rule_eps(amax_of(x.float(), -1), ub_of(ub))
    assert s.shape == x.shape[:-1] and torch.equal(s, scale.view(s.shape))
    assert q.shape[-1] == -(-columns // (align or 1)) * (align or 1) and not q[..., columns:].view(torch.uint8).any()
    assert same_codes(q[..., :columns], codes(x.float() * multiplier))


def block_scales(x, bm, bk):
    m, k = x.shape
    return torch.stack([torch.stack([amax_of(x[i:i + bm, j:j + bk], (0, 1), False) for j in range(0, k, bk)]) for i in range(0, m, bm)])


@given(inputs(dims=(2,)).filter(lambda x: x.numel()), bounds, st.sampled_from([(256, 256), (3, 100), (128, 128)]), st.booleans())
def test_triton_block_and_group(x, ub, block, k_major):
    (bm, bk), bound = block, None if ub is None else torch.tensor(ub)
    for rows, run in ((bm, lambda: ot.quantize_fp8_block(x, bm, bk, ub_of(ub), k_major=k_major)),
                      (1, lambda: ot.quantize_fp8_group(x, bk, ub_of(ub), k_major=k_major))):
        q, s = run()
        scale, multiplier = rule_eps(block_scales(x.float(), rows, bk), bound)
        assert torch.equal(s, scale if k_major else scale.T) and s.is_contiguous()
        spread = multiplier.repeat_interleave(rows, 0)[:x.shape[0]].repeat_interleave(bk, 1)[:, :x.shape[1]]
        assert same_codes(q, codes(x.float() * spread))


@given(inputs(dims=(2,), dtypes=(F32,)).filter(lambda x: x.numel()))
def test_dequantize(x):
    for q, s, back, spread in ((*ot.quantize_fp8_row(x), ot.dequantize_fp8_row, lambda s: s[:, None]),
                               (*ot.quantize_fp8_block(x, 2, 100), lambda q, s: ot.dequantize_fp8_block(q, s, 2, 100),
                                lambda s: s.repeat_interleave(2, 0)[:x.shape[0]].repeat_interleave(100, 1)[:, :x.shape[1]])):
        want = (q.float() * spread(s)).bfloat16()
        got = back(q, s)
        assert torch.equal(got.isnan(), want.isnan()) and torch.equal(got[~got.isnan()], want[~want.isnan()])


def test_group_with_m_sizes():
    x, sizes = torch.randn(11, 384), torch.tensor([3, 0, 5, 1])  # the last 2 rows belong to none
    q, s = ot.quantize_fp8_group(x, m_sizes=sizes)
    plain_q, plain = ot.quantize_fp8_group(x)
    assert torch.equal(q.view(torch.uint8), plain_q.view(torch.uint8)) and s.shape == plain.shape
    parts, at = [], 0
    for n in (3, 0, 5, 1, 2):
        parts.append(plain[at:at + n].T.reshape(-1))
        at += n
    assert torch.equal(s.view(-1), torch.cat(parts))


def test_rows_from_zero_start():
    x, start = torch.randn(3, 4, 32), torch.tensor([0, 2, 4])
    q, s = ot.quantize_fp8_row(x, zero_start_index_M=start)
    plain_q, plain = ot.quantize_fp8_row(x)
    dead = torch.arange(4) >= start[:, None]
    assert not q[dead].view(torch.uint8).any() and torch.equal(q[~dead].view(torch.uint8), plain_q[~dead].view(torch.uint8))
    assert torch.equal(s[~dead], plain[~dead]) and torch.equal(s[dead], rule_eps(torch.zeros(int(dead.sum())))[0])


def test_golden():
    folder = pathlib.Path(__file__).parents[2] / "golden"
    x = torch.from_numpy(np.load(folder / "convert_f8_of_f32.npy"))  # codes of convert_f32, by ml_dtypes
    values = torch.from_numpy(np.load(folder / "convert_f32.npy")).float()
    q = f.quantize_fp8_per_tensor_fixed_scale(values.view(1, -1), torch.ones(1))
    assert torch.equal(q.view(torch.uint8).view(-1), x.view(torch.uint8).view(-1))


def test_devices(device):
    x = torch.randn(33, 500).bfloat16()
    for ub_device in ("cpu", device):
        q, s = f.quantize_fp8_per_row(x.to(device), None, torch.tensor([1.5], device=ub_device))
        want, scale = quantize_rows(x, torch.tensor([1.5]))
        assert q.device.type == device and torch.equal(s.cpu(), scale) and same_codes(q, want)


def test_what_is_not_supported_says_so():
    x = torch.randn(4, 32)
    for call, text in (
            (lambda: f.quantize_fp8_per_row(x.long()), r"quantize_fp8_per_row: input is int64 \[4, 32\]; it must be float32"),
            (lambda: f.quantize_fp8_per_row(x, None, torch.tensor([1])), "scale_ub is int64 .* must be one float32"),
            (lambda: f.quantize_fp8_per_row(x, output_dtype=torch.float8_e5m2), "output_dtype must be float8_e4m3fn"),
            (lambda: f.quantize_fp8_per_row(x, stochastic_rounding=True), "stochastic_rounding=True is not supported yet"),
            (lambda: ot.quantize_fp8_block(x, 0, 128), "block_m is 0; it must be at least 1"),
            (lambda: ot.dequantize_fp8_row(x.to(F8), torch.ones(3)), "xs is float32 .3.; it must be float32 with 4 scales")):
        with pytest.raises(RuntimeError, match=text):
            call()
