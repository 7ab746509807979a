"""Who owns fbgemm:: : the real library, whenever there is one; octavo where there is none. Each case in a process of its own."""
import pathlib
import subprocess
import sys

import pytest

REAL = ("fbgemm_gpu", "fbgemm_gpu/experimental", "fbgemm_gpu/experimental/gen_ai")


def run(code, *path):
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(map(str, path))}
    r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", env=env)
    assert r.returncode == 0, r.stderr
    return r.stdout.split()


@pytest.fixture
def real(tmp_path):
    """A package like the real one: defines an operator when it is imported, and would fail if that existed."""
    for folder in REAL:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "__init__.py").write_text("real = True\n")
    (tmp_path / REAL[-1] / "__init__.py").write_text(
        "real = True\nimport torch\nL = torch.library.Library('fbgemm', 'FRAGMENT')\n"
        "L.define('f8f8bf16(Tensor XQ, Tensor WQ, Tensor scale, bool use_fast_accum=True) -> Tensor')\n"
        "L.impl('f8f8bf16', lambda *a: a[0] + 41, 'CPU')\n")
    return tmp_path


COUNT = "import torch; print(len([n for n in torch._C._dispatch_get_all_op_names() if n.startswith('fbgemm::')]))"


def test_stand_in():
    out = run("import octavo.fbgemm, sys, importlib.util as u; print('torch' in sys.modules, u.find_spec('fbgemm_gpu').origin)\n"
              "import fbgemm_gpu.experimental.gen_ai as g; print(g.__version__)\n"
              "from fbgemm_gpu.experimental.gemm.triton_gemm.fp8_gemm import matmul_fp8_row, quantize_fp8_row\n"
              "import torch; print(len(torch.ops.fbgemm.quantize_fp8_per_row(torch.ones(2, 4))), len(quantize_fp8_row(torch.ones(2, 4))))\n"
              "import importlib.metadata as m; print(m.version('fbgemm-gpu'))")
    assert out == ["False", "octavo", "0+octavo", "2", "2", "0+octavo"]


def test_real_package_wins(real):
    out = run("import octavo.fbgemm, sys; import fbgemm_gpu; print(fbgemm_gpu.real, 'torch' in sys.modules)", real)
    assert out == ["True", "False"]
    # octavo.torch first: it leaves the names to the package that may come, and the package can be imported
    out = run("import octavo.torch, torch; " + COUNT + "\nimport fbgemm_gpu.experimental.gen_ai\n"
              "x = torch.ones(1, 1); print(torch.ops.fbgemm.f8f8bf16(x, x, x).item())", real)
    assert out == ["0", "42.0"]
    # The package first: octavo adds what it lacks and keeps its operator
    out = run("import fbgemm_gpu.experimental.gen_ai, octavo.torch, torch\n"
              "x = torch.ones(1, 1); print(torch.ops.fbgemm.f8f8bf16(x, x, x).item(), len(torch.ops.fbgemm.quantize_fp8_per_row(x)))", real)
    assert out == ["42.0", "2"]


def test_a_real_package_without_gen_ai_is_completed(real):
    import shutil
    shutil.rmtree(real / "fbgemm_gpu/experimental")
    out = run("import octavo.fbgemm, fbgemm_gpu, fbgemm_gpu.experimental.gen_ai as g; print(fbgemm_gpu.real, g.__version__)", real)
    assert out == ["True", "0+octavo"]


def test_pth(tmp_path):
    """The distribution that the extra octavo[fbgemm] names: its one file makes the stand-in part of every Python."""
    source = pathlib.Path(__file__).parents[3] / "python/octavo-fbgemm"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation",
                    "--target", tmp_path, source], check=True)
    assert (tmp_path / "octavo_fbgemm.pth").exists()
    out = run(f"import site, sys; site.addsitedir({str(tmp_path)!r}); import importlib.util as u\n"
              "print(u.find_spec('fbgemm_gpu').origin, 'torch' in sys.modules)")
    assert out == ["octavo", "False"]


def test_second_registration_adds_nothing():
    assert run("import octavo.torch as t; print(t.register('fbgemm'), t.register('octavo'), t.register('mslk'))") == ["[]", "[]", "[]"]
