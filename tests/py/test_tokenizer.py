#!/usr/bin/env python3
"""Compares `octavo tokenize` with the `tokenizers` package, id by id.

Trains small tokenizers of each kind that octavo reads (GPT-2, with and without a leading space; SmolLM; Llama 3; one full of
awkward added tokens) on text made here: Python's own sources, code, Unicode of many scripts, emoji, combining marks, numbers,
runs of white space, special tokens, random bytes. Each line is a text of its own; then whole files are compared, and decoding.

Example: test_tokenizer.py build/octavo [FOLDER ...]     a FOLDER holds a real tokenizer.json to be compared as well
Exit code 1 on any difference, and when fewer than 10,000 lines were compared.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import sysconfig
import tempfile
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SEED = 20240607
LINES = 3000  # a tokenizer
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>"]

# Ranges of code points that are drawn from; unassigned ones are left out.
SCRIPTS = [(0x20, 0x7e), (0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x52f), (0x531, 0x58f), (0x591, 0x5f4),
           (0x600, 0x6ff), (0x900, 0x97f), (0xe01, 0xe5b), (0x10a0, 0x10ff), (0x1100, 0x11ff), (0x1680, 0x169c),
           (0x1800, 0x18aa), (0x2000, 0x206f), (0x2070, 0x209c), (0x2100, 0x218b), (0x2200, 0x22ff), (0x2460, 0x24ff),
           (0x2e80, 0x2fd5), (0x3000, 0x30ff), (0x3400, 0x4dbf), (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0xe000, 0xe0ff),
           (0xf900, 0xfaff), (0xfe00, 0xfe0f), (0xff01, 0xffee), (0x10330, 0x1034a), (0x12000, 0x12399),
           (0x1d400, 0x1d7ff), (0x1f300, 0x1faff), (0x20000, 0x2a6df), (0x31350, 0x323af), (0xe0001, 0xe01ef)]
SPACES = " \t\v\f\r\x1c\x1f\x85\xa0\u1680\u180e\u2000\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
EMOJI = ["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪🇫🇷", "☃️", "1️⃣", "e\u0301", "a\u030a\u0323", "ﬁ", "ſ's'ſ", "İ", "ß"]


class Text:
    """Lines of mixed text, the same on every run with the same Python."""

    def __init__(self):
        self.random = random.Random(SEED)
        self.characters = [[chr(c) for c in range(a, b + 1) if unicodedata.category(chr(c)) != "Cn" or c >= 0x31350]
                           for a, b in SCRIPTS]
        library = pathlib.Path(sysconfig.get_paths()["stdlib"])
        files = [library / f"{m}.py" for m in ("argparse", "ast", "datetime", "decimal", "_pydecimal", "difflib", "doctest",
                                               "inspect", "locale", "pdb", "random", "tarfile", "textwrap", "turtle", "typing",
                                               "html/entities", "this", "statistics", "threading", "zipfile")]
        self.source = [x for f in files if f.is_file() for x in f.read_bytes().split(b"\n") if x.strip()]
        if len(self.source) < 5000:
            sys.exit(f"test_tokenizer: only {len(self.source)} lines of Python source found below {library}")

    def script(self):
        c = self.random.choice(self.characters)
        return "".join(self.random.choice(c) for _ in range(self.random.randint(1, 12)))

    def number(self):
        r = self.random
        return r.choice([str(r.randint(0, 10**r.randint(1, 20))), f"{r.uniform(-1e3, 1e3):.5f}", hex(r.randint(0, 2**64)),
                         "٠١٢٣", "½¾", "ⅷ", "①②", "१२३", "𝟘𝟙𝟚", "x²", f"{r.randint(1, 28)}/0{r.randint(1, 9)}/2024"])

    def space(self):
        return "".join(self.random.choice(SPACES if self.random.random() < 0.3 else " \t ") for _ in range(self.random.randint(1, 9)))

    def word(self):
        return self.random.choice(self.source).decode("utf-8", "replace").strip()[:30]

    def contraction(self):
        r = self.random
        s = r.choice(["don't", "I'LL", "we'Ve", "it's", "he'd", "you'RE", "I'm", "'S", "ſ'ſ", "'tis", "rock'n'roll", "''s"])
        return s + r.choice(["", "s", " ", "\t", "9"])

    def random_bytes(self):
        """Often nearly UTF-8: beginnings of sequences, surrogates, overlong and too large ones."""
        r = self.random
        parts = [bytes(r.randrange(256) for _ in range(r.randint(1, 8))), "é漢😀".encode()[: r.randint(1, 9)], b"\xed\xa0\x80",
                 b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xe0\x80\x80", b"\xf0\x9f\x98", b"\xff\xfe\x00", b"abc \xe2\x82", b"\x00"]
        return r.choice(parts).replace(b"\n", b"")

    def piece(self):
        r = self.random
        made = r.choice([self.script, self.script, self.number, self.space, self.space, self.word, self.contraction,
                         lambda: r.choice(EMOJI), lambda: r.choice(SPECIAL), lambda: r.choice("!?.,;:()[]{}#$%&*+-/<>=@^_`|~\\'\"") * r.randint(1, 6)])
        return made().encode("utf-8", "replace").replace(b"\n", b"")

    def line(self):
        r = self.random
        kind = r.random()
        if kind < 0.35:
            return r.choice(self.source)
        pieces = [self.piece() for _ in range(r.randint(1, 10))]
        if kind < 0.6:
            pieces.insert(r.randrange(len(pieces)), self.random_bytes())
        if kind > 0.99:
            pieces.append(self.piece()[:6] * 500)
        return b"".join(pieces)

    def lines(self, count):
        return [self.line() for _ in range(count)]


def train(pre_tokenizer, lines, **model):
    t = Tokenizer(models.BPE(**model))
    t.pre_tokenizer = pre_tokenizer
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    t.train_from_iterator([x.decode("utf-8", "replace") for x in lines],
                          trainers.BpeTrainer(vocab_size=1500, special_tokens=SPECIAL, show_progress=False,
                                              initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return t


def make_tokenizers(text):
    """Yields name and tokenizer.json's text."""
    lines = text.lines(4000)
    level = pre_tokenizers.ByteLevel
    yield "gpt2", train(level(add_prefix_space=False), lines).to_str()
    # The same family with a leading space, and merges in the older "a b" form.
    old = json.loads(train(level(add_prefix_space=True), lines).to_str())
    old["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in old["model"]["merges"]]
    yield "gpt2-space", json.dumps(old)
    digits = [pre_tokenizers.Digits(individual_digits=True), level(add_prefix_space=False)]
    yield "smollm", train(pre_tokenizers.Sequence(digits), lines).to_str()
    grouped = [pre_tokenizers.Digits(individual_digits=False), level(add_prefix_space=False)]
    yield "digits", train(pre_tokenizers.Sequence(grouped), lines).to_str()

    split = [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), level(add_prefix_space=False, use_regex=False)]
    llama = train(pre_tokenizers.Sequence(split), lines, ignore_merges=True)
    begin = llama.token_to_id("<|begin_of_text|>")
    llama.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)])])
    llama.add_tokens([AddedToken("Ġzq")])  # spelled like the word " zq", which must not become it
    data = json.loads(llama.to_str())
    # Some words can then only be had whole, which is what ignore_merges is about.
    data["model"]["merges"] = [m for i, m in enumerate(data["model"]["merges"]) if i % 5 != 4 or i < 200]
    yield "llama3", json.dumps(data)

    awkward = train(level(add_prefix_space=False), lines)
    awkward.add_tokens([AddedToken("tur", single_word=True), AddedToken("<l>", lstrip=True), AddedToken("<r>", rstrip=True),
                        AddedToken("<lr>", lstrip=True, rstrip=True, normalized=False), AddedToken("ab"), AddedToken("abc d"),
                        AddedToken("漢", normalized=False), AddedToken("é"), AddedToken("def", single_word=True),
                        AddedToken("  "), AddedToken("self", normalized=False), AddedToken("yourself")])  # "self" is looked for first
    awkward.add_special_tokens([AddedToken("<lsp>", lstrip=True), AddedToken("<1>", single_word=True, rstrip=True)])
    yield "added", awkward.to_str()


