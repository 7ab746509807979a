#!/usr/bin/env python3
"""Records what transformers computes, for tests/py/test_model.py, which needs neither torch nor transformers.

Writes tests/golden/tiny (model and recording) and tests/golden/smollm2 (recording only). In each:
  recorded.json   sequences as token ids; how far transformers in bfloat16 lies from transformers in float32; for smollm2 also
                  greedy continuations of float32 with the gap between the two best logits at each step, and perplexities
  logits.npy      float32 logits of transformers in float32. tiny: all positions of all sequences, one after another,
                  [positions, vocab]. smollm2: at the recorded positions, the entries of vocabulary.npy
  vocabulary.npy  smollm2: [positions, 320] uint16: the 64 largest logits' ids, then 256 random ones
  eval_ids.npy    smollm2: uint16, the first tokens of .deps/eval.txt, whose perplexity is recorded

Use: .deps/venv-hf/bin/python tests/hf/record.py      after tools/make_checkpoint.py and tools/eval_text.py
"""
import json

import numpy as np
import tokenizers
import torch

import models
import tiny

CTX, EVAL_TOKENS, STEPS, TOP, RANDOM = 2048, 4096, 64, 64, 256

# Prose, code, a conversation, and (from the evaluation text) a long one.
PROMPTS = [
    "The history of the lighthouse began on a stormy night in 1847, when the captain of a small fishing boat lost his way. "
    "He had sailed along that coast for thirty years, but",
    'def fibonacci(n):\n    """Return a list with the first n Fibonacci numbers."""\n    numbers = [0, 1]\n'
    "    while len(numbers) < n:\n        numbers.append(",
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\nWhat is the capital of France, and what is it known for?<|im_end|>\n<|im_start|>assistant\n",
]
LONG_PROMPT = slice(1000, 1200)  # tokens of the evaluation text


def record_tiny(folder):
    tiny.build(folder)
    full, half = models.load(folder, torch.float32), models.load(folder, torch.bfloat16)
    sequences = tiny.sequences()
    logits = [models.logits_of(full, ids) for ids in sequences]
    errors = [models.apart(models.logits_of(half, ids), want) for ids, want in zip(sequences, logits)]
    np.save(folder / "logits.npy", np.concatenate(logits))
    save(folder, {
        "sequences": [
            {"ids": ids, "bf16_rms": rms, "bf16_max": top} for ids, (rms, top) in zip(sequences, errors)
        ],
    })


def record_smollm2(folder):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizers.Tokenizer.from_file(str(models.SMOLLM2 / "tokenizer.json"))
    text_ids = tokenizer.encode(models.EVAL_TEXT.read_text(encoding="utf-8")).ids
    prompts = [tokenizer.encode(text).ids for text in PROMPTS] + [text_ids[LONG_PROMPT]]
    full, half = models.load(models.SMOLLM2, torch.float32), models.load(models.SMOLLM2, torch.bfloat16)
    rng = np.random.Generator(np.random.PCG64(33))
    sequences, vocabulary, values = [], [], []
    for ids in prompts:
        want, got = models.logits_of(full, ids), models.logits_of(half, ids)
        positions = sorted({*range(7, len(ids), 16), 0, len(ids) - 1})
        picks = [pick(want[p], rng) for p in positions]
        vocabulary += picks
        values += [want[p][pick] for p, pick in zip(positions, picks)]
        errors = [models.apart(got[p][pick], want[p][pick]) for p, pick in zip(positions, picks)]
        greedy_ids, gaps = models.greedy(full, ids, STEPS)
        sequences.append({
            "text": tokenizer.decode(ids, skip_special_tokens=False),
            "ids": ids,
            "positions": positions,
            "bf16_rms": [rms for rms, _ in errors],
            "bf16_max": [top for _, top in errors],
            "bf16_all_rms": models.apart(got, want)[0],
            "bf16_all_max": models.apart(got, want)[1],
            "greedy_ids": greedy_ids,
            "greedy_gaps": [round(gap, 5) for gap in gaps],
            "greedy_text": tokenizer.decode(greedy_ids, skip_special_tokens=False),
        })
    np.save(folder / "vocabulary.npy", np.array(vocabulary, np.uint16))
    np.save(folder / "logits.npy", np.array(values, np.float32))
    np.save(folder / "eval_ids.npy", np.array(text_ids[:EVAL_TOKENS], np.uint16))
    perplexity = {
        name: float(np.exp(models.window_nll(model, text_ids[:EVAL_TOKENS], CTX))) for name, model in (("f32", full), ("bf16", half))
    }
    save(folder, {"ctx": CTX, "perplexity": perplexity, "eval_text_tokens": len(text_ids), "sequences": sequences})


def pick(row, rng):
    return np.concatenate([np.argsort(-row, kind="stable")[:TOP], rng.integers(0, len(row), RANDOM)])


def save(folder, value):
    """JSON with a sequence a line."""
    versions = {"torch": torch.__version__, "transformers": models.transformers.__version__}
    sequences = value.pop("sequences")
    head = json.dumps({"recorded_with": versions} | value, indent=1)[:-2]
    lines = ",\n".join(json.dumps(s, ensure_ascii=False) for s in sequences)
    (folder / "recorded.json").write_text(f'{head},\n "sequences": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    record_tiny(models.GOLDEN / "tiny")
    record_smollm2(models.GOLDEN / "smollm2")
