"""What an operator does to the process: the interpreter's lock, threads, memory, the autograd mode."""
import gc
import threading

import pytest
import torch

from test_compile import EXAMPLES

f, o = torch.ops.fbgemm, torch.ops.octavo


def test_other_threads_run_during_a_call():
    x, w = torch.ones(1024, 2048).to(torch.float8_e4m3fn), torch.ones(2048, 2048).to(torch.float8_e4m3fn)
    s, t = torch.ones(1024), torch.ones(2048)
    turns, call = 0, threading.Thread(target=lambda: [f.f8f8bf16_rowwise(x, w, s, t) for _ in range(3)])
    call.start()
    while call.is_alive():
        turns += 1
    assert turns > 1000


def test_calls_from_several_threads():
    x, w = torch.randn(64, 256), torch.randn(64, 256)
    (q, s), (wq, ws) = f.quantize_fp8_per_row(x), f.quantize_fp8_per_row(w)
    want, bad = f.f8f8bf16_rowwise(q, wq, s, ws), []
    threads = [threading.Thread(target=lambda: bad.extend(1 for _ in range(50) if not torch.equal(f.f8f8bf16_rowwise(q, wq, s, ws), want)))
               for _ in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert not bad


def test_results_do_not_depend_on_threads():
    x, w = torch.randn(300, 512).to(torch.float8_e4m3fn), torch.randn(200, 512).to(torch.float8_e4m3fn)
    threads, results = torch.get_num_threads(), []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        results.append(f.f8f8bf16_rowwise(x, w, torch.ones(300), torch.ones(200)))
    torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096


def calls(name, times):
    """Good calls, and bad ones: one tensor argument after the other is of a wrong dtype."""
    namespace = o if hasattr(o, name) else f
    op = getattr(namespace, name).default
    lists = EXAMPLES[name]
    bad = [args[:i] + (torch.ones(3, dtype=torch.int64),) + args[i + 1:] for args in lists for i, a in enumerate(args) if isinstance(a, torch.Tensor)]
    with torch.inference_mode():
        for _ in range(times):
            for args in lists:
                op(*args)
        for _ in range(times // 20):
            for args in bad:
                try:
                    op(*args)
                except RuntimeError:
                    pass


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_leak(name):
    """A tensor of 64 bytes and its header leaked once a call would be 200 bytes a call at the least."""
    times = 3000
    calls(name, times // 3)
    gc.collect()
    before = resident()
    calls(name, times)
    gc.collect()
    assert resident() - before < times * 100
    tensors = [t for args in EXAMPLES[name] for a in args for t in (a if isinstance(a, list) else [a]) if isinstance(t, torch.Tensor)]
    assert all(t._use_count() == 1 for t in tensors)


def test_gradients_are_not_made_up():
    """No operator has a derivative: torch says so, and leaves the gradient None."""
    x = torch.randn(3, 8, requires_grad=True)
    with torch.no_grad():
        assert not o.norm(x).requires_grad
    with pytest.warns(UserWarning, match="autograd kernel was not registered"):
        o.norm(x).float().sum().backward()
    assert x.grad is None
