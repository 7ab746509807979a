"""Hugging Face transformers on octavo's operators: its own fbgemm_fp8, unmodified, and checkpoints that `octavo quantize` wrote.
Greedy text is compared with `octavo run`. What rounding may part is judged without octavo: by the recipe in torch (tests/hf), once in
float32 and once in bfloat16."""
import importlib.util
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch

import octavo.fbgemm  # before transformers looks for fbgemm_gpu

transformers = pytest.importorskip("transformers")
from transformers import AutoModelForCausalLM, AutoTokenizer, FbgemmFp8Config, LlamaConfig, LlamaForCausalLM  # noqa: E402

CHECKPOINT = pathlib.Path(__file__).parents[3] / ".deps/SmolLM2-135M-Instruct"
F8 = torch.float8_e4m3fn
PROMPTS = ["The capital of France is", "Once upon a time there was", "Water boils at", "def fibonacci(n):", "The three primary colours are",
           "Dear Sir or Madam,", "In the year 1969,", "My favourite book is"]


def run(*arguments):
    done = subprocess.run([sys.executable, "-m", "octavo", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(path, device="cpu", **more):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, device_map=device, **more).eval()


@pytest.fixture
def any_device(device):
    """Transformers' own gates; on the CPU lifted for the test."""
    from transformers.quantizers import auto
    before = dict(auto.AUTO_QUANTIZER_MAPPING)
    if device == "cpu":
        octavo.fbgemm.enable_transformers_on_any_device()
    yield device
    auto.AUTO_QUANTIZER_MAPPING.update(before)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=128)
    folder = tmp_path_factory.mktemp("tiny")
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    return folder


def test_what_transformers_asks_for(tiny):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ImportError, match="requires a GPU"):
        load(tiny, quantization_config=FbgemmFp8Config())


def test_quantized_on_the_fly_saved_and_loaded(tiny, tmp_path, any_device):
    reference, model = load(tiny, any_device), load(tiny, any_device, quantization_config=FbgemmFp8Config())
    linears = [m for m in model.modules() if type(m).__name__ == "FbgemmFp8Linear"]
    assert len(linears) == 14 and all(m.weight.dtype == F8 and m.input_scale_ub.item() == 1200 for m in linears)
    ids = torch.arange(20, device=any_device)[None]
    with torch.no_grad():
        want, got = reference(ids).logits.float(), model(ids).logits.float()
        model.save_pretrained(tmp_path)
        again = load(tmp_path, any_device)
        assert torch.equal(again(ids).logits.float(), got)
        assert model.generate(ids, max_new_tokens=4, do_sample=False).shape == (1, 24)
    # Two roundings to 3 bits each: the relative error of a product has a standard deviation of 2^-4 / sqrt(3) * sqrt(2) at most
    assert (got - want).norm() < 0.06 * want.norm()


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    if not CHECKPOINT.exists():
        pytest.skip(f"{CHECKPOINT} is not there: make checkpoint")
    folder = tmp_path_factory.mktemp("quantized")
    for form in ("fbgemm", "compressed-tensors"):
        run("quantize", CHECKPOINT, folder / form, "--recipe", "all", "--format", form)
    return folder


def octavo_logits(model, ids, folder, *more):
    (folder / "ids.txt").write_text(" ".join(map(str, ids)) + "\n")
    run("eval", "--model", model, "--ids", folder / "ids.txt", "--ctx", len(ids), "--json", "--logits", folder / "logits.npy", *more)
    return np.load(folder / "logits.npy")


@pytest.fixture(scope="module")
def recipe(quantized):
    """The checkpoint's recipe in torch: in float32, and in bfloat16."""
    folder = pathlib.Path(__file__).parents[2] / "hf"
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("tests_hf", folder / "test_hf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [module.emulation(quantized / "fbgemm", dtype, True) for dtype in (torch.float32, torch.bfloat16)]


def test_greedy_text_is_that_of_octavo_run(quantized, recipe, any_device):
    """64 tokens of 8 prompts. FP8 activations turn a difference in the last bit into another code, so rounding to bfloat16 alone moves
    logits of this model by about 1; every first difference has to be such a tie."""
    model, tokenizer = load(quantized / "fbgemm", any_device), AutoTokenizer.from_pretrained(CHECKPOINT)
    assert sum(type(m).__name__ == "FbgemmFp8Linear" for m in model.modules()) == 210
    same = lost = won = 0
    for prompt in PROMPTS:
        mine = list(map(int, run("run", "--model", quantized / "fbgemm", "--prompt", prompt, "--max-tokens", 64, "--print-ids").split()))
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            theirs = model.generate(ids.to(any_device), attention_mask=torch.ones_like(ids).to(any_device), max_new_tokens=64, do_sample=False)
            line = torch.cat([ids, torch.tensor([mine])], 1)  # all three along octavo's text
            peer, full, half = (m(line.to(m.device)).logits[0, ids.shape[1] - 1:-1].float().cpu() for m in (model, *recipe))
        theirs = theirs[0, ids.shape[1]:].tolist()
        at = next((i for i, (a, b) in enumerate(zip(mine, theirs)) if a != b), min(len(mine), len(theirs)))
        same += at
        if at < len(mine):
            assert abs(full[at, mine[at]] - full[at, theirs[at]]) <= 2 * (half[at] - full[at]).abs().max(), (prompt, at)
        right, low = (x.argmax(1) == full.argmax(1) for x in (peer, half))
        lost, won = lost + int((low & ~right).sum()), won + int((right & ~low).sum())
    print(f"{same} of {64 * len(PROMPTS)} tokens before the first differences; float32's token: {lost} that bfloat16 alone has, {won} that only we have")
    assert lost - won <= 3 * (lost + won) ** 0.5  # as often right as bfloat16 is, by what chance allows


def test_compressed_tensors(quantized, tmp_path):
    """Loads through the package of that name; the weights are those of the other format, and the logits are as near."""
    pytest.importorskip("compressed_tensors")
    model = AutoModelForCausalLM.from_pretrained(quantized / "compressed-tensors", dtype=torch.bfloat16).eval()
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    ids = tokenizer(PROMPTS[0] + " Paris. " + PROMPTS[1], return_tensors="pt").input_ids
    with torch.no_grad():
        theirs = model(ids).logits[0].float().numpy()
        bf16 = load(CHECKPOINT)(ids).logits[0].float().numpy()
    mine = octavo_logits(quantized / "compressed-tensors", ids[0].tolist(), tmp_path)
    lost = np.sqrt(((mine - bf16) ** 2).mean())
    assert np.sqrt(((mine - theirs) ** 2).mean()) < lost  # nearer to each other than FP8 is to the original
    config = json.loads((quantized / "compressed-tensors/config.json").read_text())["quantization_config"]
    assert config["format"] == "float-quantized"
