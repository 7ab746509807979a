#!/usr/bin/env python3
"""Times whole models: octavo and llama.cpp in turns on the same machine, so that both meet the same disturbances.

Prefill is a prompt of 512 tokens, decode 128 tokens after it. Each program runs in every round for every number of threads;
the best of all rounds counts, for both. See run.sh, which builds llama.cpp and calls this.
"""
import argparse
import csv
import json
import pathlib
import re
import subprocess

PEERS = pathlib.Path(".deps/peers")
MODEL = ".deps/SmolLM2-135M-Instruct"


def octavo(model, threads):
    text = subprocess.run(["build/octavo", "bench", "--model", model, "--threads", str(threads), "--seconds", "4"],
                          check=True, capture_output=True, text=True).stdout
    return [float(x) for x in re.findall(r"best ([0-9.]+)", text)]


def llama_cpp(file, threads):
    text = subprocess.run([PEERS / "build/bin/llama-bench", "-m", PEERS / file, "-t", str(threads), "-p", "512", "-n", "128",
                           "-r", "2", "-o", "json"], check=True, capture_output=True, text=True).stdout
    runs = json.loads(text)
    prefill = [max(r["samples_ts"]) for r in runs if r["n_prompt"]]
    decode = [max(r["samples_ts"]) for r in runs if r["n_gen"]]
    return [prefill[0], decode[0]]


PROGRAMS = {
    "octavo BF16": lambda t: octavo(MODEL, t),
    "octavo FP8 recipe": lambda t: octavo(MODEL + "-FP8-llama3", t),
    "octavo FP8 all": lambda t: octavo(MODEL + "-FP8-all", t),
    "llama.cpp Q8_0": lambda t: llama_cpp("Q8_0.gguf", t),
    "llama.cpp BF16": lambda t: llama_cpp("BF16.gguf", t),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--csv", type=pathlib.Path, help="also write the figures to this file")
    args = parser.parse_args()
    for recipe in ("llama3", "all"):
        if not pathlib.Path(f"{MODEL}-FP8-{recipe}").exists():
            subprocess.run(["build/octavo", "quantize", MODEL, f"{MODEL}-FP8-{recipe}", "--recipe", recipe], check=True)
    best = {}
    for round_number in range(args.rounds):
        print(f"round {round_number + 1} of {args.rounds}", flush=True)
        for threads in args.threads:
            for name, run in PROGRAMS.items():
                for what, speed in zip(("prefill", "decode"), run(threads)):
                    key = name, threads, what
                    best[key] = max(best.get(key, 0), speed)
    print(f"\n{'tokens/s':20}" + "".join(f"{f'{what} {t}t':>14}" for t in args.threads for what in ("prefill", "decode")))
    for name in PROGRAMS:
        print(f"{name:20}" + "".join(f"{best[name, t, what]:14.1f}" for t in args.threads for what in ("prefill", "decode")))
    print(f"{'FP8 all / Q8_0':20}" + "".join(f"{best['octavo FP8 all', t, what] / best['llama.cpp Q8_0', t, what]:13.2f}x"
                                             for t in args.threads for what in ("prefill", "decode")))
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["program", "threads", "phase", "tokens_per_second"])
            for (name, threads, what), speed in best.items():
                writer.writerow([name, threads, what, f"{speed:.2f}"])


if __name__ == "__main__":
    main()
