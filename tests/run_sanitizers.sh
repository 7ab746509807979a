#!/bin/bash
# run_sanitizers.sh asan|tsan: builds the tree under AddressSanitizer and UndefinedBehaviorSanitizer, or under
# ThreadSanitizer, and runs the harness, the interface, the references and the readers in it. The harness spreads kernels
# over a pool of POSIX threads, and test_api calls every op from several threads at once: libgomp would give false reports.
set -u
cd "$(dirname "$0")/.." || exit 2
kind=${1:?asan or tsan}
build=build-$kind
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

mkdir -p $build
{ cmake --preset "$kind" && cmake --build $build; } >$build/build.log 2>&1 ||
    { grep -E 'error|FAILED' $build/build.log | head; echo "$kind: the build failed, see $build/build.log"; exit 1; }

# Kernel randomisation beyond what ThreadSanitizer expects makes it refuse to start.
run=()
[ "$kind" = tsan ] && command -v setarch >/dev/null && run=(setarch -R)

passed=0 failed=0
try() { # program and arguments
    local log=$build/${1##*/}.log start=$SECONDS
    if "${run[@]}" "$build/$1" "${@:2}" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "ok   $kind: $* ($((SECONDS - start)) s; $(tail -1 "$log"))"
    else
        failed=$((failed + 1))
        echo "FAIL $kind: $*"
        grep -aE 'FAIL|ERROR: |WARNING: |runtime error|^ *#[0-9]+ .*/(src|llama|tests)/' "$log" | head -20
    fi
}

try check --quick --seed 1
try test_api
for test in "$build"/test_readers* "$build"/test_pool; do
    [ -x "$test" ] && try "${test##*/}"
done
if [ "$kind" = asan ]; then
    for test in "$build"/golden_*; do
        [ -x "$test" ] && try "${test##*/}" tests/golden
    done
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
