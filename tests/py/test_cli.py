#!/usr/bin/env python3
"""The `octavo` program as scripts use it: exit codes, messages, and a quantizer that leaves all or nothing behind.

Use: test_cli.py OCTAVO      Needs numpy and ml_dtypes. Works on the tiny model of tests/golden.
"""
import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import ml_dtypes
import numpy as np

TINY = pathlib.Path(__file__).resolve().parents[1] / "golden" / "tiny"
OCTAVO = str(pathlib.Path(sys.argv[1]).resolve())
DTYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F8_E4M3": ml_dtypes.float8_e4m3fn}
passed = failed = 0


def check(good, text):
    global passed, failed
    passed += bool(good)
    failed += not good
    print(f"{'ok  ' if good else 'FAIL'} {text}", flush=True)


def octavo(*args, **options):
    return subprocess.run([OCTAVO, *map(str, args)], capture_output=True, text=True, timeout=120, **options)


def refused(code, words, *args, **options):
    """The call ends with this exit code, and its message has all these words."""
    done = octavo(*args, **options)
    missing = [w for w in words if w not in done.stderr]
    check(done.returncode == code and not missing, f"{' '.join(map(str, args))[:90]}: exit {done.returncode}, {done.stderr.strip()[-160:]!r}")


def read(file):
    """{name: (dtype, array)} of a safetensors file."""
    data = file.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + n])
    head.pop("__metadata__", None)
    return {k: (v["dtype"], np.frombuffer(data[8 + n + v["data_offsets"][0] : 8 + n + v["data_offsets"][1]], DTYPES[v["dtype"]]).reshape(v["shape"]))
            for k, v in head.items()}


