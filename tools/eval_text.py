#!/usr/bin/env python3
"""Writes the text that perplexity is measured on: the opening chapters of Jane Austen's Persuasion.

It comes from the Debian package r-cran-janeaustenr (public domain, Project Gutenberg's text): a long, natural and clean
English text in a package of 1.6 MB whose content is fixed by the Debian release. The package keeps each book as a
compressed R vector of lines; nothing of R is needed to read that. Lines are joined into paragraphs with single spaces; headings are kept.

Example: tools/eval_text.py .deps/r-cran-janeaustenr.deb .deps/eval.txt
"""
import argparse
import hashlib
import io
import os
import struct
import subprocess
import sys
import tarfile
import zlib

MEMBER = "./usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
TITLE = "PERSUASION"
CHAPTERS = 10
SHA256 = "1bba92cec0d847ee1aaa410ae706dc32bfc4b46043e12627aae327bf5d79627f"


def books(rdb):
    """Yields each book as a list of lines. The file is a sequence of (uncompressed size: 4 bytes, zlib stream)."""
    while rdb:
        stream = zlib.decompressobj()
        data = stream.decompress(rdb[4:])
        yield character_vector(data)
        rdb = stream.unused_data


def character_vector(data):
    """The strings of an R character vector in R's serialization, version 3, big endian ("X")."""
    if data[:2] != b"X\n" or data[2:6] != b"\0\0\0\3":
        raise ValueError("not an R vector in serialization version 3")
    (encoding,) = struct.unpack_from(">I", data, 14)  # length of the encoding's name, after three version words
    at = 18 + encoding
    kind, count = struct.unpack_from(">II", data, at)
    if kind & 0xFF != 16:
        raise ValueError(f"R type {kind & 0xFF} where 16, a character vector, was expected")
    at += 8
    lines = []
    for _ in range(count):
        _, size = struct.unpack_from(">II", data, at)  # flags, bytes
        lines.append(data[at + 8 : at + 8 + size].decode("utf-8"))
        at += 8 + size
    return lines


def paragraphs(lines):
    """Joins the lines between empty ones."""
    block = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(" ".join(line.split()))
        elif block:
            yield " ".join(block)
            block = []


def text_of(archive):
    tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as files:
        rdb = files.extractfile(MEMBER).read()
    lines = next(book for book in books(rdb) if book[0].upper() == TITLE)
    out, chapter = [], 0
    for paragraph in paragraphs(lines):
        if paragraph.startswith("Chapter "):
            chapter += 1
        if chapter > CHAPTERS:
            break
        out.append(paragraph)
    return ("\n\n".join(out) + "\n").encode("utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", help="the .deb of r-cran-janeaustenr")
    parser.add_argument("output", help="text file to write")
    args = parser.parse_args()
    if os.path.exists(args.output) and digest(open(args.output, "rb").read()) == SHA256:
        return
    text = text_of(args.archive)
    if digest(text) != SHA256:
        sys.exit(f"eval_text: {args.archive} holds another text than the recorded one: sha256 {digest(text)}")
    temporary = args.output + ".tmp"
    with open(temporary, "wb") as file:
        file.write(text)
    os.replace(temporary, args.output)
    print(f"eval_text: {args.output}: {len(text)} bytes, {CHAPTERS} chapters of Persuasion")


def digest(data):
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()
