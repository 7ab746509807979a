#!/bin/bash
# test_mutate.sh DIR: tools/mutate.py, whose trees are below DIR, fails where its faults prove nothing.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:?the folder of the trees}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
table=$root/tools/mutations.txt passed=0 failed=0

# what, status, text that must be printed, arguments; the table is in $work/table
expect() {
    local status
    "$root/tools/mutate.py" --dir "$dir" --jobs 1 --table "$work/table" "${@:4}" >"$work/log" 2>&1
    status=$?
    if [ $status = "$2" ] && grep -qF -- "$3" "$work/log"; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAIL $1: status $status"; tail -5 "$work/log"; fi
}

# ---- The table alone ----
: >"$work/table"
expect "an empty table" 1 "no fault of class nan"
sed '/^\[src\/dequant\/dequant_ref.c\]/,/^$/d' "$table" >"$work/table"
expect "a kernel file without faults" 1 "FAIL src/dequant/dequant_ref.c: no fault"
sed '/^\[src\/dequant\/dequant_ref.c\]/,/^$/s/^\*//' "$table" >"$work/table"
expect "a kernel file without a marked fault" 1 "FAIL src/dequant/dequant_ref.c: no fault marked *"
grep -v '^\*nibble:' "$table" >"$work/table"
expect "a class without faults" 1 "FAIL no fault of class nibble is marked *"
{ cat "$table"; printf '\n[src/dequant/dequant_ref.c]\nnan: no such text ==> 0\n'; } >"$work/table"
expect "a text that is not in the file" 1 "the text occurs 0 times in src/dequant/dequant_ref.c"
{ cat "$table"; printf '\n[src/dequant/dequant_ref.c]\nnan: int64_t ==> 0\n'; } >"$work/table"
expect "a text that stands there more than once" 1 "it must once: int64_t"
{ cat "$table"; printf '\n[src/dequant/gone.c]\nnan: int64_t ==> 0\n'; } >"$work/table"
expect "a file that is gone" 1 "the text occurs 0 times in src/dequant/gone.c"
{ cat "$table"; printf '\n[src/dequant/dequant_ref.c]\nwrong: a ==> b\n'; } >"$work/table"
expect "a class that there is not" 1 "with a class of"
cp "$table" "$work/table"
expect "a choice of no faults" 1 "0 passed, 0 failed" --only "no such fault"

# ---- Planted ----
{ cat "$table"; printf '\n[src/dequant/dequant_ref.c]\n'
  printf 'other: [i * a->ldy + j] = v ==> [j + i * a->ldy] = v\n'
  printf 'other: [i * a->ldy + j] = v ==> [no_such_name] = v\n'
  printf 'other: [i * a->ldy + j] = v ==> [j] = v\n'; } >"$work/table"
expect "what changes nothing" 1 "SURVIVED" --only "==> [j + i * a->ldy]"
expect "what does not compile" 1 "does not compile" --only "==> [no_such_name]"
expect "a fault" 0 "1 passed, 0 failed" --only "==> [j] = v"

echo "$passed passed, $failed failed"
[ $failed = 0 ]
