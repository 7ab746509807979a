"""KV caches: what the operators write is what the formulas say, byte by byte where nothing is rotated; what they read and attend
to lies within octavo.h's bounds of float64."""
import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from reference import BF16, F8, MAX, U

f, o = torch.ops.fbgemm, torch.ops.octavo
FORMATS = {"bf16": (0, 1), "fp8": (1, 1), "int4": (2, 1), "int4 of 4 groups": (2, 4)}
formats = st.sampled_from(list(FORMATS))


def i32(values):
    return torch.as_tensor(values, dtype=torch.int32)


def empty_cache(format, b, t, h, d):
    logical, groups = FORMATS[format]
    if logical == 0:
        return torch.full((b, t, h, d), 7.0, dtype=BF16)
    return torch.full((b, t, h, d + 4 if logical == 1 else d // 2 + 4 * groups), 171, dtype=torch.uint8)


def params(scale, shift):
    return torch.stack([scale, shift], -1).half().contiguous().view(torch.uint8).flatten(-2)


def store(format, x):
    """Rows of a cache from float32 [.., d]."""
    logical, groups = FORMATS[format]
    if logical == 0:
        return x.to(BF16)
    x = x.unflatten(-1, (groups, -1))
    low, high = x.amin(-1), x.amax(-1)
    if logical == 1:
        scale = (((high - low) / 2).clamp(max=32750) / MAX).clamp_min(torch.tensor(1 / (MAX * 512)))
        shift = low + 448 * scale
        inverse = torch.ones_like(scale) / scale
        y = (x.double() * inverse.double().unsqueeze(-1) + (-shift / scale).double().unsqueeze(-1)).float()
        return torch.cat([params(scale, shift), y.clamp(-MAX, MAX).to(F8).view(torch.uint8).flatten(-2)], -1)
    scale = (high - low) / 15
    inverse = (15 / (scale.double() * 15 + 1e-8)).float()
    code = ((x - low.unsqueeze(-1)) * inverse.unsqueeze(-1)).round().clamp(0, 15).to(torch.uint8).flatten(-2).unflatten(-1, (-1, 2))
    return torch.cat([params(scale, low), code[..., 0] | code[..., 1] << 4], -1)


def read(format, rows):
    """The values of rows, and by how much storing may have changed them, in float64."""
    logical, groups = FORMATS[format]
    if logical == 0:
        return rows.double(), rows.double().abs() * 2.0**-8 + 1e-38
    p = rows[..., :4 * groups].contiguous().view(torch.float16).double().unflatten(-1, (groups, 2))
    scale, shift = p[..., :1], p[..., 1:]
    codes = rows[..., 4 * groups:].contiguous()
    x = codes.view(F8).double() if logical == 1 else torch.stack([codes & 15, codes >> 4], -1).flatten(-2).double()
    x = x.unflatten(-1, (groups, -1))
    step = x.abs().clamp_min(2.0**-6) * 2.0**-4 if logical == 1 else 0.5
    lost = scale * step + 2.0**-10 * (scale * x.abs() + shift.abs()) + 2.0**-23
    return (scale * x + shift).flatten(-2), (lost * 1.01).flatten(-2)


def rotated(x, pos, theta, half, scaling):
    """In float64: [tokens, heads, d]."""
    d = x.shape[-1]
    freq = theta ** (-torch.arange(0, d, 2).double() / d)
    if scaling:
        context, factor, low, high = scaling
        length = 2 * math.pi / freq
        s = (context / length - low) / (high - low)
        freq = torch.where(length < context / high, freq, torch.where(length > context / low, freq / factor, (1 - s) * freq / factor + s * freq))
    angle = (pos.double()[:, None] * freq)[:, None]
    x = x.double()
    a, b = x.chunk(2, -1) if half else (x[..., 0::2], x[..., 1::2])
    y = a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()
    return torch.cat(y, -1) if half else torch.stack(y, -1).flatten(-2)


def qkv(t, heads, kv_heads, d, seed):
    """Slices of one fused tensor, as models have them."""
    whole = torch.randn(t, heads + 2 * kv_heads, d, generator=torch.Generator().manual_seed(seed)).to(BF16)
    return whole.split([heads, kv_heads, kv_heads], 1)


def where(format, b, t, h, d, paged):
    """Two caches, block tables and page size, and where a lane's tokens lie in the flat list of tokens."""
    k, v = (empty_cache(format, *((1, b * t) if paged else (b, t)), h, d) for _ in range(2))
    table = i32(torch.randperm(b * (t // 4), generator=torch.Generator().manual_seed(9)).view(b, t // 4)) if paged else None

    def place(lane, slot):
        return int(table[lane, slot // 4]) * 4 + slot % 4 if paged else lane * t + slot
    return k, v, table, place


@given(formats, st.booleans(), st.integers(1, 4), st.integers(1, 3), st.sampled_from([16, 64, 128]), st.booleans(), st.integers(0, 99))
def test_nope_stores_exactly(format, paged, group, h, d, norm, seed):
    t, b, max_t = 6, 3, 8
    q, k, v = qkv(t, h * group, h, d, seed)
    ck, cv, table, place = where(format, b, max_t, h, d, paged)
    untouched = ck.clone()
    lane, pos = i32([0, 0, 0, 1, 2, 2]), i32([0, 1, 2, 7, -1, 4])
    logical, groups = FORMATS[format]
    y = f.nope_qkv_varseq_prefill(q, k, v, ck, cv, lane, pos, table, 4, torch.tensor([5]), None, logical, groups, k_norm=norm)
    scale = {name: x.double() / x.double().square().mean(-1, keepdim=True).sqrt() if norm else x.double() for name, x in (("q", q), ("k", k))}
    live = [i for i in range(5) if pos[i] >= 0]
    assert ((y.double() - scale["q"])[live].abs() <= scale["q"][live].abs() * 2.0**-8 * 1.01).all() and not y[[4, 5]].any()
    rows_k, rows_v = ck.flatten(0, 1), cv.flatten(0, 1)
    for i in live:
        at = place(int(lane[i]), int(pos[i]))
        assert torch.equal(rows_v[at].view(torch.uint8), store(format, v[i].float()).view(torch.uint8))
        if not norm:
            assert torch.equal(rows_k[at].view(torch.uint8), store(format, k[i].float()).view(torch.uint8))
        else:
            got, lost = read(format, rows_k[at])
            assert ((got - scale["k"][i]).abs() <= lost + 8 * U * scale["k"][i].abs()).all()
        rows_k[at] = untouched.flatten(0, 1)[at]
    assert torch.equal(ck.view(torch.uint8), untouched.view(torch.uint8))  # and nothing else was written


@given(formats, st.booleans(), st.integers(1, 4), st.sampled_from([16, 64]), st.booleans(), st.booleans(), st.sampled_from([0, 5000, 130000]), st.integers(0, 99))
def test_rope(format, paged, group, d, half, scaled, first, seed):
    t, h, b, max_t = 4, 2, 2, 8
    q, k, v = qkv(t, h * group, h, d, seed)
    lane, slot = i32([0, 0, 1, 1]), i32([0, 1, 6, 7])
    pos = slot + first
    scaling = (8192, 8.0, 1.0, 4.0) if scaled else None
    frequencies = (scaled, 8192, 8.0, 1.0, 4.0)
    logical, groups = FORMATS[format]
    want_q, want_k = rotated(q, pos, 5e5, half, scaling), rotated(k, pos, 5e5, half, scaling)
    near = 4 * U * 2 * max(q.abs().max().item(), k.abs().max().item())
    for write_back in (False, True):
        ck, cv, table, place = where(format, b, max_t, h, d, paged)
        mine = k.clone()
        if half:
            y = o.rope_kv(q, mine, v, ck, cv, pos, lane, slot, 5e5, True, logical, groups, table, 4, *frequencies)
        else:
            y = f.rope_qkv_varseq_prefill(q, mine, v, ck, cv, lane, pos, 5e5, groups, table, 4, None, slot, logical, *frequencies, None, None, write_back)
            back = want_k if write_back else k.double()
            assert ((mine.double() - back).abs() <= (back.abs() * 2.0**-8 + near if write_back else 0)).all()
        assert ((y.double() - want_q).abs() <= want_q.abs() * 2.0**-8 + near).all()
        for i in range(t):
            at = place(int(lane[i]), int(slot[i]))
            got, lost = read(format, ck.flatten(0, 1)[at])
            assert ((got - want_k[i]).abs() <= lost + near).all()
            assert torch.equal(cv.flatten(0, 1)[at].view(torch.uint8), store(format, v[i].float()).view(torch.uint8))


def test_decoding_is_prefill_of_one_token_a_lane():
    q, k, v = qkv(3, 4, 2, 64, 1)
    for format, (logical, groups) in FORMATS.items():
        seqpos, batch = i32([5, 0, 7]), i32([2, 0, 1])
        caches = [where(format, 3, 8, 2, 64, False)[:2] for _ in range(3)]
        a = f.rope_qkv_decoding(q, k, v, *caches[0], seqpos, 1e4, groups, cache_logical_dtype_int=logical, batch=batch)
        b = f.rope_qkv_varseq_prefill(q, k, v, *caches[1], batch, seqpos, 1e4, groups, cache_logical_dtype_int=logical)
        assert torch.equal(a, b) and all(torch.equal(x, y) for x, y in zip(caches[0], caches[1]))
        only_q = f.rope_qkv_decoding(q, None, None, *caches[2], seqpos, 1e4, groups, cache_logical_dtype_int=logical, update_kv=False)
        assert torch.equal(only_q, a) and torch.equal(caches[2][0], where(format, 3, 8, 2, 64, False)[0])
        a = f.nope_qkv_decoding(q, k, v, *caches[0], seqpos, num_groups=groups, cache_logical_dtype_int=logical)
        assert torch.equal(a, q)


def filled(format, b, t, h, d, seed, paged=False):
    k, v, table, place = where(format, b, t, h, d, paged)
    g = torch.Generator().manual_seed(seed)
    for c in (k, v):
        c.copy_(store(format, torch.randn(*c.shape[:3], d, generator=g)))
    return k, v, table, place


@given(formats.filter(lambda x: x != "bf16"), st.booleans(), st.integers(1, 3), st.sampled_from([16, 64, 128]), st.integers(0, 99))
def test_dequantize(format, paged, h, d, seed):
    logical, groups = FORMATS[format]
    paged = paged and logical == 1
    k, v, table, place = filled(format, 3, 8, h, d, seed, paged)
    lens = [8, 0, 5]
    got = f.dequantize_fp8_cache(k, v, i32(lens), None, None, table, 4) if logical == 1 else f.dequantize_int4_cache(k, v, i32(lens), groups)
    for out, rows in zip(got, (k, v)):
        want = torch.zeros(24, h, d, dtype=torch.float64)
        for b, n in enumerate(lens):
            for t in range(n):
                want[place(b, t)] = read(format, rows.flatten(0, 1)[place(b, t)])[0]
        assert torch.equal(out.flatten(0, 1), want.float().to(BF16)) and out.shape == (*rows.shape[:3], d)


def attention(q, k, v, scale):
    """Float64: q [heads, d], k and v [t, kv heads, d]; and octavo.h's bound. Also the scores [heads, t]."""
    heads, d = q.shape
    k, v = (x.repeat_interleave(heads // x.shape[1], 1).transpose(0, 1) for x in (k, v))
    if not k.shape[1]:
        return torch.zeros(heads, d).double(), torch.zeros(heads, d).double(), torch.zeros(heads, 0).double(), v
    s = (k @ q.double().unsqueeze(-1)).squeeze(-1) * scale
    e = 4 * (d + 8) * U * abs(scale) * (k.abs() @ q.double().abs().unsqueeze(-1)).amax(1)
    y = (s.softmax(-1).unsqueeze(1) @ v).squeeze(1)
    bound = (2 * e + 8 * (k.shape[1] + 16) * U) * v.abs().amax(1) + 2.0**-126
    return y, bound, s, v


@given(formats, st.booleans(), st.integers(1, 3), st.integers(1, 5), st.sampled_from([16, 64, 128]), st.integers(0, 99))
def test_attention_of_any_shape(format, paged, h, group, d, seed):
    logical, groups = FORMATS[format]
    k, v, table, place = filled(format, 3, 24, h, d, seed, paged)
    lane, lens = [0, 0, 0, 2, 1, 1], [1, 2, 3, 24, 0, 17]
    q = qkv(6, h * group, h, d, seed)[0]
    y = o.attn(q, k, v, i32(lens), i32(lane), None, logical, groups, table, 4)
    y32 = o.attn(q, k, v, i32(lens), i32(lane), 0.3, logical, groups, table, 4, torch.float32)
    for i, (b, n) in enumerate(zip(lane, lens)):
        at = [place(b, t) for t in range(n)]
        kd, vd = (read(format, c.flatten(0, 1)[at])[0].view(n, h, d) for c in (k, v))
        want, bound, _, _ = attention(q[i], kd, vd, d**-0.5)
        assert ((y[i].double() - want).abs() <= bound + (want.abs() + bound) * 2.0**-8).all()
        want, bound, _, _ = attention(q[i], kd, vd, 0.3)
        assert ((y32[i].double() - want).abs() <= bound + (want.abs() + bound) * U).all()


@settings(max_examples=30)
@given(formats, st.sampled_from([1, 2, 4, 8, 13, 16]), st.integers(1, 9), st.sampled_from([64, 128]), st.integers(0, 99))
def test_gqa_attn_splitk(format, splits, heads, d, seed):
    logical, groups = FORMATS[format]
    k, v, _, _ = filled(format, 3, 24, 1, d, seed)
    q, last = qkv(3, heads, 1, d, seed)[0].unsqueeze(1).contiguous(), [23, -1, 9]
    y, part, meta = f.gqa_attn_splitk(q, k, v, i32(last), d**-0.5, splits, groups, True, logical)
    one = f.mqa_attn(q, k, v, i32(last), d**-0.5, groups, logical)
    assert y.shape == q.shape and part.shape == (3, splits, heads, d) and meta.shape == (3, 2, splits, heads)
    for b in range(3):
        n = last[b] + 1
        kd, vd = (read(format, c[b, :n])[0].view(n, 1, d) for c in (k, v))
        want, bound, s, values = attention(q[b, 0], kd, vd, d**-0.5)
        for out in (y, one):
            assert ((out[b, 0].double() - want).abs() <= bound + (want.abs() + bound) * 2.0**-8).all()
        width = -(-n // splits)
        for j in range(splits):
            part_s, part_v = s[:, j * width:(j + 1) * width] if n else s, values[:, j * width:(j + 1) * width] if n else values
            if not part_s.shape[1]:
                assert (meta[b, 0, j] == -math.inf).all() and not meta[b, 1, j].any() and not part[b, j].any()
                continue
            top = part_s.amax(1)
            p = (part_s - top.unsqueeze(1)).exp()
            assert torch.allclose(meta[b, 0, j].double(), top, rtol=1e-5, atol=1e-5) and torch.allclose(meta[b, 1, j].double(), p.sum(1), rtol=1e-4)
            assert torch.allclose(part[b, j].double(), (p.unsqueeze(1) @ part_v).squeeze(1), rtol=1e-4, atol=1e-4)


def test_attention_with_a_scale_of_zero_is_the_mean():
    k, v, _, _ = filled("bf16", 1, 8, 1, 64, 3)
    y = f.mqa_attn(torch.ones(1, 1, 2, 64, dtype=BF16), k, v, i32([7]), 0.0)
    assert torch.allclose(y[0, 0, 0].double(), v[0, :, 0].double().mean(0), rtol=2.0**-7, atol=1e-6)


def test_errors():
    q, k, v = qkv(2, 4, 2, 64, 1)
    ck, cv = (empty_cache("fp8", 2, 8, 2, 64) for _ in range(2))
    args = (q, k, v, ck, cv)
    lane = pos = i32([0, 1])
    for call, text in (
            (lambda: f.rope_qkv_decoding(*args, pos, 1e4), r"cache_K is uint8 \[2, 8, 2, 68\]; it must have rows of 36 bytes for a head size of 64"),
            (lambda: f.rope_qkv_decoding(*args, pos, 1e4, cache_logical_dtype_int=1, qparam_k=pos), "qparam_k is int32 .* must be None"),
            (lambda: f.rope_qkv_decoding(*args, pos.long(), 1e4, cache_logical_dtype_int=1), r"seqpos is int64 \[2\]; it must be int32 \[2\]"),
            (lambda: f.rope_qkv_decoding(*args, i32([0, 8]), 1e4, cache_logical_dtype_int=1), "slot of token 1 is 8; a lane of the cache holds 8 tokens"),
            (lambda: f.rope_qkv_decoding(*args, pos, 1e4, cache_logical_dtype_int=1, update_kv=False), "XK is bfloat16 .* must be None, as update_kv is False"),
            (lambda: f.rope_qkv_decoding(q, None, None, ck, cv, pos, 1e4, cache_logical_dtype_int=1), "XK is None; it must be a tensor"),
            (lambda: f.rope_qkv_varseq_prefill(*args, i32([0, 2]), pos, 1e4, cache_logical_dtype_int=1), "lane of token 1 is 2; the cache has 2 lanes"),
            (lambda: f.nope_qkv_decoding(*args, pos, i32([[0, 1]]), 64, cache_logical_dtype_int=1), r"must be \[1, PAGES page_size = 64, H, ROW\]"),
            (lambda: f.rope_qkv_decoding(q, k, v, ck, cv[:, :4], pos, 1e4, cache_logical_dtype_int=1), "cache_V is .* must have the dtype, shape and strides of cache_K"),
            (lambda: f.rope_qkv_decoding(q, k, v, ck.view(F8), cv.view(F8), pos, 1e4), "FP8 caches with a scale a head are not supported yet"),
            (lambda: f.mqa_attn(q, ck, cv, pos, 1.0), r"XQ is bfloat16 \[2, 4, 64\]; it must be bfloat16 \[B, 1, H, D\]"),
            (lambda: f.gqa_attn_splitk(q.unsqueeze(1), ck, cv, pos, 1.0, 0, 1, True, 1), "num_split_ks is 0; it must be at least 1"),
            (lambda: o.attn(q[:, :3], ck, cv, pos, None, None, 1), "heads is 3; it must be a multiple of kv.heads = 2")):
        with pytest.raises(RuntimeError, match=text):
            call()
