#!/bin/bash
# fuzz.sh SECONDS [TARGET...]: builds the libFuzzer targets (clang, ASan, UBSan) and runs each from its seeds, for SECONDS in
# all. What they find to be new is kept in build-fuzz/corpus, so that later runs go on from there. A crash fails and leaves
# its input in build-fuzz/crashes; run build-fuzz/fuzz_<target> on that file to see it again.
set -u
cd "$(dirname "$0")/.." || exit 2
seconds=${1:?usage: tools/fuzz.sh SECONDS [TARGET...]}
shift
build=build-fuzz

# A clang whose package of runtimes is there, too.
cc=
for c in ${FUZZ_CC:-} clang-22 clang-21 clang-20 clang-19 clang; do
    command -v "$c" >/dev/null || continue
    echo 'int LLVMFuzzerTestOneInput(const char *p, long n); int LLVMFuzzerTestOneInput(const char *p, long n) { return !p && n; }' |
        "$c" -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null && cc=$c && break
done
[ -n "$cc" ] || { echo "fuzz: no clang with libFuzzer; apt-get install clang-22 libclang-rt-22-dev"; exit 1; }

grep -q "CMAKE_C_COMPILER:.*[/=]$cc$" $build/CMakeCache.txt 2>/dev/null || rm -rf $build/CMakeCache.txt $build/CMakeFiles
mkdir -p $build/crashes
{ cmake --preset fuzz -DCMAKE_C_COMPILER="$cc" && cmake --build $build --target fuzz; } >$build/build.log 2>&1 ||
    { tail -20 $build/build.log; echo "fuzz: the build failed"; exit 1; }

targets=("$@")
[ ${#targets[@]} -gt 0 ] || for f in "$build"/fuzz_*; do [ -x "$f" ] && targets+=("${f##*/fuzz_}"); done
jobs=2
each=$((seconds * jobs / ${#targets[@]}))
[ $each -gt 0 ] || each=1
echo "fuzz: $cc, ${#targets[@]} targets, $each s each, $jobs at a time"

fuzz_one() { # target; its verdict goes to build-fuzz/<target>.verdict
    local t=$1 dict=() log=$build/$1.log verdict=$build/$1.verdict status
    mkdir -p $build/corpus/"$t"
    [ "$t" = args ] || dict=(-dict=tests/fuzz/json.dict)
    timeout $((each + 300)) $build/fuzz_"$t" -max_total_time=$each -timeout=20 -rss_limit_mb=3000 -len_control=20 -print_final_stats=1 \
        -max_len=$([ "$t" = args ] && echo 400 || echo 4096) -artifact_prefix=$build/crashes/"$t"- "${dict[@]}" \
        $build/corpus/"$t" tests/fuzz/seeds/"$t" >"$log" 2>&1
    status=$?
    if [ $status = 0 ]; then
        echo "ok   fuzz_$t: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs" >"$verdict"
    else
        { echo "FAIL fuzz_$t: status $status"
          grep -aE 'ERROR: |runtime error|Assertion' "$log" | head -3
          grep -aE '^ *#[0-9]+ .*/(src|llama|tests)/' "$log" | head -5
          sed -n 's/.*Test unit written to /its input: /p' "$log"
          echo "the log: $log"; } >"$verdict"
    fi
}

passed=0 failed=0
for ((i = 0; i < ${#targets[@]}; i += jobs)); do
    for t in "${targets[@]:i:jobs}"; do fuzz_one "$t" & done
    wait
    for t in "${targets[@]:i:jobs}"; do
        cat "$build/$t.verdict"
        if grep -q '^ok' "$build/$t.verdict"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    done
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
