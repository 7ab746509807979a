#!/usr/bin/env python3
"""Compares octavo with transformers, running both now: fresh prompts, folders that transformers saved, FP8 checkpoints.

Use: .deps/venv-hf/bin/python tests/hf/test_hf.py OCTAVO [CHECKPOINT] [--seed N]

CHECKPOINT is the folder that tools/make_checkpoint.py writes (default .deps/SmolLM2-135M-Instruct). The criteria are those of
tests/py/test_model.py. FP8 checkpoints of `octavo quantize` are compared with what transformers makes of their config.json
(names, shapes, dtypes), with torch's quantization of the same rows (bit by bit), and, as transformers runs this format only on
a GPU, with an emulation of the recipe in torch: octavo must lie no further from it in float32 than it lies from itself in bfloat16.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import safetensors.torch
import tokenizers
import torch

import models
import tiny

sys.path.insert(0, str(models.ROOT / "tests" / "py"))
from test_model import Octavo, Results, apart, check_logits

PROMPTS, FP8_WINDOWS, MAX = 3, 8, 448.0


# ---- The recipe in torch ---------------------------------------------------------------------------------------------------


def quantize_rows(x, bound=float("inf")):
    """s = max(min(amax, bound) / 448, 1 / (448 512)), codes = f8(x / s): every step in float32."""
    x = x.float()
    scale = (x.abs().amax(-1, keepdim=True).clamp(max=bound) / MAX).clamp(min=1 / (MAX * 512))
    return (x / scale).clamp(-MAX, MAX).to(torch.float8_e4m3fn), scale


class Fp8Linear(torch.nn.Module):
    def __init__(self, weight, scale, bias, bound):
        super().__init__()
        self.weight, self.scale, self.bias, self.bound = weight, scale, bias, bound

    def forward(self, x):
        weight = self.weight.float()
        if self.bound is None:  # weight only
            y = x.float() @ (weight * self.scale).T
        else:
            codes, scale = quantize_rows(x, self.bound)
            y = (codes.float() @ weight.T) * scale * self.scale.T
        return (y if self.bias is None else y + self.bias.float()).to(x.dtype)


def read_tensors(folder):
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in safetensors.torch.load_file(file).items()}


def config_without_quantization(folder):
    config = models.transformers.AutoConfig.from_pretrained(folder)
    quantization = config.quantization_config
    del config.quantization_config
    return config, quantization


def emulation(folder, dtype, quantize_activations):
    """The FP8 checkpoint as a model of transformers whose quantized linears are emulated."""
    config, quantization = config_without_quantization(folder)
    model = models.transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    tensors = read_tensors(folder)
    bound = quantization["activation_scale_ub"] if quantize_activations else None
    for name in [name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale")]:
        weight, scale, bias = tensors.pop(name + ".weight"), tensors.pop(name + ".weight_scale"), tensors.pop(name + ".bias", None)
        model.set_submodule(name, Fp8Linear(weight, scale, bias, bound))
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and set(missing) <= ({"lm_head.weight"} if config.tie_word_embeddings else set()), (missing, unexpected)
    return model


# ---- Tests -----------------------------------------------------------------------------------------------------------------


def check_next(results, name, got, low, want, peer):
    """The greedy next token is float32's as often as bfloat16's is. Where exactly one of the two is right, chance decides which: of
    n such tokens the difference has a standard deviation of sqrt(n), and three of them are allowed."""
    mine, theirs = (x.argmax(1) == want.argmax(1) for x in (got, low))
    lost, won = (theirs & ~mine).sum(), (mine & ~theirs).sum()
    results.check(lost - won <= 3 * np.sqrt(lost + won), f"{name}: the same next token in {mine.mean():.1%}, {peer} in bfloat16 "
                  f"{theirs.mean():.1%}; only octavo is right {won} times, only bfloat16 {lost}")


def test_logits(results, octavo, name, prompts, full, half, *arguments, peer="transformers"):
    """Over all prompts together: one prompt alone is too small a sample of bfloat16's error."""
    want, got, low = ([one(ids) for ids in prompts] for one in (
        lambda ids: models.logits_of(full, ids), lambda ids: octavo.logits(ids, *arguments), lambda ids: models.logits_of(half, ids)))
    want, got, low = map(np.concatenate, (want, got, low))
    check_logits(results, f"{name}, {len(want)} tokens", got, want, *apart(low, want), peer)
    check_next(results, name, got, low, want, peer)
    return got