def write(file, tensors):
    head, at = {}, 0
    for name, (dtype, array) in tensors.items():
        head[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, array in tensors.values():
            f.write(array.tobytes())


def copy(folder, tensors=None, config=None, shards=None):
    """The tiny model with other weights, other config entries, or cut into shards."""
    folder.mkdir()
    settings = json.loads((TINY / "config.json").read_text()) | (config or {})
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer_config.json").write_text("{}")
    tensors = tensors or read(TINY / "model.safetensors")
    if not shards:
        write(folder / "model.safetensors", tensors)
        return folder
    names = sorted(tensors)
    index = {}
    for i in range(shards):
        part = names[i::shards]
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        write(folder / file, {n: tensors[n] for n in part})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def weights(folder):
    files = sorted(folder.glob("*.safetensors"))
    return {k: v for f in files for k, v in read(f).items()}


def same(a, b):
    return a.keys() == b.keys() and all(a[k][0] == b[k][0] and a[k][1].tobytes() == b[k][1].tobytes() for k in a)


def quantized_row_wise(w):
    """Codes and scales by the formula, in numpy and ml_dtypes."""
    x = w.astype(np.float32)
    s = np.maximum(np.abs(x).max(1, keepdims=True) / np.float32(448), np.float32(1) / (np.float32(448) * np.float32(512)))
    return (x / s).astype(ml_dtypes.float8_e4m3fn), s


def test_quantize(tmp):
    layers = json.loads((TINY / "config.json").read_text())["num_hidden_layers"]
    base = read(TINY / "model.safetensors")
    done = octavo("quantize", TINY, tmp / "f8", "--recipe", "all")
    check(done.returncode == 0, f"quantize --recipe all: {done.stdout.strip()} {done.stderr.strip()[-100:]}")
    out = weights(tmp / "f8")
    linears = [n for n in base if n.startswith("model.layers.") and n.endswith("_proj.weight")]
    check(all(out[n][0] == "F8_E4M3" for n in linears) and len(linears) == 7 * layers, f"{len(linears)} linears are FP8")
    right = True
    for n in linears:
        codes, scale = quantized_row_wise(base[n][1])
        got_scale = out[n.replace(".weight", ".weight_scale")]
        right &= out[n][1].tobytes() == codes.tobytes() and got_scale[1].tobytes() == scale.tobytes() and got_scale[1].shape == (len(codes), 1)
    check(right, "codes and scales equal numpy's, bit by bit")
    check(all(out[n][0] == "BF16" for n in base if n not in linears), "everything else is BF16")
    config = json.loads((tmp / "f8/config.json").read_text())["quantization_config"]
    check(config["quant_method"] == "fbgemm_fp8" and config["activation_scale_ub"] == 1200 and "lm_head" in config["modules_to_not_convert"],
          "config.json names the layout")
    octavo("quantize", TINY, tmp / "ct", "--recipe", "all", "--format", "compressed-tensors")
    check((tmp / "ct/model.safetensors").read_bytes() == (tmp / "f8/model.safetensors").read_bytes(), "--format changes no tensor")
    config = json.loads((tmp / "ct/config.json").read_text())["quantization_config"]
    check(config["quant_method"] == "compressed-tensors" and config["ignore"] == ["lm_head"], "config.json names compressed-tensors")
    check((tmp / "f8").exists() and not list(tmp.glob("*.partial")), "no working folder is left")

    octavo("quantize", TINY, tmp / "llama3")
    kinds = {n: d for n, (d, _) in weights(tmp / "llama3").items()}
    check(all((kinds[n] == "F8_E4M3") == (".mlp." in n and not n.startswith(("model.layers.0.", f"model.layers.{layers - 1}."))) for n in linears),
          "the llama3 recipe: feed-forward linears of the inner layers")
    kept = json.loads((tmp / "llama3/config.json").read_text())["quantization_config"]["modules_to_not_convert"]
    check(set(kept) == {n[:-7] for n in linears if kinds[n] != "F8_E4M3"} | {"lm_head"}, "modules_to_not_convert lists just the others")
    octavo("quantize", TINY, tmp / "skip", "--recipe", "all", "--skip", "*.down_proj", "--skip", "model.layers.1.*")
    kinds = {n: d for n, (d, _) in weights(tmp / "skip").items()}
    check(all((kinds[n] == "F8_E4M3") == ("down_proj" not in n and ".layers.1." not in n) for n in linears), "--skip keeps what matches")

    sharded = copy(tmp / "sharded", shards=3)
    octavo("quantize", sharded, tmp / "from-shards", "--recipe", "all")
    check(same(out, weights(tmp / "from-shards")), "from shards: the same tensors")
    octavo("quantize", TINY, tmp / "to-shards", "--recipe", "all", "--shard-bytes", "20000")
    index = json.loads((tmp / "to-shards/model.safetensors.index.json").read_text())["weight_map"]
    check(same(out, weights(tmp / "to-shards")) and len(set(index.values())) > 2 and index.keys() == out.keys(), "to shards: the same tensors, and an index")
    ids = tmp / "ids"
    ids.write_text(" ".join(str(i % 97) for i in range(40)))
    results = [octavo("eval", "--model", tmp / d, "--ids", ids, "--json").stdout for d in ("f8", "to-shards")]
    check(json.loads(results[0])["perplexity"] == json.loads(results[1])["perplexity"], "a sharded FP8 folder evaluates like a single file")

    for name, dtype in (("F16", np.float16), ("F32", np.float32)):
        wide = {n: (name, a.astype(np.float32).astype(dtype)) for n, (_, a) in base.items()}
        octavo("quantize", copy(tmp / name, wide), tmp / f"{name}-f8", "--recipe", "all")
        got = weights(tmp / f"{name}-f8")
        right = all(got[n][1].tobytes() == quantized_row_wise(wide[n][1])[0].tobytes() for n in linears)
        check(right and got["model.norm.weight"][0] == "BF16", f"from {name}: codes equal numpy's; the rest becomes BF16")


def test_refusals(tmp):
    base = read(TINY / "model.safetensors")
    down = "model.layers.1.mlp.down_proj.weight"
    (tmp / "there").mkdir()
    refused(1, ["there", "exists"], "quantize", TINY, tmp / "there")
    refused(2, ["IN and OUT"], "quantize", TINY)
    refused(2, ["--recipe fp4", "llama3"], "quantize", TINY, tmp / "x", "--recipe", "fp4")
    refused(3, ["config.json"], "quantize", tmp / "nothing", tmp / "x")
    refused(3, ["MistralForCausalLM", "LlamaForCausalLM"], "quantize", copy(tmp / "mistral", config={"architectures": ["MistralForCausalLM"]}), tmp / "x")
    refused(3, [down, "missing"], "quantize", copy(tmp / "missing", {k: v for k, v in base.items() if k != down}), tmp / "x")
    refused(3, [down, "config.json wants"], "quantize", copy(tmp / "shape", base | {down: ("BF16", base[down][1][:, :-1].copy())}), tmp / "x")
    for value in (np.nan, np.inf):
        bad = base[down][1].copy()
        bad[3, 5] = value
        refused(3, [down, "[3, 5]"], "quantize", copy(tmp / f"bad-{value}", base | {down: ("BF16", bad)}), tmp / "x", "--recipe", "all")
    cut = copy(tmp / "cut")
    data = (cut / "model.safetensors").read_bytes()
    for n in (0, 7, 8, 100, len(data) // 2, len(data) - 1):
        (cut / "model.safetensors").write_bytes(data[:n])
        refused(3, ["model.safetensors"], "quantize", cut, tmp / "x")
    refused(3, ["FP8 already"], "quantize", tmp / "f8", tmp / "x")
    refused(1, ["No such file"], "quantize", TINY, tmp / "no/such/place/x")
    refused(1, ["cannot"], "quantize", TINY, tmp / "x", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000)))
    check(not (tmp / "x").exists() and not list(tmp.glob("*.partial")), "no refused run left anything behind")

    refused(2, ["nonsense"], "nonsense")
    refused(2, ["--kv fp4", "i4"], "run", "--model", TINY, "--prompt", "x", "--kv", "fp4")
    refused(2, ["--max-tokens 0"], "run", "--model", TINY, "--prompt", "x", "--max-tokens", "0")
    refused(2, ["--prompt"], "run", "--model", TINY)
    refused(3, ["tokenizer.json"], "run", "--model", TINY, "--prompt", "x")
    ids = tmp / "bad-ids"
    ids.write_text("1 2 97")
    refused(1, ["97", "vocabulary"], "eval", "--model", TINY, "--ids", ids)
    ids.write_text("1 x")
    refused(3, ["x", "token id"], "eval", "--model", TINY, "--ids", ids)
    ids.write_text("1 2 3")
    refused(1, ["cannot write"], "eval", "--model", TINY, "--ids", ids, "--logits", tmp / "no/such.npy")
    full = subprocess.run(f"'{OCTAVO}' list > /dev/full", shell=True, capture_output=True, text=True)
    check(full.returncode == 1 and "standard output" in full.stderr, "a full standard output is an error")


