"""GEMMs within octavo.h's bound of the exact product, for every shape, stride and scale."""
import pytest
import torch
from hypothesis import given, settings, strategies as st

import octavo.torch as ot
from reference import BF16, F32, F8, check_gemm

f = torch.ops.fbgemm
extents = st.integers(0, 70)
seeds = st.integers(0, 999)


def random_f8(*shape, seed, how="packed"):
    """e4m3 values and the same in float64; `how` says the strides."""
    g = torch.Generator().manual_seed(seed)
    if how == "transposed":
        q = torch.randn(*shape[:-2], shape[-1], shape[-2], generator=g).to(F8).transpose(-1, -2)
    else:
        q = torch.randn(*shape[:-1], shape[-1] + 5 * (how == "rows apart"), generator=g).to(F8)[..., :shape[-1]]
    return q, q.double()


def random_scale(*shape, seed):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed + 1)) + 0.01


strides = st.sampled_from(["packed", "rows apart", "transposed"])


@given(extents, extents, extents, seeds, strides, strides, st.sampled_from([None, F32, BF16]), st.booleans())
def test_rowwise(m, n, k, seed, how_x, how_w, bias_dtype, column):
    (x, xd), (w, wd) = random_f8(m, k, seed=seed, how=how_x), random_f8(n, k, seed=seed + 5, how=how_w)
    sx, sw = random_scale(m, seed=seed), random_scale(n, seed=seed + 1)
    bias = None if bias_dtype is None else torch.randn(n).to(bias_dtype)
    given_sw = sw.view(-1, 1) if column else sw  # Hugging Face has it as [N, 1]
    y = f.f8f8bf16_rowwise(x, w, sx, given_sw, bias, use_fast_accum=True)
    assert y.shape == (m, n) and y.dtype == BF16
    check_gemm(y, xd, wd, sx[:, None].double(), sw[:, None].double(), bias)
    out = torch.full((m, n + 3), 9.0, dtype=BF16)
    assert f.f8f8bf16_rowwise_out(x, w, sx, sw, out[:, :n], bias) is None
    assert torch.equal(out[:, :n], y) and (out[:, n:] == 9).all()
    y32 = ot.matmul_fp8_row(x, w, sx, sw, bias, dot_out_dtype=F32)
    assert y32.dtype == F32 and torch.equal(y32.to(BF16), y)
    if bias is None:
        assert torch.equal(ot.matmul_fp8_row(x, w, None, sw), f.f8f8bf16_rowwise(x, w, torch.ones(m), sw))
        assert torch.equal(f.fp8fp8bf16_fast_gemv(x, w, sx, sw), y)


@given(st.integers(0, 3), extents, extents, extents, seeds, strides)
def test_batched(b, m, n, k, seed, how):
    (x, xd), (w, wd) = random_f8(b, m, k, seed=seed, how=how), random_f8(b, n, k, seed=seed + 5)
    sx, sw, bias = random_scale(b, m, seed=seed), random_scale(b, n, seed=seed + 1), torch.randn(b, n)
    y = f.f8f8bf16_rowwise_batched(x, w, sx, sw, bias)
    assert y.shape == (b, m, n)
    for i in range(b):
        check_gemm(y[i], xd[i], wd[i], sx[i, :, None].double(), sw[i, :, None].double(), bias[i])
    out = torch.empty_like(y)
    assert f.f8f8bf16_rowwise_batched(x, w, sx, sw, bias, output=out) is out and torch.equal(out, y)
    one = f.f8f8bf16_rowwise_batched(x, w, sx, sw)
    assert torch.equal(f.fp8fp8bf16_fast_gemv(x, w, sx, sw, is_batched=True), one)  # each batch its own scales: the real one errs


@given(extents, extents, extents, seeds)
def test_tensorwise(m, n, k, seed):
    (x, xd), (w, wd) = random_f8(m, k, seed=seed), random_f8(n, k, seed=seed + 5)
    scale, other = torch.tensor([0.37]), torch.tensor(1.7)
    y = f.f8f8bf16(x, w, scale)
    check_gemm(y, xd, wd, scale.double(), torch.ones(1).double())
    assert torch.equal(f.f8f8bf16_lite(x, w, scale), y) and torch.equal(f.f8f8bf16_tensorwise(x, w, scale.item()), y)
    assert torch.equal(f.f8f8bf16_cublas(x, w, scale), y) and torch.equal(f.f8f8bf16_cublas(x, w, None, scale), y)
    out = torch.empty(m, n, dtype=BF16)
    assert f.f8f8bf16_cublas(x, w, scale, other, output=out) is out
    check_gemm(out, xd, wd, scale.double(), other.double())
    xb = xd.to(BF16)
    check_gemm(f.bf16_fast_gemv(xb, wd.to(BF16)), xd, wd, torch.ones(1).double(), torch.ones(1).double())
    check_gemm(f.bf16fp8bf16_fast_gemv(xb, w, other), xd, wd, torch.ones(1).double(), other.double())