def test_quantized(results, octavo, name, source, recipe, prompts, work):
    """Quantizes `source` and checks the file and the logits."""
    from transformers.quantizers.quantizers_utils import should_convert_module

    target = work / f"{source.name}-{recipe}"
    subprocess.run([octavo.program, "quantize", source, target, "--recipe", recipe], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    config, quantization = config_without_quantization(target)
    results.check(quantization["quant_method"] == "fbgemm_fp8" and quantization["activation_scale_ub"] == 1200.0, f"{name}: quantization_config")

    # What transformers expects of this config.json, against what the file holds
    with torch.device("meta"):
        skeleton = models.transformers.LlamaForCausalLM(config)
    skip = quantization["modules_to_not_convert"]
    linears = {n: m for n, m in skeleton.named_modules() if isinstance(m, torch.nn.Linear) and should_convert_module(n, skip)}
    expected = {n: (p.shape, torch.bfloat16) for n, p in skeleton.named_parameters()}
    for n, module in linears.items():
        expected[n + ".weight"] = (module.weight.shape, torch.float8_e4m3fn)
        expected[n + ".weight_scale"] = (torch.Size([module.out_features, 1]), torch.float32)
    if config.tie_word_embeddings:
        expected.pop("lm_head.weight", None)
    tensors, original = read_tensors(target), read_tensors(source)
    held = {n: (t.shape, t.dtype) for n, t in tensors.items()}
    wrong = sorted(n for n in held.keys() | expected.keys() if held.get(n) != expected.get(n))
    results.check(not wrong and linears, f"{name}: {len(held)} tensors, {len(linears)} linears in FP8, as transformers expects {wrong[:3] or ''}")
    layers = {int(n.split(".")[2]) for n in linears}
    last = config.num_hidden_layers - 1
    if recipe == "llama3":
        good = all(".mlp." in n for n in linears) and layers == set(range(1, last)) and len(linears) == 3 * len(layers)
    else:
        good = len(linears) == 7 * config.num_hidden_layers
    results.check(good, f"{name}: the recipe's linears")

    # Bits
    wrong = []
    for n, tensor in tensors.items():
        if n.endswith(".weight_scale"):
            continue
        if n.removesuffix(".weight") in linears:
            codes, scale = quantize_rows(original[n])
            same = torch.equal(codes.view(torch.uint8), tensor.view(torch.uint8)) and torch.equal(scale, tensors[n + "_scale"])
        else:
            same = torch.equal(original[n].to(torch.bfloat16).view(torch.uint16), tensor.view(torch.uint16))
        wrong += [] if same else [n]
    results.check(not wrong, f"{name}: codes, scales and copied tensors are torch's, bit by bit {wrong[:3] or ''}")

    if prompts:
        quantized = Octavo(octavo.program, target, octavo.folder)
        for act in ("f8", "bf16"):
            full, half = (emulation(target, dtype, act == "f8") for dtype in (torch.float32, torch.bfloat16))
            label = f"{name}, {act} activations"
            if act == "bf16":
                test_logits(results, quantized, label, prompts, full, half, "--act", act, peer="the emulation")
                continue
            # A last-bit difference becomes another code, an eighth of the value: the largest of 90 million errors is one such accident
            # (windows of 225 tokens go either way), so it is printed. The root mean square is judged, without a margin.
            want, got, low = (np.concatenate([one(ids) for ids in prompts]) for one in (
                lambda ids: models.logits_of(full, ids), lambda ids: quantized.logits(ids, "--act", act), lambda ids: models.logits_of(half, ids)))
            (mine, top), (theirs, their_top) = apart(got, want), apart(low, want)
            results.check(mine <= theirs, f"{label}, {len(want)} tokens: root mean square error of the logits {mine:.5f} (largest {top:.2f}), "
                          f"the emulation in bfloat16 {theirs:.5f} ({their_top:.2f})")
            check_next(results, label, got, low, want, "the emulation")


def test_tiny(results, program, work, rng):
    rebuilt = work / "rebuilt"
    tiny.build(rebuilt)
    for name in ("config.json", "model.safetensors"):
        results.check((rebuilt / name).read_bytes() == (models.GOLDEN / "tiny" / name).read_bytes(), f"tiny: {name} is as tiny.py builds it")
    octavo = Octavo(program, models.GOLDEN / "tiny", work)
    prompts = [rng.integers(0, tiny.CONFIG["vocab_size"], n).tolist() for n in (5, 70, 300)]
    full, half = (models.load(octavo.model, dtype) for dtype in (torch.float32, torch.bfloat16))
    got = test_logits(results, octavo, "tiny", prompts, full, half)
    test_quantized(results, octavo, "tiny quantized by llama3", octavo.model, "llama3", prompts, work)
    test_quantized(results, octavo, "tiny quantized by all", octavo.model, "all", prompts, work)

    # The same model as transformers saves it: another spelling of config.json, several files, other dtypes
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        folder = work / f"saved-{str(dtype).removeprefix('torch.')}"
        models.load(models.GOLDEN / "tiny", dtype).save_pretrained(folder, max_shard_size="60KB")
        files = len(list(folder.glob("*.safetensors")))
        saved = Octavo(program, folder, work)
        again = np.concatenate([saved.logits(ids) for ids in prompts])
        rms, _ = apart(again, got)
        # The values are the same, so the logits are; F16 alone cannot hold the smallest ones.
        results.check(rms <= (1e-3 if dtype == torch.float16 else 0), f"tiny saved by transformers as {dtype} in {files} files: logits differ by {rms:.2g}")
        test_quantized(results, octavo, f"the same, quantized", folder, "all", [], work)


def test_smollm2(results, program, checkpoint, work, rng):
    octavo = Octavo(program, checkpoint, work)
    tokenizer = tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    text = tokenizer.encode(models.EVAL_TEXT.read_text(encoding="utf-8")).ids
    starts, lengths = rng.integers(0, len(text) - 200, PROMPTS), rng.integers(30, 160, PROMPTS)
    prompts = [text[start : start + length] for start, length in zip(starts, lengths)]
    full, half = (models.load(checkpoint, dtype) for dtype in (torch.float32, torch.bfloat16))
    test_logits(results, octavo, "smollm2", prompts, full, half)
    windows = [text[start : start + 225] for start in rng.integers(0, len(text) - 225, FP8_WINDOWS)]
    for recipe in ("llama3", "all"):
        test_quantized(results, octavo, f"smollm2 quantized by {recipe}", checkpoint, recipe, windows, work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("octavo", type=pathlib.Path, help="the program")
    parser.add_argument("checkpoint", type=pathlib.Path, nargs="?", default=models.SMOLLM2)
    parser.add_argument("--seed", type=int, default=1, help="of the prompts (default %(default)s)")
    args = parser.parse_args()
    print(f"seed {args.seed}")
    rng = np.random.Generator(np.random.PCG64(args.seed))
    results = Results()
    golden = subprocess.run([sys.executable, models.GOLDEN / "make_golden.py", "--check"])
    results.check(golden.returncode == 0, "the golden vectors are what their generator computes, and torch agrees")
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        test_tiny(results, args.octavo.resolve(), work, rng)
        test_smollm2(results, args.octavo.resolve(), args.checkpoint, work, rng)
    print(f"{results.passed} passed, {results.failed} failed")
    raise SystemExit(results.failed > 0)


if __name__ == "__main__":
    main()
