"""The examples run and say what they should."""
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]


def run(name, *arguments):
    done = subprocess.run([sys.executable, ROOT / "examples" / name, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch_ops():
    lines = run("torch_ops.py").splitlines()
    assert float(lines[0].split()[-1]) < 0.06 and float(lines[1].split()[-1]) < 0.5
    assert lines[2] == "an error: f8f8bf16_rowwise: XQ is float32 [4, 512]; it must be float8_e4m3fn"


def test_hf_fp8():
    pytest.importorskip("transformers")
    if not (ROOT / ".deps/SmolLM2-135M-Instruct").exists():
        pytest.skip("make checkpoint")
    assert "Paris" in run("hf_fp8.py")
