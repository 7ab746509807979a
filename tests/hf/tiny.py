#!/usr/bin/env python3
"""Builds a tiny Llama with random weights that has what SmolLM2 lacks, so that tests of the decoder are quick and complete:
untied embeddings, biases everywhere, 4 query heads on 2 KV heads, a head size that is not hidden/heads, extents that no
vector width divides, and Llama 3.1 RoPE scaling from a context short enough for a test to pass it.

Use: tiny.py FOLDER     (the tree holds it as tests/golden/tiny)
"""
import json
import pathlib
import sys

import ml_dtypes
import numpy as np
from safetensors.torch import save_file
import torch

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": 24,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 100,
    "max_position_embeddings": 512,
    "mlp_bias": True,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 32,
        "rope_type": "llama3",
    },
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 97,
}


def tensors():
    """Name -> float32 array. Sums of uniforms from PCG64, whose stream numpy does not change between releases."""
    rng = np.random.Generator(np.random.PCG64(31))

    def random(*shape, mean=0.0, scale=1.0):
        return ((rng.random((12, *shape)).sum(0) - 6) * scale + mean).astype(np.float32)

    c = CONFIG
    hidden, inner, q, kv = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"], c["num_key_value_heads"]
    q, kv = q * c["head_dim"], kv * c["head_dim"]
    yield "model.embed_tokens.weight", random(c["vocab_size"], hidden)
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, rows, cols in (
            ("self_attn.q_proj", q, hidden),
            ("self_attn.k_proj", kv, hidden),
            ("self_attn.v_proj", kv, hidden),
            ("self_attn.o_proj", hidden, q),
            ("mlp.gate_proj", inner, hidden),
            ("mlp.up_proj", inner, hidden),
            ("mlp.down_proj", hidden, inner),
        ):
            yield layer + name + ".weight", random(rows, cols, scale=1.5 / cols**0.5)
            yield layer + name + ".bias", random(rows, scale=0.3)
        yield layer + "input_layernorm.weight", random(hidden, mean=1, scale=0.2)
        yield layer + "post_attention_layernorm.weight", random(hidden, mean=1, scale=0.2)
    yield "model.norm.weight", random(hidden, mean=1, scale=0.2)
    yield "lm_head.weight", random(c["vocab_size"], hidden, scale=3 / hidden**0.5)


def build(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    bf16 = {name: torch.from_numpy(v.astype(ml_dtypes.bfloat16).view(np.uint16)).view(torch.bfloat16) for name, v in tensors()}
    save_file(bf16, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def sequences():
    """The sequences whose logits are recorded: one within the original context, one far beyond it, one of two tokens."""
    rng = np.random.Generator(np.random.PCG64(32))
    return [rng.integers(0, CONFIG["vocab_size"], n).tolist() for n in (21, 150, 2)]


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    build(sys.argv[1])
