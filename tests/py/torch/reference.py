"""The operators in plain torch, as their formulas, on the CPU; and how far from them a result may lie."""
import math

import torch

F8, BF16, F16, F32 = torch.float8_e4m3fn, torch.bfloat16, torch.float16, torch.float32
MAX, U = 448.0, 2.0**-24
SMALLEST = torch.tensor(1 / (MAX * 512), dtype=F32)


def amax_of(x, dim, keepdim=True):
    """NaN is ignored; of nothing 0."""
    x = torch.where(x.isnan(), 0, x.abs())
    if dim == -1:
        return torch.cat([x, x.new_zeros(*x.shape[:-1], 1)], -1).amax(-1, keepdim=keepdim)
    return x.amax(dim, keepdim=keepdim) if x.numel() else x.new_zeros(())


def codes(x):
    return torch.where(x.isnan(), math.nan, x.clamp(-MAX, MAX)).to(F8)


def rule_min(amax, ub=None):
    return torch.maximum((amax if ub is None else amax.minimum(ub)) / MAX, SMALLEST)


def rule_eps(amax, ub=None):
    """Scale and what x is multiplied by."""
    a = (amax if ub is None else amax.minimum(ub)).clamp_min(1e-12)
    multiplier = torch.full_like(a, MAX) / a  # not MAX / a, which torch computes as MAX times a reciprocal
    return torch.ones_like(a) / multiplier, multiplier


def quantize_rows(x, ub=None):
    x = x.float().reshape(math.prod(x.shape[:-1]), x.shape[-1])
    scale = rule_min(amax_of(x, -1), ub)
    return codes(x / scale), scale.view(-1)


def same_codes(got, want):
    """Bits, but any NaN is a NaN."""
    a, b = got.cpu().float(), want.reshape(got.shape).float()
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(got.cpu().view(torch.uint8)[~a.isnan()], want.reshape(got.shape).view(torch.uint8)[~a.isnan()])


def check_gemm(y, x, w, sx, sw, bias=None):
    """octavo.h's bound: x [m, k], w [n, k] in float64, sx and sw broadcast to them."""
    y, s = y.cpu().double(), sx.abs().max() * sw.abs().max() if x.numel() and w.numel() else torch.tensor(0.0)
    want, total = (x * sx) @ (w * sw).T, (x * sx).abs() @ (w * sw).abs().T
    if bias is not None:
        want, total = want + bias.double(), total + bias.abs().double()
    small = 2.0**-126 * (1 + s + s * x.abs().max()) if x.numel() else 0.0
    bound = 2 * (x.shape[1] + 8) * U * (total + small)
    bound = bound + 2.0**-8 * (want.abs() + bound) + 2.0**-133  # and rounding to bf16
    assert ((y - want).abs() <= bound).all(), ((y - want).abs() / bound.clamp_min(1e-300)).max().item()
