"""What is installed: its tag, size and links; that it works without torch, and what it says with a torch that does not do."""
import importlib.metadata
import pathlib
import subprocess
import sys

import pytest

import octavo

package = pathlib.Path(octavo.__file__).parent


def run(code, *path, cwd="/"):
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(map(str, path)), "HOME": str(package)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=env)


def test_tag_and_size():
    distribution = importlib.metadata.distribution("octavo")
    assert "Tag: py3-none-manylinux" in distribution.read_text("WHEEL")
    assert sum((package.parent / f).stat().st_size for f in distribution.files if "__pycache__" not in str(f)) < 20e6
    assert not distribution.requires or all("extra ==" in r for r in distribution.requires)


@pytest.mark.parametrize("file,allowed", [("liboctavo.so.0", {"libc.so.6", "libm.so.6"}), ("liboctavo_torch.so", {"libc.so.6", "liboctavo.so.0"})])
def test_links(file, allowed):
    text = subprocess.run(["readelf", "-d", package / "lib" / file], capture_output=True, text=True, check=True).stdout
    assert {line.split("[")[1].rstrip("]") for line in text.splitlines() if "(NEEDED)" in line} <= allowed | {"ld-linux-x86-64.so.2"}


def test_no_cplusplus():
    for file in ("liboctavo.so.0", "liboctavo_torch.so"):
        symbols = subprocess.run(["nm", "-D", package / "lib" / file], capture_output=True, text=True, check=True).stdout
        assert " _Z" not in symbols
    exported = [line.split()[-1] for line in symbols.splitlines() if " T " in line]
    assert exported == ["octavo_torch_register"]


def test_without_torch():
    r = run("import octavo, octavo.fbgemm, sys; i = octavo.info(); print(octavo.version(), len(i['kernels']), i['cuda']['built_in'], 'torch' in sys.modules)")
    assert r.returncode == 0 and r.stdout.startswith(importlib.metadata.version("octavo") + " ") and r.stdout.rstrip().endswith("False"), r
    r = run("import octavo.torch", pathlib.Path(__file__).parent / "no_such_folder")
    assert r.returncode == 0, r


def test_command_line():
    for command in ([pathlib.Path(sys.executable).parent / "octavo", "info"], [sys.executable, "-m", "octavo", "list"]):
        r = subprocess.run(command, capture_output=True, text=True)
        assert r.returncode == 0 and "avx2" in r.stdout
    r = subprocess.run([sys.executable, "-m", "octavo", "quantize", "/no/such", "/out"], capture_output=True, text=True)
    assert r.returncode == 3 and "/no/such" in r.stderr


def test_c_program(tmp_path):
    source = tmp_path / "app.c"
    source.write_text('#include <octavo.h>\n#include <stdio.h>\nint main(void) { puts(oct_version()); return 0; }\n')
    subprocess.run(["cc", source, "-I" + octavo.get_include(), octavo.get_library(), "-Wl,-rpath," + str(package / "lib"), "-o", tmp_path / "app"], check=True)
    assert subprocess.run([tmp_path / "app"], capture_output=True, text=True).stdout.strip() == octavo.version()


OLD = """
import ctypes, os
ctypes.CDLL(os.path.join(os.path.dirname(__file__), "libtorch_cpu.so"), ctypes.RTLD_GLOBAL)
__version__ = "2.4.0"
class _C:
    _dispatch_has_kernel = staticmethod(lambda name: False)
"""


@pytest.mark.parametrize("torch_module,text", [
    (OLD, "octavo.torch needs torch 2.10 or later (tested: 2.11, 2.13); this is torch 2.4.0, and this torch lacks aoti_torch_library_init_fragment. "
          "`import octavo` and the command line work without torch."),
    ("raise ImportError('broken')", "octavo.torch needs torch 2.10 or later (tested: 2.11, 2.13), and torch cannot be imported: broken."),
    ("__version__ = '9'\nclass _C: pass", "and torch is not loaded.")])
def test_unsupported_torch(tmp_path, torch_module, text):
    (tmp_path / "torch.py").write_text(torch_module)
    (tmp_path / "empty.c").write_text("int empty_file;\n")
    subprocess.run(["cc", "-shared", "-fPIC", tmp_path / "empty.c", "-Wl,-soname,libtorch_cpu.so", "-o", tmp_path / "libtorch_cpu.so"], check=True)
    r = run("import octavo.torch", tmp_path)
    assert r.returncode == 1 and text in r.stderr, r.stderr
    assert run("import octavo; octavo.version(); octavo.info()", tmp_path).returncode == 0


def test_import_time():
    r = run("import torch, time; t = time.perf_counter(); import octavo.torch; print(time.perf_counter() - t)")
    assert float(r.stdout) < 0.1, r
