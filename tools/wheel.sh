#!/bin/bash
# wheel.sh VENV: builds the Python wheel into build-wheel/dist with the tools of that virtual environment, and prints its name.
# auditwheel gives it the manylinux tag that its C library allows, and puts in the libraries of the command line.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/$1/bin:$PATH
rm -rf build-wheel/raw build-wheel/dist
log=$(mktemp); trap 'rm -f "$log"' EXIT
pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation --no-index -w build-wheel/raw . >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
auditwheel repair -w build-wheel/dist build-wheel/raw/*.whl >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
echo build-wheel/dist/*.whl