def sprinkle(text, lines):
    """Lines for the tokenizer with added tokens: these must occur."""
    r = text.random
    tokens = ["tur", "<l>", "<r>", "<lr>", "ab", "abc d", "abc", "漢", "é", "def", "  ", "self", "yourself", "<lsp>", "<1>", "_", " ", "\u3000 "]
    return ["".join(r.choice(tokens) for _ in range(r.randint(1, 8))).encode() + (x[:40] if i % 2 else b"") for i, x in enumerate(lines)]


class Comparison:
    def __init__(self, octavo, folder):
        self.octavo, self.folder = octavo, pathlib.Path(folder)
        self.lines = self.ids = self.differences = 0

    def run(self, model, data, *options):
        file = self.folder / "input"
        file.write_bytes(data)
        command = [self.octavo, "tokenize", "--model", str(model), "--text", str(file), *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if done.returncode != 0:
            sys.exit(f"test_tokenizer: {' '.join(command)}: exit code {done.returncode}: {done.stderr.decode()}")
        return done.stdout

    def check(self, what, got, wanted, shown):
        if got == wanted:
            return
        self.differences += 1
        if self.differences <= 10:
            print(f"FAIL {what}: {shown!r}\n  octavo     {got!r:.300}\n  tokenizers {wanted!r:.300}")

    def compare(self, name, model, tokenizer, lines):
        strings = [x.decode("utf-8", "replace") for x in lines]
        wanted = [e.ids for e in tokenizer.encode_batch(strings)]
        plain = [e.ids for e in tokenizer.encode_batch(strings, add_special_tokens=False)]
        data = b"".join(x + b"\n" for x in lines)
        for options, want in ((), wanted), (("--no-special",), plain):
            got = self.run(model, data, "--lines", *options).split(b"\n")[:-1]
            self.check(f"{name}: number of lines", len(got), len(lines), "")
            for line, g, w in zip(lines, got, want):
                self.check(f"{name}: encode", [int(i) for i in g.split()], w, line)
        self.lines += len(lines)
        self.ids += sum(map(len, wanted))

        listed = "".join(" ".join(map(str, w)) + "\n" for w in wanted).encode()
        for options, skip in ((), False), (("--no-special",), True):
            got = self.run(model, listed, "--lines", "--decode", *options).split(b"\n")[:-1]
            self.check(f"{name}: number of decoded lines", len(got), len(lines), "")
            for line, g, w in zip(lines, got, tokenizer.decode_batch(wanted, skip_special_tokens=skip)):
                self.check(f"{name}: decode", g.decode("utf-8", "replace"), w, line)
        self.compare_whole(name, model, tokenizer, lines)

    def compare_whole(self, name, model, tokenizer, lines):
        """Texts with newlines in them: files whole, and ids in random order back to bytes."""
        text = random.Random(SEED)
        files = [b"", b"\n", b"\r\n\r\n", b" \n \n\n  x", b"a" * 20000, b" " * 20000, b"\xff" * 1000]
        for i in range(4):
            joints = [b"\n", b"\r\n", b"\n\n", b" \n", b"\n   ", b"\r"]
            files.append(b"".join(x + text.choice(joints) for x in lines[i * 200: i * 200 + 200]))
        files.append(b"\n".join(lines))
        for data in files:
            want = tokenizer.encode(data.decode("utf-8", "replace")).ids
            got = [int(i) for i in self.run(model, data).split()]
            self.check(f"{name}: whole file", got, want, data[:100])
            back = self.run(model, " ".join(map(str, want)).encode(), "--decode").decode("utf-8", "replace")
            self.check(f"{name}: whole file back", back, tokenizer.decode(want, skip_special_tokens=False), data[:100])
            self.ids += len(want)
        ids = [text.randrange(tokenizer.get_vocab_size()) for _ in range(20000)]
        got = self.run(model, " ".join(map(str, ids)).encode(), "--decode").decode("utf-8", "replace")
        self.check(f"{name}: random ids", got, tokenizer.decode(ids, skip_special_tokens=False), ids[:10])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("octavo", help="the octavo binary")
    parser.add_argument("folder", nargs="*", type=pathlib.Path, help="a model folder whose tokenizer.json is compared too")
    args = parser.parse_args()
    text = Text()
    with tempfile.TemporaryDirectory() as temporary:
        c = Comparison(args.octavo, temporary)
        for name, data in make_tokenizers(text):
            model = pathlib.Path(temporary) / name
            model.mkdir()
            (model / "tokenizer.json").write_text(data, encoding="utf-8")
            lines = text.lines(LINES) + [b"a zq", b" zq zq.", b"zq"]  # see "llama3"; training never sees these
            c.compare(name, model, Tokenizer.from_str(data), sprinkle(text, lines) if name == "added" else lines)
            print(f"{name}: {len(lines)} lines compared", flush=True)
        for folder in args.folder:
            lines = text.lines(LINES)
            c.compare(folder.name, folder, Tokenizer.from_file(str(folder / "tokenizer.json")), lines)
            print(f"{folder.name}: {len(lines)} lines compared", flush=True)
    print(f"test_tokenizer: {c.lines} lines, {c.ids} ids compared, {c.differences} differences (seed {SEED})")
    if c.lines < 10000:
        print("FAIL fewer than 10000 lines were compared")
    sys.exit(1 if c.differences or c.lines < 10000 else 0)


if __name__ == "__main__":
    main()