def test_interrupt(tmp):
    """SIGINT in the middle of a run that is long enough to be met."""
    hidden = 4096
    big = copy(tmp / "big", config={"hidden_size": hidden, "intermediate_size": 16384, "num_hidden_layers": 1, "head_dim": 64, "num_attention_heads": 4,
                                    "num_key_value_heads": 2, "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True, "vocab_size": 97},
               tensors=big_tensors(hidden))
    # A small process in between: the memory of this one would count as the child's.
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    out = subprocess.run([sys.executable, "-c", code, OCTAVO, "quantize", big, tmp / "whole", "--recipe", "all"], capture_output=True, text=True).stdout
    size, most = (big / "model.safetensors").stat().st_size >> 20, int(out) >> 10
    check(most < size / 2, f"{size} MB are quantized in {most} MB of memory")
    for sig in (signal.SIGINT, signal.SIGTERM):
        run = subprocess.Popen([OCTAVO, "quantize", big, tmp / "stopped", "--recipe", "all"], stderr=subprocess.PIPE, text=True)
        while run.poll() is None and not list(tmp.glob("stopped.*.partial")):
            time.sleep(0.001)
        run.send_signal(sig)
        text = run.communicate()[1]
        check(run.returncode == 1 and "interrupted" in text and not (tmp / "stopped").exists() and not list(tmp.glob("*.partial")),
              f"{sig.name}: exit {run.returncode}, nothing left")
    run = subprocess.Popen([OCTAVO, "quantize", big, tmp / "killed", "--recipe", "all"], stderr=subprocess.PIPE)
    while run.poll() is None and not list(tmp.glob("killed.*.partial")):
        time.sleep(0.001)
    run.kill()
    run.communicate()
    left = list(tmp.glob("killed.*.partial"))
    check(not (tmp / "killed").exists() and not any((p / "config.json").exists() for p in left), "SIGKILL: nothing that looks complete")


def big_tensors(hidden):
    rng = np.random.default_rng(1)
    shapes = {"model.embed_tokens.weight": (97, hidden), "model.norm.weight": (hidden,), "model.layers.0.input_layernorm.weight": (hidden,),
              "model.layers.0.post_attention_layernorm.weight": (hidden,), "model.layers.0.self_attn.q_proj.weight": (256, hidden),
              "model.layers.0.self_attn.k_proj.weight": (128, hidden), "model.layers.0.self_attn.v_proj.weight": (128, hidden),
              "model.layers.0.self_attn.o_proj.weight": (hidden, 256), "model.layers.0.mlp.gate_proj.weight": (16384, hidden),
              "model.layers.0.mlp.up_proj.weight": (16384, hidden), "model.layers.0.mlp.down_proj.weight": (hidden, 16384)}
    return {n: ("BF16", rng.standard_normal(s, np.float32).astype(ml_dtypes.bfloat16)) for n, s in shapes.items()}


def test_others():
    for command in ("quantize", "run", "eval", "tokenize", "info", "list", "check", "bench"):
        done = octavo(command, "--help")
        check(done.returncode == 0 and f"octavo {command}" in done.stdout and "xample" in done.stdout, f"{command} --help teaches with an example")
    check("avx2" in octavo("info").stdout and "oct_gemm_ref" in octavo("list").stdout, "info and list")
    check(octavo("check", "--filter", "dequant", "--quick", "--seed", "3").returncode == 0, "check --filter")
    trace = octavo("eval", "--model", TINY, "--ids", "/dev/stdin", input="1 2 3", env=os.environ | {"OCT_TRACE": "1"})
    check("oct_gemm_" in trace.stderr, "OCT_TRACE=1 names the kernels")


def main():
    tmp = pathlib.Path(tempfile.mkdtemp(prefix="octavo-cli-"))
    try:
        test_quantize(tmp)
        test_refusals(tmp)
        test_interrupt(tmp)
        test_others()
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
