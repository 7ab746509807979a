"""RMSNorm and SwiGLU's product, quantized: codes may differ from the exact ones only where the value lies at a rounding boundary."""
import pytest
import torch
from hypothesis import given, strategies as st

from reference import BF16, F32, MAX, U, amax_of, codes

o = torch.ops.octavo
shapes = st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(1, 300))
dtypes = st.sampled_from([F32, BF16])


def check_codes(q, scale, v, error, scales, group):
    """q and scale are v's codes by the scales given, v within `error` relatively of the exact values in float64."""
    v = v.reshape(q.shape)
    assert ((scale.double() - scales).abs() <= (error + 2 * U) * scales).all()
    spread = scale.double().repeat_interleave(group or max(q.shape[-1], 1), -1)[..., :q.shape[-1]]
    x = v / spread
    low, high = (codes((x - x.abs() * (error + 4 * U)).float()).float(), codes((x + x.abs() * (error + 4 * U)).float()).float())
    got = q.float()
    assert ((low <= got) & (got <= high)).all()


@given(shapes, dtypes, dtypes, st.booleans(), st.booleans(), st.sampled_from([0, 1]))
def test_norm(shape, dtype, residual_dtype, with_weight, with_residual, rule):
    g, k = torch.Generator().manual_seed(3), shape[-1]
    x = torch.randn(*shape, generator=g).to(dtype)
    weight = torch.rand(k, generator=g) + 0.5 if with_weight else None
    residual = torch.randn(*shape, generator=g).to(residual_dtype) if with_residual else None
    h = x.float() if residual is None else (x.float() + residual.float()).to(residual_dtype).float()
    v = h.double() * (h.double().square().mean(-1, keepdim=True) + 1e-5).rsqrt() * (1 if weight is None else weight.double())
    error = (k / 2 + 8) * U
    r = None if residual is None else residual.clone()
    y = o.norm(x, weight, 1e-5, r, F32)
    assert ((y.double() - v).abs() <= (error + U) * v.abs() + 2.0**-149).all() and (r is None or torch.equal(r.float(), h))
    for group in (0, 32):
        r = None if residual is None else residual.clone()
        q, s = o.norm_quant(x, weight, 1e-5, r, group, None, rule)
        assert r is None or torch.equal(r.float(), h)
        parts = v.split(group, -1) if group else [v]
        amax = torch.cat([amax_of(p, -1) for p in parts], -1)
        scales = (amax / MAX).clamp_min(1 / (MAX * 512)) if rule == 0 else amax.clamp_min(1e-12) / MAX
        check_codes(q, s if group else s.unsqueeze(-1), v, error, scales, group)


@given(shapes, dtypes, st.booleans())
def test_silu(shape, dtype, halves):
    g = torch.Generator().manual_seed(4)
    both = (torch.randn(*shape[:-1], 2 * shape[-1], generator=g) * 3).to(dtype)
    gate, up = both.chunk(2, -1) if halves else (t.contiguous() for t in both.chunk(2, -1))
    v = torch.nn.functional.silu(gate.double()) * up.double()
    y = o.silu_mul(gate, up)
    rounding = U if dtype == F32 else 2.0**-8
    assert y.dtype == dtype and ((y.double() - v).abs() <= (16 * U + rounding) * v.abs() + 2.0**-126).all()
    for group in (0, 100):
        q, s = o.silu_mul_quant(gate, up, group)
        parts = v.split(group, -1) if group else [v]
        amax = torch.cat([amax_of(p, -1) for p in parts], -1)
        check_codes(q, s if group else s.unsqueeze(-1), v, 16 * U, (amax / MAX).clamp_min(1 / (MAX * 512)), group)


def test_errors():
    x = torch.randn(3, 8)
    for call, text in ((lambda: o.norm(x, torch.ones(7)), r"weight is float32 \[7\]; it must be float32 or bfloat16 \[K = 8\]"),
                       (lambda: o.norm(x, residual=torch.ones(8, 3)), r"residual is float32 \[8, 3\]"),
                       (lambda: o.norm_quant(x, group_size=-1), "group_size is -1; 0 is a scale a row"),
                       (lambda: o.silu_mul(x, x[:2]), r"up is float32 \[2, 8\]; it must have the shape and dtype of gate")):
        with pytest.raises(RuntimeError, match=text):
            call()
