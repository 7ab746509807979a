#!/usr/bin/env python3
"""Makes the golden vectors that the scalar references in src/ are checked against. README.md beside this file lists them.

Nothing here uses octavo: the formulas are those of include/octavo.h, written in numpy, with the conversions of ml_dtypes.
What must agree bit by bit is computed in float32 with one rounding an operation; everything else is computed in float64
and comes with the bound that include/octavo.h states.

Use: make_golden.py [--check]     --check compares with the files in the tree instead of writing them; where torch can be
                                  imported it also compares with torch. Run with .deps/venv/bin/python.
"""
import argparse
import io
import pathlib
import sys

import ml_dtypes
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
F32, F64, BF16, F8 = np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn
U = 2.0**-24  # half an ulp of f32 at 1
MAX = F32(448)
TINY = 2.0**-126


# ---- Conversions: arrays in, bits out; every NaN is the canonical one --------------------------------------------------


def f8_bits(x):
    """float32 -> f8e4m3fn, nearest even, saturating. ml_dtypes turns what is too large into NaN, so clamp first."""
    x = np.asarray(x, F32)
    with np.errstate(invalid="ignore"):
        codes = np.clip(x, -MAX, MAX).astype(F8).view(np.uint8)
    return np.where(np.isnan(x), np.uint8(0x7F), codes)


def f8_value(codes):
    return np.asarray(codes, np.uint8).view(F8).astype(F32)


def bf16_bits(x):
    x = np.asarray(x, F32)
    return np.where(np.isnan(x), np.uint16(0x7FC0), x.astype(BF16).view(np.uint16))


def bf16_value(bits):
    return np.asarray(bits, np.uint16).view(BF16).astype(F32)


def f16_bits(x):
    x = np.asarray(x, F32)
    with np.errstate(over="ignore", under="ignore"):
        return np.where(np.isnan(x), np.uint16(0x7E00), x.astype(np.float16).view(np.uint16))


def f16_value(bits):
    return np.asarray(bits, np.uint16).view(np.float16).astype(F32)


def f32_bits(x):
    x = np.asarray(x, F32)
    return np.where(np.isnan(x), np.uint32(0x7FC00000), x.view(np.uint32)).view(F32)


def fma32(a, b, c):
    """float32(a b + c) with one rounding. In float64 the product is exact; the sum is rounded to odd, which makes the
    second rounding to float32 right."""
    product, c = np.asarray(a, F64) * np.asarray(b, F64), np.asarray(c, F64)
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)  # exact: total + error = product + c
    even = (total.view(np.int64) & 1) == 0
    odd = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & even, odd, total).astype(F32)


# ---- What a topic writes: <topic>.txt with a line a case, and flat arrays in which the cases follow each other ----------


class Topic:
    def __init__(self, name, columns):
        self.name, self.lines, self.arrays = name, ["# " + columns], {}

    def case(self, *values, **arrays):
        if values:
            self.lines.append(" ".join(str(v) for v in values))
        if "bound" in arrays:  # rounded up
            arrays["bound"] = np.nextafter(arrays["bound"].astype(F32), F32(np.inf))
        for key, array in arrays.items():
            self.arrays.setdefault(key, []).append(np.ascontiguousarray(array).reshape(-1))

    def files(self):
        if len(self.lines) > 1:
            yield self.name + ".txt", ("\n".join(self.lines) + "\n").encode()
        for key, parts in self.arrays.items():
            yield f"{self.name}_{key}.npy", npy(np.concatenate(parts))


def npy(array):
    """A .npy file of format version 1.0: what np.save writes, spelt out so that the bytes never depend on numpy."""
    header = f"{{'descr': '{array.dtype.newbyteorder('<').str}', 'fortran_order': False, 'shape': ({array.size},), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + array.tobytes()


# ---- Inputs --------------------------------------------------------------------------------------------------------------


def normal(rng, *shape, scale=1.0):
    """Roughly normal: a sum of uniforms, whose stream numpy does not change between releases."""
    return ((rng.random((12, *shape)).sum(0) - 6.0) * scale).astype(F32)


