# The front door. CMake builds everything; this fetches what a fresh Debian 12 lacks and runs it.
#
#   make demo       the main job: a checkpoint quantized to FP8 and generating text, on the CPU
#   make test       every test; closes with "N passed, N failed"
#   make            the library and the command line, in build/
#   make install    into PREFIX (default /usr/local)
#   make test-hf    the decoder beside transformers (fetches torch)
#   make test-torch the Python wheel and its torch operators (fetches torch)
#   make wheel      the Python wheel, in build-wheel/dist/
#   make test-long  all 2^32 inputs of the conversions, every planted fault, long fuzzing
#   make bench      kernels against this machine's limits
#   make peers      whole models beside llama.cpp (builds it)
#   make format     clang-format over the lines changed since the last commit
.PHONY: all build checkpoint deps demo test test-hf test-torch wheel test-long bench peers install format clean
PREFIX ?= /usr/local
DEMO_TOKENS ?= 8192
THREADS ?= 0
PYTHON = .deps/venv/bin/python
CHECKPOINT = .deps/SmolLM2-135M-Instruct

all: build

deps:
	@tools/deps.sh build

build: deps
	@[ -f build/build.ninja ] || cmake --preset release > build.log || { cat build.log; exit 1; }; rm -f build.log
	@cmake --build build

demo: build
	@tools/deps.sh demo
	@$(PYTHON) tools/make_checkpoint.py --output $(CHECKPOINT)
	@$(PYTHON) tools/eval_text.py .deps/r-cran-janeaustenr.deb .deps/eval.txt
	@$(PYTHON) tools/demo.py --octavo build/octavo --model $(CHECKPOINT) --text .deps/eval.txt --tokens $(DEMO_TOKENS) --threads $(THREADS)

checkpoint: build
	@tools/deps.sh demo
	@$(PYTHON) tools/make_checkpoint.py --output $(CHECKPOINT)
	@$(PYTHON) tools/eval_text.py .deps/r-cran-janeaustenr.deb .deps/eval.txt

test: checkpoint
	@tools/deps.sh dev test
	@tools/test.sh

test-hf: checkpoint
	@tools/deps.sh hf
	@.deps/venv-hf/bin/python tests/hf/test_hf.py build/octavo $(CHECKPOINT)

wheel:
	@tools/deps.sh build torch
	@tools/wheel.sh .deps/venv-torch

test-torch: checkpoint
	@tools/deps.sh torch
	@wheel=$$(tools/wheel.sh .deps/venv-torch) && .deps/venv-torch/bin/pip install -q --disable-pip-version-check --no-index --no-deps --force-reinstall $$wheel
	@.deps/venv-torch/bin/python -m pytest -q tests/py/torch

test-long: build
	@tools/deps.sh dev test
	@build/test_exhaustive --long
	@tools/mutate.py --all
	@tools/fuzz.sh 1800

bench: build
	@build/octavo bench --csv build/bench.csv --svg build/bench.svg

peers: checkpoint
	@bench/peers/run.sh

install: build
	@cmake --install build --prefix $(PREFIX)

format: deps
	@tools/deps.sh dev
	@git clang-format-22 --extensions c,h,cu,cuh || true # it fails when it changed something

clean:
	rm -rf build build-*
