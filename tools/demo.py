#!/usr/bin/env python3
"""The demo: quantizes a checkpoint to FP8 with octavo, generates text from it, and compares what was lost and gained.

Example: tools/demo.py --octavo build/octavo --model .deps/SmolLM2-135M-Instruct --text .deps/eval.txt
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys

PROMPT = "What is gravity? Answer in two sentences."
CACHES = {"bf16": "BF16", "f8": "FP8", "i4": "INT4"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--octavo", required=True, help="the octavo program")
    parser.add_argument("--model", required=True, type=pathlib.Path, help="a Hugging Face Llama folder in BF16")
    parser.add_argument("--text", required=True, help="natural text to measure perplexity on")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens of it to use (default %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="threads (default: all)")
    args = parser.parse_args()
    threads = ["--threads", str(args.threads)] if args.threads else []

    def octavo(*command, **options):
        """Runs octavo; its progress bars go to the terminal."""
        return subprocess.run([args.octavo, *map(str, command)], check=True, text=True, **options)

    models = {"BF16": args.model}
    for name, recipe in (("FP8 recipe", "llama3"), ("FP8 all linears", "all")):
        models[name] = args.model.with_name(f"{args.model.name}-FP8-{recipe}")
        heading(f"octavo quantize --recipe {recipe}")
        if models[name].exists():
            shutil.rmtree(models[name])
        octavo("quantize", args.model, models[name], "--recipe", recipe, *threads)

    for name in ("BF16", "FP8 recipe", "FP8 all linears"):
        heading(f"octavo run, {name}: {PROMPT}")
        octavo("run", "--model", models[name], "--chat", PROMPT, "--max-tokens", 80, *threads)

    rows, baseline = [], None
    for name, folder in models.items():
        for kv, label in CACHES.items():
            heading(f"octavo eval, {name}, {label} cache")
            following = folder.with_name("demo-next.txt")
            result = json.loads(octavo("eval", "--model", folder, "--text", args.text, "--limit", args.tokens, "--kv", kv, "--json",
                                       "--next", following, *threads, stdout=subprocess.PIPE).stdout)
            tokens = following.read_text().split()
            following.unlink()
            baseline = baseline or tokens
            agree = sum(a == b for a, b in zip(baseline, tokens)) / len(tokens)
            speed = octavo("bench", "--model", folder, "--kv", kv, "--seconds", 4, "--prompt", 512, "--generate", 64,
                           "--threads", args.threads or cores(), stdout=subprocess.PIPE).stdout
            prefill, decode = (float(x) for x in re.findall(r"best ([0-9.]+)", speed))
            rows.append((name, label, f"{result['weight_bytes'] / 1e6:.1f} MB", f"{result['cache_bytes_per_token']:,} B",
                         f"{result['perplexity']:.3f}", f"{100 * agree:.1f} %", f"{prefill:.0f}", f"{decode:.1f}"))

    heading(f"{args.model.name} on {args.tokens} tokens of {pathlib.Path(args.text).name}, {args.threads or cores()} threads")
    table(("weights", "KV cache", "bytes of weights", "cache a token", "perplexity", "same next token", "prefill t/s", "decode t/s"), rows)
    print("\nThe BF16 baseline was itself made from 4-bit weights (the only copy of this model that a package carries), so the table\n"
          "shows what octavo loses against its input, not the quality of the original model. Same next token: the share of positions\n"
          "at which the most probable next token is the one of BF16 weights with a BF16 cache.")


def cores():
    import os
    return len(os.sched_getaffinity(0))


def heading(text):
    print(f"\n== {text}", flush=True)


def table(head, rows):
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * w for w in widths], *rows]:
        print("  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))))


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"demo: {' '.join(error.cmd[:3])} ... failed with exit code {error.returncode}")
