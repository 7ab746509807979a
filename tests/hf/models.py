"""What the scripts of this folder share: models in transformers, and how far two sets of logits lie apart."""
import os
import pathlib

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import torch
import transformers

transformers.utils.logging.disable_progress_bar()

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
SMOLLM2 = ROOT / ".deps" / "SmolLM2-135M-Instruct"
EVAL_TEXT = ROOT / ".deps" / "eval.txt"


def load(folder, dtype):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


@torch.inference_mode()
def logits_of(model, ids):
    """float32 [tokens, vocab] of one sequence."""
    return model(torch.tensor([list(map(int, ids))])).logits[0].float().numpy()


@torch.inference_mode()
def greedy(model, ids, steps):
    """The continuation, and at each step by how much the best logit exceeds the second best. Goes on past EOS."""
    out, gaps, cache, step = [], [], None, torch.tensor([list(map(int, ids))])
    for _ in range(steps):
        result = model(step, past_key_values=cache, use_cache=True)
        cache = result.past_key_values
        top = result.logits[0, -1].float().topk(2)
        out.append(int(top.indices[0]))
        gaps.append(float(top.values[0] - top.values[1]))
        step = torch.tensor([[out[-1]]])
    return out, gaps


def window_nll(model, ids, ctx):
    """Mean negative log-likelihood over windows of ctx tokens without overlap; the first token of each is not scored."""
    total, count = 0.0, 0
    for at in range(0, len(ids), ctx):
        window = ids[at : at + ctx]
        logp = torch.log_softmax(torch.from_numpy(logits_of(model, window)).double(), -1)
        targets = torch.tensor(list(map(int, window[1:])))
        total -= float(logp[:-1].gather(1, targets[:, None]).sum())
        count += len(targets)
    return total / count


def apart(a, b):
    """(root mean square, maximum) of the difference."""
    d = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return float(np.sqrt((d**2).mean())), float(np.abs(d).max())
