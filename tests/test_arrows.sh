#!/bin/bash
# test_arrows.sh: the tree keeps its include rules, and tools/check_arrows.sh refuses one wrong arrow of each kind,
# each planted alone in a copy of the tree.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
passed=0 failed=0
pass() { passed=$((passed + 1)); }
fail() { echo "FAIL $*"; failed=$((failed + 1)); }

if out=$("$root/tools/check_arrows.sh" "$root"); then pass; else fail "the tree itself:"; echo "$out"; fi

for top in include src llama cli tests bindings examples python; do
    [ -d "$root/$top" ] && cp -r "$root/$top" "$copy/"
done
mkdir -p "$copy"/src/{alpha,beta,isa/avx2,isa/avx512,isa/sm90} "$copy"/{bindings/torch,examples,llama,cli}
cd "$copy" || exit 2
# Two small ops and a second backend, so that every arrow has both ends, whatever ops the tree has.
for op in alpha beta; do
    echo '#include "octavo.h"' | tee src/$op/$op.c src/$op/${op}_ref.c src/$op/${op}_avx2.c src/$op/${op}_dot_sm90.cu >src/$op/$op.h
    cp src/$op/$op.h src/$op/${op}_avx2.h
    cp src/$op/$op.h src/$op/${op}_avx512.c
done
touch src/isa/sm90/tile.h src/isa/avx2/own.h examples/a.c bindings/torch/b.c llama/plain.h cli/plain.h

plant() { # file, line to append, what the refusal must say
    cp "$1" keep
    echo "$2" >>"$1"
    if out=$("$root/tools/check_arrows.sh" .); then fail "$1: $2 was let through"
    elif [[ $out != *"$1:"*"$3"* ]]; then fail "$1: $2 was refused, but not with '$3':"; echo "$out"
    elif [[ $out != *", 1 point the wrong way" ]]; then fail "$1: $2 was not the only one refused:"; echo "$out"
    else pass; fi
    mv keep "$1"
}
allow() { # file, line to append
    cp "$1" keep
    echo "$2" >>"$1"
    if out=$("$root/tools/check_arrows.sh" .); then pass; else fail "$1: $2 was refused:"; echo "$out"; fi
    mv keep "$1"
}

plant include/octavo.h        '#include <stddef.h>'                "stdint.h> alone"
plant include/octavo.h        '#include "extra.h"'                 "lies nowhere"
plant include/octavo.h        '#include "core/core.h"'             "stands alone"
plant src/core/core.h         '#include "alpha/alpha.h"'           "core -> alpha/alpha.h"
plant src/core/run.c          '#include "isa/avx2/num.h"'          "core -> isa/avx2/num.h"
plant src/core/run.c          '#include "../../llama/plain.h"'     "core -> llama/plain.h"
plant src/core/cpu.c          '#include <omp.h>'                   "only libc"
plant src/core/cpu.c          '# include	OTHER_HEADER'          "neither <name>"
plant src/isa/avx2/num.h      '#include "kernels.def"'             "isa/avx2 -> kernels.def"
plant src/isa/avx2/num.h      '#include "isa/sm90/tile.h"'         "isa/avx2 -> isa/sm90/tile.h"
plant src/isa/avx2/num.h      '#include "alpha/alpha_avx2.h"'      "isa/avx2 -> alpha"
plant src/alpha/alpha.c       '#include "beta/beta.h"'             "op alpha -> src/beta/beta.h"
plant src/alpha/alpha.c       '#include "../beta/beta.h"'          "op alpha -> src/beta/beta.h"
plant src/alpha/alpha.c       '#include "isa/avx2/num.h"'          "an entry file -> isa/avx2/num.h"
plant src/alpha/alpha.c       '#include "alpha_avx2.h"'            "another backend"
plant src/alpha/alpha.h       '#include "isa/avx2/num.h"'          "an entry file -> isa/avx2/num.h"
plant src/alpha/alpha_ref.c   '#include "isa/avx2/num.h"'          "ref -> isa/avx2/num.h"
plant src/alpha/alpha_ref.c   '#include "beta/beta_ref.c"'         "op alpha -> src/beta/beta_ref.c"
plant src/alpha/alpha_avx2.c  '#include "isa/sm90/tile.h"'         "avx2 -> isa/sm90/tile.h"
plant src/alpha/alpha_avx2.c  '#include "isa/avx512/tile.h"'       "avx2 -> isa/avx512/tile.h"
plant src/isa/avx2/num.h      '#include "isa/avx512/tile.h"'       "isa/avx2 -> isa/avx512/tile.h"
plant src/alpha/alpha_avx2.c  '#include "beta/beta_avx2.h"'        "op alpha -> src/beta/beta_avx2.h"
plant src/alpha/alpha_avx2.c  '#include "tests/check.h"'           "op alpha -> tests/check.h"
plant src/alpha/alpha_avx2.c  '#include <cblas.h>'                 "only libc"
plant src/alpha/alpha_dot_sm90.cu '#include "alpha_avx2.h"'        "another backend"
plant src/alpha/alpha_dot_sm90.cu '#include "isa/avx2/num.h"'      "sm90 -> isa/avx2/num.h"
plant src/kernels.def         '#include "alpha/alpha.h"'           "the tables include nothing"
plant llama/plain.h           '#include "core/core.h"'             "llama -> src/core/core.h"
plant llama/plain.h           '#include "tests/check.h"'           "llama -> tests/check.h"
plant llama/plain.h           '#include "cli/plain.h"'             "llama -> cli/plain.h"
plant cli/plain.h             '#include "core/kernel.h"'           "cli -> src/core/kernel.h"
plant cli/plain.h             '#include "tests/check_case.h"'      "cli -> tests/check_case.h"
plant tests/check.c           '#include "isa/avx2/num.h"'          "tests -> src/isa/avx2/num.h"
plant tests/check.c           '#include "alpha/alpha.h"'           "tests -> src/alpha/alpha.h"
plant tests/check.c           '#include "cli/plain.h"'             "tests -> cli/plain.h"
plant examples/a.c            '#include "core/core.h"'             "examples -> src/core/core.h"
plant examples/a.c            '#include "llama/plain.h"'           "examples -> llama/plain.h"
plant bindings/torch/b.c      '#include "core/kernel.h"'           "bindings -> src/core/kernel.h"

allow src/alpha/alpha.c       '#include "alpha.h"'
allow src/alpha/alpha_avx2.c  '#include "alpha_avx2.h"'
allow src/alpha/alpha_avx2.c  '#include "isa/avx2/own.h"'
allow src/isa/avx512/tile.h   '#include "isa/avx2/own.h"'
allow src/alpha/alpha_avx512.c '#include "alpha_avx2.h"'
allow src/isa/avx2/own.h      '#include "core/num/f8.h"'
allow cli/plain.h             '#include "tests/check.h"'
allow llama/plain.h           '#include <cjson/cJSON.h>'
allow examples/a.c            '#include "octavo.h"'

echo "$passed passed, $failed failed"
[ $failed = 0 ]
