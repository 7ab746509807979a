#!/usr/bin/env python3
"""Compares octavo's decoder with what tests/hf/record.py recorded of transformers; needs neither torch nor transformers.

Use: test_model.py OCTAVO [CHECKPOINT]     CHECKPOINT is the folder that tools/make_checkpoint.py writes; without it only
                                           the tiny model of the tree is tested. Needs numpy and tokenizers.

Logits: octavo's distance from transformers in float32 must not exceed that of transformers in bfloat16.
Greedy text: the same tokens; where octavo prefers another one, the two must lie closer than octavo's own error can part.
Perplexity: within 0.5 % of transformers in float32.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"


class Results:
    passed = failed = 0

    def check(self, good, text):
        self.passed += bool(good)
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {text}", flush=True)


class Octavo:
    """The program under test, on one model."""

    def __init__(self, program, model, folder):
        self.program, self.model, self.folder = program, model, folder

    def call(self, command, *arguments):
        line = [self.program, command, "--model", self.model, *map(str, arguments)]
        done = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, line))}\nexit status {done.returncode}: {done.stderr.decode()}")
        return done.stdout.decode()

    def eval(self, ids, ctx, *arguments):
        file = self.folder / "ids.txt"
        file.write_text(" ".join(map(str, ids)) + "\n")
        return json.loads(self.call("eval", "--ids", file, "--ctx", ctx, "--json", *arguments))

    def logits(self, ids, *arguments):
        """float32 [tokens, vocab]."""
        file = self.folder / "logits.npy"
        self.eval(ids, max(len(ids), 2), "--logits", file, *arguments)
        return np.load(file)


def apart(a, b):
    """(root mean square, maximum) of the difference."""
    d = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return float(np.sqrt((d**2).mean())), float(np.abs(d).max())


def check_logits(results, name, got, want, bf16_rms, bf16_max, peer="transformers"):
    rms, top = apart(got, want)
    results.check(rms <= bf16_rms, f"{name}: root mean square error of the logits {rms:.5f}, {peer} in bfloat16 {bf16_rms:.5f}")
    results.check(top <= bf16_max, f"{name}: largest error of the logits {top:.5f}, {peer} in bfloat16 {bf16_max:.5f}")
    return top


def read(name):
    return json.loads((GOLDEN / name / "recorded.json").read_text(encoding="utf-8"))


def test_tiny(results, octavo):
    """Over all sequences together: a short one alone is too small a sample of bfloat16's error."""
    sequences, want = read("tiny")["sequences"], np.load(GOLDEN / "tiny" / "logits.npy")
    got = [octavo.logits(sequence["ids"]) for sequence in sequences]
    shapes = [rows.shape for rows in got]
    results.check(shapes == [(len(s["ids"]), want.shape[1]) for s in sequences], f"tiny: logits of shapes {shapes}")
    tokens = [len(sequence["ids"]) for sequence in sequences]
    bf16_rms = float(np.sqrt(np.average(np.square([s["bf16_rms"] for s in sequences]), weights=tokens)))
    check_logits(results, f"tiny, {sum(tokens)} tokens", np.concatenate(got), want, bf16_rms, max(s["bf16_max"] for s in sequences))


def test_smollm2(results, octavo):
    recorded, folder = read("smollm2"), GOLDEN / "smollm2"
    vocabulary, logits, at = np.load(folder / "vocabulary.npy"), np.load(folder / "logits.npy"), 0
    for number, sequence in enumerate(recorded["sequences"]):
        ids, positions, continuation = sequence["ids"], sequence["positions"], sequence["greedy_ids"]
        name = f"smollm2 {number}, {len(ids)} tokens"
        got = octavo.logits(ids + continuation[:-1])
        rows = slice(at, at + len(positions))
        at = rows.stop
        entries = np.take_along_axis(got[positions], vocabulary[rows].astype(np.int64), 1)
        bf16_rms = float(np.sqrt(np.mean(np.square(sequence["bf16_rms"]))))
        error = check_logits(results, name, entries, logits[rows], bf16_rms, max(sequence["bf16_max"]))
        best = got[len(ids) - 1 :].argmax(1)
        check_greedy(results, octavo, name, sequence, best, error)
    ctx, expected = recorded["ctx"], recorded["perplexity"]["f32"]
    ids = np.load(folder / "eval_ids.npy")
    perplexity = octavo.eval(ids, ctx)["perplexity"]
    results.check(
        abs(perplexity / expected - 1) <= 0.005,
        f"smollm2: perplexity over {len(ids)} tokens {perplexity:.4f}, transformers in float32 {expected:.4f}, "
        f"in bfloat16 {recorded['perplexity']['bf16']:.4f}",
    )


def check_greedy(results, octavo, name, sequence, best, error):
    """`best` is octavo's choice at each step when it is led along the recorded text; `error` its largest error there."""
    from tokenizers import Tokenizer

    recorded, gaps = sequence["greedy_ids"], sequence["greedy_gaps"]
    other = [step for step, (mine, theirs) in enumerate(zip(best, recorded)) if mine != theirs]
    for step in other:
        results.check(gaps[step] <= 2 * error, f"{name}: another token at step {step}, a gap of {gaps[step]:.5f}, error {error:.5f}")
    results.check(len(other) <= 2, f"{name}: {len(recorded) - len(other)} of {len(recorded)} greedy tokens are the same")

    # Left to itself octavo writes the same text, or parts from it at a tie. It stops at EOS, where the recording goes on.
    tokenizer = Tokenizer.from_file(str(octavo.model / "tokenizer.json"))
    eos = json.loads((octavo.model / "config.json").read_text())["eos_token_id"]
    stop = recorded.index(eos) if eos in recorded else len(recorded)
    text = octavo.call("run", "--prompt", sequence["text"], "--max-tokens", len(recorded)).removeprefix(sequence["text"])
    begins = lambda n: tokenizer.decode(recorded[:n], skip_special_tokens=False)
    same = max(n for n in range(stop + 1) if text.startswith(begins(n)))
    if same == stop:
        results.check(text.rstrip("\n") == begins(stop).rstrip("\n"), f"{name}: octavo run writes the recorded {stop} tokens")
    else:
        good = gaps[same] <= 2 * error
        text = "" if good else f":\n  {text!r}\nnot\n  {begins(stop)!r}"
        results.check(good, f"{name}: octavo run parts from the recorded text at step {same}, a gap of {gaps[same]:.5f}, error {error:.5f}{text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("octavo", type=pathlib.Path, help="the program")
    parser.add_argument("checkpoint", type=pathlib.Path, nargs="?", help="SmolLM2-135M-Instruct as a Hugging Face folder")
    args = parser.parse_args()
    results = Results()
    with tempfile.TemporaryDirectory() as folder:
        program, folder = args.octavo.resolve(), pathlib.Path(folder)
        test_tiny(results, Octavo(program, GOLDEN / "tiny", folder))
        if args.checkpoint:
            test_smollm2(results, Octavo(program, args.checkpoint, folder))
    print(f"{results.passed} passed, {results.failed} failed")
    raise SystemExit(results.failed > 0)


if __name__ == "__main__":
    main()