def spread(scale, rows, columns, block_rows=128, block_columns=128):
    return scale.double().repeat_interleave(block_rows, 0)[:rows].repeat_interleave(block_columns, 1)[:, :columns]


@settings(max_examples=15)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), seeds)
def test_blocks(m, n, k, seed):
    (x, xd), (w, wd) = random_f8(m, k, seed=seed), random_f8(n, k, seed=seed + 5)
    mb, nb, kb = -(-m // 128), -(-n // 128), -(-k // 128)
    sx, sw = random_scale(mb, kb, seed=seed), random_scale(nb, kb, seed=seed + 1)
    y = f.f8f8bf16_blockwise(x, w, sx, sw)
    check_gemm(y, xd, wd, spread(sx, m, k), spread(sw, n, k))
    assert torch.equal(ot.matmul_fp8_block(x, w, sx, sw, 128, 128, 128), y)
    rows = random_scale(m, kb, seed=seed)
    y = f.f8f8bf16_groupwise(x, w, rows.T.contiguous(), sw.T.contiguous())
    check_gemm(y, xd, wd, spread(rows, m, k, 1), spread(sw, n, k))
    big_x, big_w = random_scale(-(-m // 256), -(-k // 256), seed=seed), random_scale(-(-n // 256), -(-k // 256), seed=seed + 1)
    check_gemm(ot.matmul_fp8_block(x, w, big_x, big_w), xd, wd, spread(big_x, m, k, 256, 256), spread(big_w, n, k, 256, 256))


@given(st.lists(st.tuples(extents, extents), min_size=1, max_size=4), st.integers(0, 70), seeds)
def test_grouped_lists(rows_and_depths, n, seed):
    xs, ws, sx, sw = [], [], [], []
    for i, (m, k) in enumerate(rows_and_depths):
        xs.append(random_f8(m, k, seed=seed + i)[0])
        ws.append(random_f8(n, k, seed=seed + i + 50)[0])
        sx.append(random_scale(m, seed=seed + i))
        sw.append(random_scale(n, seed=seed + i + 1))
    ys = f.f8f8bf16_rowwise_grouped(xs, ws, sx, sw)
    for y, *one in zip(ys, xs, ws, sx, sw):
        assert torch.equal(y, f.f8f8bf16_rowwise(*one))
    assert torch.equal(f.f8f8bf16_rowwise_grouped_cat(xs, ws, sx, sw), torch.cat(ys))
    xs, ws = [x.to(BF16) for x in xs], [w.to(BF16) for w in ws]
    ys = f.bf16bf16bf16_grouped(xs, ws)
    for y, x, w in zip(ys, xs, ws):
        assert torch.equal(y, f.bf16_fast_gemv(x, w))
    assert torch.equal(f.bf16bf16bf16_grouped_cat(xs, ws), torch.cat(ys))


@given(st.lists(st.integers(-1, 12), min_size=1, max_size=5), st.integers(0, 30), st.integers(0, 70), st.integers(0, 200), seeds)
def test_grouped_by_sizes(sizes, m, n, k, seed):
    """Each group's rows are those of a call of its own; sizes are cut to what is there; the rest is zeros."""
    g, m_sizes = len(sizes), torch.tensor(sizes)
    x, w = random_f8(m, k, seed=seed, how="rows apart")[0], random_f8(g, n, k, seed=seed + 1)[0]
    sx, sw, kb, nb = random_scale(m, seed=seed), random_scale(g, n, seed=seed + 1), -(-k // 128), -(-n // 128)
    bx, bw = random_scale(m * kb, seed=seed), random_scale(g, kb, nb, seed=seed)
    y, z = f.f8f8bf16_rowwise_grouped_stacked(x, w, sx, sw, m_sizes), f.f8f8bf16_groupwise_grouped(x, w, bx, bw, m_sizes)
    b, out = f.bf16bf16bf16_grouped_stacked(x.to(BF16), w.to(BF16), m_sizes), torch.full((m, n), 9.0, dtype=BF16)
    assert f.bf16bf16bf16_grouped_stacked(x.to(BF16), w.to(BF16), m_sizes, out, 3) is out and torch.equal(out, b)
    at = 0
    for i, size in enumerate(sizes):
        rows = slice(at, min(at + max(size, 0), m))
        assert torch.equal(y[rows], f.f8f8bf16_rowwise(x[rows], w[i], sx[rows], sw[i]))
        assert torch.equal(b[rows], f.bf16_fast_gemv(x[rows].to(BF16), w[i].to(BF16)))
        part = bx[rows.start * kb:rows.stop * kb].view(kb, rows.stop - rows.start)
        assert torch.equal(z[rows], f.f8f8bf16_groupwise(x[rows], w[i], part, bw[i]))
        at = rows.stop
    assert not y[at:].any() and not b[at:].any() and not z[at:].any()


@given(st.lists(st.integers(-1, 9), min_size=1, max_size=4), st.integers(0, 7), extents, extents, seeds)
def test_grouped_dynamic(sizes, m, n, k, seed):
    g, start = len(sizes), torch.tensor(sizes)
    x, w = random_f8(g, m, k, seed=seed)[0], random_f8(g, n, k, seed=seed + 1)[0]
    sx, sw = random_scale(g, m, seed=seed), random_scale(g, n, seed=seed + 1)
    y, b = f.f8f8bf16_rowwise_grouped_dynamic(x, w, sx, sw, start), f.bf16bf16bf16_grouped_dynamic(x.to(BF16), w.to(BF16), start)
    for i, size in enumerate(sizes):
        size = min(max(size, 0), m)
        assert torch.equal(y[i, :size], f.f8f8bf16_rowwise(x[i, :size], w[i], sx[i, :size], sw[i])) and not y[i, size:].any()
        assert torch.equal(b[i, :size], f.bf16_fast_gemv(x[i, :size].to(BF16), w[i].to(BF16))) and not b[i, size:].any()


def test_leading_dimensions():
    x, w = random_f8(2, 3, 5, 32, seed=1)[0], random_f8(7, 32, seed=2)[0]
    sx, sw = random_scale(30, seed=1), random_scale(7, seed=2)
    y = f.f8f8bf16_rowwise(x, w, sx, sw)
    assert y.shape == (2, 3, 5, 7) and torch.equal(y.view(30, 7), f.f8f8bf16_rowwise(x.view(30, 32), w, sx, sw))


def test_scale_fp8_row():
    a, sx, sw = torch.randn(3, 4).bfloat16(), torch.rand(3), torch.rand(4)
    assert torch.equal(ot.scale_fp8_row(a, sx, sw), (a.float() * sx[:, None] * sw).bfloat16())


def test_errors():
    x, w = random_f8(3, 32, seed=1)[0], random_f8(5, 32, seed=2)[0]
    sx, sw = torch.ones(3), torch.ones(5)
    for call, text in (
            (lambda: f.f8f8bf16_rowwise(x, w[:, 1:], sx, sw), r"f8f8bf16_rowwise: WQ is float8_e4m3fn \[5, 31\]; it must be \[N, K = 32\]"),
            (lambda: f.f8f8bf16_rowwise(x.float(), w, sx, sw), r"XQ is float32 \[3, 32\]; it must be float8_e4m3fn"),
            (lambda: f.f8f8bf16_rowwise(x, w, sx[1:], sw), r"x_scale is float32 \[2\]; it must be float32 with 3 scales"),
            (lambda: f.f8f8bf16_rowwise(x, w, sx, sw, torch.ones(4)), r"bias is float32 \[4\]; it must be float32 or bfloat16 \[N = 5\]"),
            (lambda: f.f8f8bf16_rowwise_out(x, w, sx, sw, torch.empty(3, 6, dtype=BF16)), r"output is bfloat16 \[3, 6\]; it must be bfloat16 \[3, 5\]"),
            (lambda: f.f8f8bf16_rowwise_out(x, w, sx, sw, torch.empty(5, 3, dtype=BF16).T), "output .* must have contiguous rows"),
            (lambda: f.f8f8bf16_blockwise(x, w, sx, sw, 64), "blocks of 64, 128, 128 are not supported; block_m, block_n and block_k must be 128"),
            (lambda: f.f8f8bf16_rowwise_grouped([x], [w, w], [sx], [sw]), "WQ has 2 tensors; XQ has 1"),
            (lambda: ot.matmul_fp8_block(x, w, sx, sw, 100), "scale_block_m is 100; it must be a multiple of 128")):
        with pytest.raises(RuntimeError, match=text):
            call()