def hostile(rng, m, k):
    """One kind of trouble a row, the rest normal."""
    x = normal(rng, m, k)
    rows = iter(x)
    next(rows)[:] *= 1e-3
    next(rows)[:] = 0
    next(rows)[:] = -0.0
    next(rows)[k // 3] = np.nan
    next(rows)[:] = np.nan
    row = next(rows)
    row[1], row[k - 1] = np.inf, -np.inf
    next(rows)[:] *= F32(1e-40)  # subnormal
    next(rows)[:] *= F32(5e37)  # near the largest float
    next(rows)[k // 2] = 1e6  # an outlier
    next(rows)[:] *= F32(1e-7)  # below the smallest scale
    row = next(rows)
    row[:] = 448.0 * rng.integers(-2, 3, k)
    row[0], row[k - 1] = np.nan, np.inf
    row = next(rows)  # halves between codes: ties
    row[:] = f8_value(rng.integers(0, 0x7E, k).astype(np.uint8)) * F32(1 + 2**-4)
    row[0] = 448
    return x


# ---- f8: conversions -----------------------------------------------------------------------------------------------------


def topic_convert():
    topic = Topic("convert", "")
    every_bf16 = bf16_value(np.arange(65536, dtype=np.uint16))
    topic.case(f8_of_bf16=f8_bits(every_bf16), f32_of_f8=f32_bits(f8_value(np.arange(256, dtype=np.uint8))))
    # float32 values at, just below and just above every boundary: codes and the middles between them, both signs
    codes = f8_value(np.arange(0x7F, dtype=np.uint8))
    edges = np.concatenate([codes, (codes[1:] + codes[:-1]) / 2, F32([464, 480, 1e38, 1e-45, 2**-10, 2**-11])]).astype(F32)
    near = np.concatenate([np.nextafter(edges, F32(-np.inf)), edges, np.nextafter(edges, F32(np.inf)), F32([np.inf, np.nan])])
    near = f32_bits(np.concatenate([near, -near]))
    topic.case(f32=near, f8_of_f32=f8_bits(near))
    # float32 -> bf16, f16: random bits, and exact middles
    rng = np.random.Generator(np.random.PCG64(1))
    bits = rng.integers(0, 2**32, 6144, dtype=np.uint32)
    bits[:2048] = bits[:2048] & 0xFFFF0000 | 0x8000
    half = (rng.random(2048) * 16 - 8).astype(np.float16).astype(F32)  # middles between float16 values
    half = half + np.spacing(half.astype(np.float16)).astype(F32) / 2
    value = f32_bits(np.concatenate([bits.view(F32), half, F32([65504, 65519.996, 65520, 6e-8, 2.9e-8, 1e-45, -np.inf])]))
    topic.case(wide=value, bf16_of_wide=bf16_bits(value), f16_of_wide=f16_bits(value))
    return topic


# ---- quant and dequant ---------------------------------------------------------------------------------------------------


def scale_of(amax, rule, ub):
    """(stored scale, factor, divide): q = sat(x / factor) when divide, else sat(x factor)."""
    amax = np.minimum(amax, F32(ub))
    if rule == "min":
        s = np.maximum(amax / MAX, F32(1) / (MAX * F32(512)))
        return s, s, True
    r = MAX / np.maximum(amax, F32(1e-12))
    return F32(1) / r, r, False


def spread(scale, bm, bk, m, k):
    """A scale a block, as a scale an element."""
    return np.repeat(np.repeat(scale, bm, 0)[:m], bk, 1)[:, :k]


def quantize(x, bm, bk, rule, ub):
    m, k = x.shape
    grid = np.zeros((-(-m // bm), -(-k // bk)), F32)
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            tile = np.abs(x[i * bm : (i + 1) * bm, j * bk : (j + 1) * bk])
            grid[i, j] = np.fmax.reduce(tile, axis=None, initial=F32(0))  # NaN ignored
    scale, factor, divide = scale_of(grid, rule, ub)
    factor = spread(factor, bm, bk, m, k)
    return f8_bits(x / factor if divide else x * factor), scale


BITS = {"f32": f32_bits, "bf16": bf16_bits, "f16": f16_bits}


def dequantize(codes, scale, dtype):
    return {"dequant_" + dtype: BITS[dtype](f8_value(codes) * scale)}


def topic_quant():
    topic = Topic("quant", "x_dtype x_offset scaling rule scale_layout m k block_m block_k scale_ub")
    rng = np.random.Generator(np.random.PCG64(2))
    f32 = {"hostile": hostile(rng, 13, 140), "normal": normal(rng, 3, 201, scale=30.0), "blocks": normal(rng, 130, 40)}
    inputs = {"f32": f32, "bf16": {name: bf16_value(bf16_bits(x)) for name, x in f32.items()}}
    inputs["f16"] = {name: f16_value(f16_bits(f32[name])) for name in ("hostile", "normal")}
    offset = {}
    for dtype, matrices in inputs.items():
        at = 0
        for name, x in matrices.items():
            offset[dtype, name], at = at, at + x.size
            topic.case(**{"x_" + dtype: BITS[dtype](x)})
    whole = {"tensor": lambda m, k: (m, k), "row": lambda m, k: (1, k), "col": lambda m, k: (m, 1)}
    scopes = [("tensor", 0, 0, "k"), ("row", 0, 0, "k"), ("group", 0, 32, "k"), ("group", 0, 128, "mn")]
    scopes += [("block", 5, 48, "k"), ("block", 4, 64, "mn")]
    cases = [
        (dtype, name, scope, rule, ub)
        for dtype in ("f32", "bf16")
        for name, ub in (("hostile", np.inf), ("normal", np.inf), ("normal", 47.5), ("hostile", 1200.0))
        for scope in scopes
        for rule in ("min", "eps")
        # the cheap matrix goes through everything, the hostile one through half of it for each type
        if name == "normal" or (scopes.index(scope) + (dtype == "f32") + (ub == np.inf)) % 2
    ]
    cases += [("f32", "blocks", ("block", 128, 128, "k"), "min", np.inf), ("bf16", "blocks", ("group", 0, 128, "k"), "eps", np.inf)]
    col = ("col", 0, 0, "k")
    troubles = (("hostile", np.inf), ("normal", 47.5), ("hostile", 1200.0))
    cases += [(dtype, name, col, rule, ub) for dtype in inputs for name, ub in troubles for rule in ("min", "eps")]
    cases += [("f16", name, scope, rule, ub) for name, ub in troubles for scope in scopes for rule in ("min", "eps")]
    with np.errstate(all="ignore"):
        for dtype, name, (scaling, bm, bk, layout), rule, ub in cases:
            x = inputs[dtype][name]
            m, k = x.shape
            rows, cols = whole[scaling](m, k) if scaling in whole else (bm or 1, bk)
            y, scale = quantize(x, rows, cols, rule, ub)
            topic.case(
                dtype, offset[dtype, name], scaling, rule, layout, m, k, bm, bk, ub,
                y=y, scale=scale.T if layout == "mn" else scale, **dequantize(y, spread(scale, rows, cols, m, k), dtype),
            )
        # scales that are given, good and bad ones
        given = F32([0.01, 1, 1, -2, 1e-40, np.inf, 1e-42, 1e36, 3000, 1e-9, 0, 1, np.nan])
        for dtype in inputs:
            scale = given[:, None]
            y = f8_bits(inputs[dtype]["hostile"] / scale)
            topic.case(
                dtype, offset[dtype, "hostile"], "row", "given", "k", *inputs[dtype]["hostile"].shape, 0, 0, np.inf,
                y=y, scale=scale, **dequantize(y, scale, dtype),
            )
    return topic


# ---- gemm ----------------------------------------------------------------------------------------------------------------


def topic_gemm():
    topic = Topic("gemm", "x_dtype w_dtype scaling scale_layout batch m n k bias_dtype sizes")
    rng = np.random.Generator(np.random.PCG64(3))
    f8, bf16 = "f8e4m3fn", "bf16"
    cases = [(bf16, bf16, "none", "k", 1, 3, 5, 67, "none"), (bf16, bf16, "none", "k", 2, 2, 9, 33, "bf16")]
    cases += [(f8, f8, s, "k", b, 5, 7, 150, bias) for s, b, bias in (("none", 1, "none"), ("tensor", 2, "f32"), ("row", 1, "bf16"), ("row", 2, "f32"))]
    cases += [(f8, f8, "block", "k", 1, 131, 9, 140, "none"), (f8, f8, "block", "mn", 1, 3, 130, 129, "none")]
    cases += [(f8, f8, "group", layout, 1, 6, 129, 260, "f32") for layout in ("k", "mn")]
    cases += [(bf16, f8, s, "k", 1, 4, 6, 130, "none") for s in ("none", "tensor", "row", "block")]
    cases += [(f8, f8, "row", "k", 1, 2, 3, 0, "f32"), (f8, f8, "row", "k", 1, 1, 1, 1, "none")]
    grouped = [(bf16, bf16, "none", "k", 9, 5, 40, "none", "stacked", [3, 0, 4]), (f8, f8, "row", "k", 40, 7, 150, "f32", "stacked", [1, 20, 0, 17])]
    grouped += [(f8, f8, "tensor", "k", 6, 3, 33, "none", "stacked", [2, 4]), (f8, f8, "block", "k", 150, 5, 140, "none", "batch", [130, 20])]
    grouped += [(f8, f8, "group", layout, 12, 6, 260, "bf16", "stacked", [5, 6]) for layout in ("k", "mn")]
    grouped += [(bf16, f8, "row", "k", 5, 6, 130, "none", "stacked", [0, 5]), (bf16, bf16, "none", "k", 4, 5, 40, "none", "batch", [4, 0, 2])]
    grouped += [(f8, f8, "row", "k", 20, 7, 150, "f32", "batch", [1, 20, 0]), (f8, f8, "group", "mn", 6, 3, 130, "none", "batch", [2, 6])]

    def operand(dtype, *shape):
        if dtype == f8:
            codes = rng.integers(0, 256, shape, dtype=np.uint8)
            codes[codes & 0x7F == 0x7F] = 0x40  # no NaN
            return codes, f8_value(codes)
        bits = bf16_bits(normal(rng, *shape))
        return bits, bf16_value(bits)

    def scales(scaling, layout, batch, rows, k, row_blocks):
        """As stored, and spread to one an element."""
        rb, kb = row_blocks, -(-k // 128)
        shape = {"none": (0,), "tensor": (1, 1), "row": (rows, 1)}.get(scaling, (rb, kb))
        if scaling == "none":
            return np.zeros(0, F32), np.ones((batch, rows, k))
        s = (2.0 ** (rng.random((batch, *shape)) * 8 - 8)).astype(F32)
        rep = (-(-rows // shape[0]), k) if scaling in ("tensor", "row") else (1 if rb == rows else 128, 128)
        each = np.stack([spread(one, *rep, rows, k) for one in s]) if k else np.ones((batch, rows, 0))
        return s.swapaxes(1, 2) if layout == "mn" and scaling in ("block", "group") else s, each

    for x_dtype, w_dtype, scaling, layout, batch, m, n, k, bias_dtype in cases:
        x, xv = operand(x_dtype, batch, m, k)
        w, wv = operand(w_dtype, batch, n, k)
        xs, xe = scales(scaling if x_dtype == f8 else "none", layout, batch, m, k, m if scaling == "group" else -(-m // 128))
        ws, we = scales(scaling, layout, batch, n, k, -(-n // 128))
        bias = {"none": np.zeros((batch, 0), F32), "f32": normal(rng, batch, n), "bf16": bf16_value(bf16_bits(normal(rng, batch, n)))}[bias_dtype]
        a, b = xv.astype(F64) * xe, (wv.astype(F64) * we).swapaxes(1, 2)
        y, total = a @ b, np.abs(a) @ np.abs(b)
        if bias.size:
            y, total = y + bias[:, None], total + np.abs(bias)[:, None]
        topic.case(
            x_dtype, w_dtype, scaling, layout, batch, m, n, k, bias_dtype,
            "none", x=x.view(np.uint8), w=w.view(np.uint8), x_scale=xs, w_scale=ws, bias=bias, y=y, bound=2 * (k + 8) * U * total + TINY,
        )
    for x_dtype, w_dtype, scaling, layout, m, n, k, bias_dtype, form, sizes in grouped:
        count, parts = len(sizes), []
        w, wv = operand(w_dtype, count, n, k)
        ws, we = scales(scaling, layout, count, n, k, -(-n // 128))
        bias = {"none": np.zeros((count, 0), F32), "f32": normal(rng, count, n), "bf16": bf16_value(bf16_bits(normal(rng, count, n)))}[bias_dtype]
        for g, size in enumerate(sizes):  # a problem of its own; of a batch, its other rows are there and do not count
            rows = size if form == "stacked" else m
            x, xv = operand(x_dtype, 1, rows, k)
            if rows:
                xs, xe = scales(scaling if x_dtype == f8 else "none", layout, 1, rows, k, rows if scaling == "group" else -(-rows // 128))
            else:  # of an empty problem only the scale of a tensor is there
                xs, xe = np.ones(int(scaling == "tensor" and x_dtype == f8), F32), np.ones((1, 0, k))
            a, b = (xv.astype(F64) * xe)[0], (wv[g].astype(F64) * we[g]).T
            y, total = a @ b, np.abs(a) @ np.abs(b)
            if bias.size:
                y, total = y + bias[g], total + np.abs(bias[g])
            bound = 2 * (k + 8) * U * total + TINY
            y[size:], bound[size:] = 0, 0
            parts.append((x, xs, y, bound))
        rest = m - sum(sizes) if form == "stacked" else 0
        x, xs, y, bound = ([p[i] for p in parts] for i in range(4))
        x.append(np.full((1, rest, k), np.iinfo(x[0].dtype).max, x[0].dtype))
        y.append(np.zeros((rest, n)))
        bound.append(np.zeros((rest, n)))
        if scaling == "row" and x_dtype == f8:  # the other scalings have none for rows of no problem
            xs.append(np.ones(rest, F32))
        topic.case(
            x_dtype, w_dtype, scaling, layout, count, m, n, k, bias_dtype, form + ":" + ",".join(map(str, sizes)),
            x=np.concatenate([p.ravel() for p in x]).view(np.uint8), w=w.view(np.uint8), x_scale=np.concatenate([p.ravel() for p in xs]),
            w_scale=ws, bias=bias, y=np.concatenate([p.ravel() for p in y]), bound=np.concatenate([p.ravel() for p in bound]),
        )
    return topic


# ---- norm_quant and silu_mul_quant: the values before rounding or quantization -------------------------------------------


def topic_norm():
    topic = Topic("norm", "m k x_dtype residual_dtype residual_out weight_dtype eps")
    rng = np.random.Generator(np.random.PCG64(4))
    as_type = {"f32": lambda v: v, "bf16": lambda v: bf16_value(bf16_bits(v))}
    for m, k, x_type, r_type, r_out, w_type, eps in (
        (3, 64, "bf16", "none", 0, "bf16", 1e-5),
        (2, 129, "f32", "none", 0, "none", 1e-6),
        (3, 77, "bf16", "bf16", 1, "bf16", 1e-5),
        (2, 576, "bf16", "f32", 1, "f32", 1e-5),
        (2, 33, "f32", "f32", 0, "bf16", 0.5),
        (2, 1, "bf16", "bf16", 0, "f32", 1e-5),
    ):
        x = as_type[x_type](normal(rng, m, k, scale=3.0))
        x[-1] *= 0 if m == 3 else 1  # a row of zeros
        r = as_type[r_type](normal(rng, m, k)) if r_type != "none" else np.zeros((0, k), F32)
        w = as_type[w_type](normal(rng, k)) if w_type != "none" else np.zeros(0, F32)
        h = x + r if r.size else x
        if r_out:
            h = as_type[r_type](h)
        wide = h.astype(F64)
        y = wide / np.sqrt((wide**2).mean(1, keepdims=True) + F64(F32(eps))) * (w.astype(F64) if w.size else 1)
        topic.case(
            m, k, x_type, r_type, r_out, w_type, eps,
            x=x, residual=r, residual_out=h if r_out else h[:0], weight=w, y=y, bound=(k / 2 + 8) * U * np.abs(y),
        )
    return topic


def topic_silu():
    topic = Topic("silu", "")
    rng = np.random.Generator(np.random.PCG64(5))
    special = F32([0, -0.0, 1, -1, 20, -20, 87.5, -87.5, 88.8, -88.8, 103, -104, 200, -200, 1e30, -1e30, 1e-30, 1e-40, -1e-45, 3e38])
    gate, up = np.meshgrid(special, F32([1, -2.5, 0, 1e-38, 3e38, 1e-45]), indexing="ij")
    gate, up = np.concatenate([gate.ravel(), normal(rng, 2000, scale=4)]), np.concatenate([up.ravel(), normal(rng, 2000)])
    with np.errstate(over="ignore"):
        y = gate.astype(F64) / (1 + np.exp(-gate.astype(F64))) * up.astype(F64)
        y = np.where(np.abs(y) > np.finfo(F32).max, np.copysign(np.inf, y), y)
    topic.case(gate=gate, up=up, y=y, bound=16 * U * np.abs(y) + TINY * np.abs(up.astype(F64)))
    return topic


# ---- rope ----------------------------------------------------------------------------------------------------------------


def frequencies(d, theta, scaling):
    """In extended precision, so that float64 rounding is not in the result."""
    wide = np.longdouble
    f = wide(theta) ** (-2 * np.arange(d // 2, dtype=wide) / d)
    if scaling:
        factor, low, high, old = scaling
        wl = 2 * np.arccos(wide(-1)) / f
        s = (old / wl - low) / wide(high - low)
        f = np.where(wl < wide(old) / high, f, np.where(wl > wide(old) / low, f / factor, (1 - s) * f / factor + s * f))
    return f


def topic_rope():
    topic = Topic("rope", "d pairs theta scaling factor low_freq high_freq old_context norm_eps positions")
    rng = np.random.Generator(np.random.PCG64(6))
    llama31 = (8.0, 1.0, 4.0, 8192.0)
    positions = np.int32([0, 1, 2, 17, 100, 8191, 8192, 131071])
    for d, pairs, theta, scaling, eps in (
        (64, "half", 100000.0, None, None),
        (128, "half", 500000.0, llama31, None),
        (128, "interleaved", 500000.0, llama31, None),
        (8, "interleaved", 10000.0, None, None),
        (6, "half", 10000.0, (16.0, 1.0, 32.0, 8192.0), None),
        (128, "interleaved", 500000.0, llama31, 0.0),
        (80, "half", 10000.0, None, 0.25),
        (6, "interleaved", 10000.0, None, 0.0),
    ):
        angle = positions[:, None] * frequencies(d, theta, scaling)
        cos, sin = np.cos(angle), np.sin(angle)
        bits = bf16_bits(normal(rng, len(positions), d))
        x = bf16_value(bits).astype(np.longdouble)
        first, second = (x[:, : d // 2], x[:, d // 2 :]) if pairs == "half" else (x[:, 0::2], x[:, 1::2])
        y, bound = np.empty_like(x), np.empty_like(x)
        a, b = (slice(0, d // 2), slice(d // 2, d)) if pairs == "half" else (slice(0, d, 2), slice(1, d, 2))
        y[:, a], y[:, b] = first * cos - second * sin, second * cos + first * sin
        bound[:, a] = bound[:, b] = 8 * U * (np.abs(first) + np.abs(second))
        if eps is not None:  # what y's error does to y and to its root mean square; the f32 rounding at the end
            r = 1 / np.sqrt((y * y).mean(1, keepdims=True) + eps)
            share = (np.abs(y) * bound).sum(1, keepdims=True) / (y * y).sum(1, keepdims=True)
            bound = 1.001 * r * (bound + np.abs(y) * (share + U))
            y = y * r
        topic.case(
            d, pairs, theta, int(scaling is not None), *(scaling or (0, 0, 0, 0)), "none" if eps is None else eps,
            len(positions),
            position=positions, table=np.concatenate([cos, sin], 1).astype(F32), x=bits, y=y.astype(F64), bound=bound.astype(F64),
        )
    return topic


# ---- KV cache rows -------------------------------------------------------------------------------------------------------


def value_range(x, axis):
    """NaN is ignored, and a zero of either sign is +0."""
    return np.fmin.reduce(x, axis, keepdims=True) + F32(0), np.fmax.reduce(x, axis, keepdims=True) + F32(0)


def store_f8_token(x):
    low, high = value_range(x, 1)
    half = np.minimum((high - low) / F32(2), F32(32750))
    scale = np.maximum(half / MAX, F32(1) / (MAX * F32(512)))
    shift = low + MAX * scale
    codes = f8_bits(fma32(x, F32(1) / scale, -shift / scale))
    return np.concatenate([f16_pair(scale, shift), codes], 1)


def store_i4(x, groups):
    n, d = x.shape
    x = x.reshape(n, groups, d // groups)
    low, high = value_range(x, 2)
    scale = (high - low) / F32(15)
    inverse = (15 / (scale.astype(F64) * 15 + 1e-8)).astype(F32)
    codes = np.nan_to_num(np.clip(np.rint((x - low) * inverse), 0, 15), nan=0).astype(np.uint8).reshape(n, d)
    return np.concatenate([f16_pair(scale[..., 0], low[..., 0]), codes[:, 0::2] | codes[:, 1::2] << 4], 1)


def f16_pair(scale, shift):
    """(scale, shift) of each group as little endian float16."""
    return np.stack([scale, shift], 2).astype("<f2").reshape(len(scale), -1).view(np.uint8)


def load(rows, kind, groups, d):
    """The values of cache rows: scale code + shift, in float64, where that is exact."""
    if kind == "bf16":
        return bf16_value(rows.view("<u2")).astype(F64)
    head = rows[:, : 4 * groups].copy().view("<f2").astype(F64).reshape(len(rows), groups, 2)
    body = rows[:, 4 * groups :]
    codes = f8_value(body) if kind == "f8_token" else np.stack([body & 15, body >> 4], 2).reshape(len(rows), d)
    codes = codes.astype(F64).reshape(len(rows), groups, -1)
    return (codes * head[..., :1] + head[..., 1:]).reshape(len(rows), d)


KV = [("bf16", 1), ("f8_token", 1), ("i4", 1), ("i4", 2), ("i4", 4), ("i4", 8)]


def store(x, kind, groups):
    if kind == "bf16":
        return bf16_bits(x).view(np.uint8)
    return store_f8_token(x) if kind == "f8_token" else store_i4(x, groups)


def topic_kv():
    topic = Topic("kv", "format groups rows d row_bytes")
    rng = np.random.Generator(np.random.PCG64(7))
    for d in (128, 64, 48):
        x = normal(rng, 16, d) * F32(10.0) ** np.arange(-8, 8, dtype=F32)[:, None].clip(-5, 3)
        x[0] = 0
        x[1] = 1.5  # constant
        x[2, 0] = 3000  # an outlier
        x[3] = np.abs(x[3]) + 100  # far from zero
        x[4] *= F32(1e-9)
        x[5] *= F32(2e7)  # a range of about 9e4, more than F8_TOKEN takes
        x[6, ::5], x[6, 3] = np.nan, -0.0
        x[7] = np.abs(x[7])
        x[7, 5::7] = -0.0
        bits = bf16_bits(x)
        for kind, groups in KV:
            rows = store(bf16_value(bits), kind, groups)
            value = load(rows, kind, groups, d).astype(F32)
            topic.case(
                kind, groups, len(rows), d, rows.shape[1], x=bits, rows=rows, dequant_f32=f32_bits(value), dequant_bf16=bf16_bits(value)
            )
    return topic


# ---- attn: contiguous caches [lanes, max_t, kv_heads, row] -----------------------------------------------------------------


def topic_attn():
    topic = Topic("attn", "format groups lanes max_t kv_heads heads d tokens row_bytes")
    rng = np.random.Generator(np.random.PCG64(8))
    for (kind, groups), (lanes, max_t, kv_heads, heads, d) in zip(
        KV + [("bf16", 1), ("f8_token", 1), ("i4", 1)],
        [(3, 37, 2, 4, 64), (3, 37, 1, 4, 64), (2, 19, 3, 9, 64), (2, 19, 1, 1, 32), (2, 33, 2, 6, 48), (1, 20, 1, 8, 128)]
        + [(2, 9, 2, 6, 80), (1, 70, 2, 2, 16), (1, 65, 1, 3, 24)],
    ):
        # decode: one token a lane at different lengths (0 among them); prefill: the first tokens of lane 0, causal
        lane = np.int32([*range(lanes), 0, 0, 0])
        length = np.int32([max_t, max_t // 2, 0][:lanes] + [1, 2, 3])
        rows = [store(bf16_value(bf16_bits(normal(rng, lanes * max_t * kv_heads, d))), kind, groups) for _ in "kv"]
        k, v = (load(r, kind, groups, d).reshape(lanes, max_t, kv_heads, d) for r in rows)
        bits = bf16_bits(normal(rng, len(lane), heads, d) * F32(2))
        q, scale = bf16_value(bits).astype(F64), 1 / np.sqrt(F64(d))
        y, bound = np.zeros(q.shape), np.zeros(q.shape)
        for i, (b, n) in enumerate(zip(lane, length)):
            for h in range(heads if n else 0):
                g = h // (heads // kv_heads)
                s = scale * (k[b, :n, g] @ q[i, h])
                p = np.exp(s - s.max())
                y[i, h] = p / p.sum() @ v[b, :n, g]
                e = 4 * (d + 8) * U * scale * (np.abs(k[b, :n, g]) @ np.abs(q[i, h])).max()
                bound[i, h] = (2 * e + 8 * (n + 16) * U) * np.abs(v[b, :n, g]).max(0)
        topic.case(
            kind, groups, lanes, max_t, kv_heads, heads, d, len(lane), rows[0].shape[1],
            lane=lane, len=length, q=bits, k=rows[0], v=rows[1], y=y, bound=bound,
        )
    return topic


# ---- Writing and checking ------------------------------------------------------------------------------------------------


def check_torch(topics):
    """The same from torch, where it computes the same thing."""
    import torch

    t = {topic.name: {key: np.concatenate(parts) for key, parts in topic.arrays.items()} for topic in topics}
    bf16 = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16).float()
    codes = bf16.clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
    assert np.array_equal(np.where(bf16.isnan().numpy(), 0x7F, codes), t["convert"]["f8_of_bf16"])
    assert np.array_equal(torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy(), t["convert"]["f32_of_f8"], equal_nan=True)
    wide = torch.from_numpy(t["convert"]["wide"])
    for dtype, key in ((torch.bfloat16, "bf16_of_wide"), (torch.float16, "f16_of_wide")):
        keep = ~wide.isnan().numpy()
        assert np.array_equal(wide.to(dtype).view(torch.uint16).numpy()[keep], t["convert"][key][keep])
    silu = t["silu"]
    y = torch.nn.functional.silu(torch.from_numpy(silu["gate"]).double()) * torch.from_numpy(silu["up"]).double()
    finite = np.isfinite(silu["y"])
    assert (np.abs(y.numpy() - silu["y"])[finite] <= 1e-13 * np.abs(silu["y"])[finite] + 1e-300).all()
    print("make_golden: torch agrees")


def same(name, files):
    """Whether the tree's file is as computed here: bit by bit, but for sums, exponentials and angles in float64, whose last
    bits depend on the libraries and the processor; those may differ by far less than anything they are used for."""
    if not (HERE / name).is_file():
        return False
    if (HERE / name).read_bytes() == files[name]:
        return True
    topic, key = name.removesuffix(".npy").split("_", 1) if name.endswith(".npy") else ("", "")
    array = lambda data: np.load(io.BytesIO(data))
    old, new = np.load(HERE / name) if key else None, array(files[name]) if key else None
    if not key or old.shape != new.shape or old.dtype != new.dtype:
        return False
    if key in ("bound", "table"):
        return np.allclose(old, new, rtol=2.0**-22, atol=2.0**-24 if key == "table" else 0)
    if key == "y" and old.dtype == F64:
        return bool(((old == new) | (np.abs(old - new) <= array(files[f"{topic}_bound.npy"]) / 1000)).all())
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files in the tree")
    args = parser.parse_args()
    topics = [make() for make in (topic_convert, topic_quant, topic_gemm, topic_norm, topic_silu, topic_rope, topic_kv, topic_attn)]
    files = {name: data for topic in topics for name, data in topic.files()}
    if not args.check:
        for name, data in files.items():
            (HERE / name).write_bytes(data)
        print(f"make_golden: {len(files)} files, {sum(map(len, files.values()))} bytes")
        return
    wrong = [name for name in files if not same(name, files)]
    if wrong:
        sys.exit(f"make_golden: these differ from what is computed here: {' '.join(wrong)}")
    print(f"make_golden: {len(files)} files are as computed here")
    try:
        check_torch(topics)
    except ImportError:
        pass


if __name__ == "__main__":
    main()
