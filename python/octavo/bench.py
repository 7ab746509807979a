"""python -m octavo.bench: what a call costs before any work, and each operator's time on shapes of Llama models, beside the real
fbgemm-gpu-genai where that is installed. Microseconds, the best of several rounds; on the CPU unless --device cuda."""
import argparse
import time

import torch


def best(call, device, rounds=7, seconds=0.05):
    """Interleaving is the caller's affair: a round of each candidate, then the next."""
    call()
    sync = torch.cuda.synchronize if device == "cuda" else lambda: None
    times, n = [], 1
    while True:
        sync()
        start = time.perf_counter()
        for _ in range(n):
            call()
        sync()
        spent = time.perf_counter() - start
        if spent >= seconds / 4 or n >= 1 << 20:
            break
        n *= 4
    for _ in range(rounds):
        sync()
        start = time.perf_counter()
        for _ in range(n):
            call()
        sync()
        times.append((time.perf_counter() - start) / n * 1e6)
    return min(times)


def overhead(device):
    """The smallest problems: arguments, dispatch, allocation of results. torch's own operators are C++."""
    x, one = torch.ones(1, 16, device=device), torch.ones(1, device=device)
    q, b = x.to(torch.float8_e4m3fn), x.bfloat16()
    o, a = torch.ops.octavo, torch.ops.aten
    print(f"{'a call with next to no work':42} us")
    for name, call in (("aten.mm 1x1x16", lambda: a.mm.default(b, b.T)), ("aten.empty_like", lambda: a.empty_like.default(x)),
                       ("aten.aminmax 1x16, two results", lambda: a.aminmax.default(x, dim=1)),
                       ("f8f8bf16_rowwise 1x1x16", lambda: o.f8f8bf16_rowwise.default(q, q, one, one)),
                       ("bf16_fast_gemv 1x1x16", lambda: o.bf16_fast_gemv.default(b, b)),
                       ("quantize_fp8_per_row 1x16, two results", lambda: o.quantize_fp8_per_row.default(x)),
                       ("silu_mul 1x16", lambda: o.silu_mul.default(x, x))):
        with torch.inference_mode():
            print(f"{name:42} {best(call, device):.2f}")


def shapes(device):
    """Name, shape, call(namespace) and what torch does in bfloat16 instead, or None."""
    def bf(*size):
        return torch.randn(*size, device=device).bfloat16()
    large = (1024, 7168, 8192) if device == "cuda" else (256, 2048, 2048)
    for m, n, k in (1, 8192, 1024), (16, 8192, 1024), (1, 7168, 8192), (16, 7168, 8192), large:
        x, w = bf(m, k), bf(n, k)
        (xq, xs), (wq, ws) = torch.ops.octavo.quantize_fp8_per_row(x), torch.ops.octavo.quantize_fp8_per_row(w)
        yield "quantize_fp8_per_row", f"{m}x{k}", lambda ops: ops.quantize_fp8_per_row(x), None
        yield "f8f8bf16_rowwise", f"{m}x{n}x{k}", lambda ops: ops.f8f8bf16_rowwise(xq, wq, xs, ws), lambda: x @ w.T


def main():
    parser = argparse.ArgumentParser(prog="python -m octavo.bench", description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, help="of torch, on the CPU")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    import octavo.fbgemm
    import octavo.torch

    real = octavo.fbgemm.installed()
    if real:
        import fbgemm_gpu.experimental.gen_ai  # noqa: F401
    overhead(args.device)
    print(f"\n{'operator':22} {'shape':18} {'octavo us':>10} {'fbgemm us':>10} {'ratio':>6} {'bf16 in torch us':>17}")
    for name, shape, call, other in shapes(args.device):
        calls = [lambda: call(torch.ops.octavo)] + [lambda: call(torch.ops.fbgemm)] * real + [other] * (other is not None)
        times = [min(t) for t in zip(*([best(c, args.device, 2) for c in calls] for _ in range(4)))]
        mine, theirs, plain = times[0], times[1] if real else None, times[-1] if other else None
        print(f"{name:22} {shape:18} {mine:10.1f} {theirs or '-':>10} {f'{theirs / mine:.2f}' if theirs else '-':>6} {f'{plain:.1f}' if plain else '-':>17}")


if __name__ == "__main__":
    main()
