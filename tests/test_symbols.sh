#!/bin/bash
# test_symbols.sh LIB_DIR: octavo.h compiles alone in C11 and C++17, and liboctavo.so exports what octavo.h declares and
# src/octavo.map lists, and nothing else; it asks for libc, libm and the thread libraries only, and imports nothing
# that allocates, prints or ends the program. The torch operators ask for liboctavo and libc alone, and export one name.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
lib=${1:?the folder of liboctavo.so}/liboctavo.so
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
pass() { passed=$((passed + 1)); }
fail() { echo "FAIL $*"; failed=$((failed + 1)); }

# ---- The header alone ----
printf '#include "octavo.h"\nint main(void) { oct_quant_args a = { 0 }; return oct_dtype_bits(a.x_dtype); }\n' >"$work/h.c"
printf '#include "octavo.h"\nint main() { oct_quant_args a = {}; return oct_dtype_bits(a.x_dtype); }\n' >"$work/h.cc"
printf '#include "octavo.h"\n#include "octavo.h"\ntypedef int not_empty;\n' >"$work/twice.c"
warn="-I$root/include -pedantic -Wall -Wextra -Wundef -Wshadow -Werror"
compile() { # what, compiler and arguments; a compiler that is not installed is passed by
    local what=$1; shift
    if ! command -v "$1" >/dev/null; then echo "skip $1: not installed"; return; fi
    # shellcheck disable=SC2086
    if "$@" $warn -fsyntax-only 2>"$work/err"; then pass; else fail "$what does not compile with $*"; head -5 "$work/err"; fi
}
for cc in gcc clang clang-22; do
    compile "octavo.h" $cc -std=c11 -Wstrict-prototypes -Wmissing-prototypes "$work/h.c"
    compile "octavo.h" $cc -std=c17 "$work/h.c"
    compile "octavo.h twice" $cc -std=c11 "$work/twice.c"
done
for cxx in g++ clang++ clang++-22; do
    compile "octavo.h" $cxx -std=c++17 "$work/h.cc"
    compile "octavo.h" $cxx -std=c++20 "$work/h.cc"
done

# ---- The symbols ----
same() { # what, file, file
    if diff "$2" "$3" >"$work/diff"; then pass; else fail "$1 (< left, > right):"; cat "$work/diff"; fi
}
tr '\n' ' ' <"$root/include/octavo.h" | grep -oE 'OCT_API [^;(]*\boct_[a-z0-9_]+\(' | grep -oE 'oct_[a-z0-9_]+\($' |
    tr -d '(' | sort >"$work/header"
sed -n '/^global:/,/^local:/p' "$root/src/octavo.map" | grep -oE '\boct_[a-z0-9_]+;' | tr -d ';' | sort >"$work/map"
nm -D --defined-only "$lib" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$work/so"
[ -s "$work/header" ] || fail "no OCT_API found in octavo.h"
same "octavo.h declares (left) what octavo.map lists (right)" "$work/header" "$work/map"
same "octavo.h declares (left) what liboctavo.so exports (right)" "$work/header" "$work/so"
if grep -v '^oct_' "$work/so"; then fail "exported without the prefix oct_"; else pass; fi
if grep -oE '^#define +[A-Za-z_0-9]+' "$root/include/octavo.h" | grep -vE ' (OCT_[A-Z0-9_]+|OCTAVO_H)$'; then
    fail "macros of octavo.h without the prefix OCT_"
else pass; fi

# ---- What it asks for ----
readelf -d "$lib" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' >"$work/needed"
if grep -vE '^(libc|libm|libgomp|libpthread|ld-linux-x86-64|ld-linux-aarch64)\.so\.[0-9]+$' "$work/needed"; then
    fail "liboctavo.so asks for more than libc, libm and the thread libraries"
else pass; fi
if readelf -d "$lib" | grep -q 'SONAME.*\[liboctavo\.so\.0\]'; then pass; else fail "SONAME is not liboctavo.so.0"; fi
if readelf -d "$lib" | grep -E 'RPATH|RUNPATH'; then fail "liboctavo.so holds a search path"; else pass; fi
nm -D --undefined-only "$lib" | awk '{ sub(/@.*/, "", $2); print $2 }' >"$work/imports"
if grep -xE '(m|c|re)alloc|free|posix_memalign|aligned_alloc|mmap|v?f?printf|_*v?f?printf_chk|f?puts|putchar|fwrite|write|abort|_?exit|__assert_fail|setenv|getenv|pthread_create|signal|sigaction' "$work/imports"; then
    fail "the library imports what no op may do: allocate, print, end the program"
else pass; fi
if readelf -W -l "$lib" | grep -E 'GNU_STACK.*RWE'; then fail "executable stack"; else pass; fi

# ---- The torch operators ----
operators=${lib%/*}/liboctavo_torch.so
if [ -e "$operators" ]; then
    readelf -d "$operators" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' >"$work/needed"
    if grep -vE '^(liboctavo\.so\.0|lib(c|asan|ubsan|tsan)\.so\.[0-9]+|ld-linux-.*)$' "$work/needed"; then
        fail "liboctavo_torch.so asks for more than liboctavo and libc"
    else pass; fi
    nm -D --defined-only "$operators" | awk '$2 != "A" { print $3 }' >"$work/so"
    if [ "$(cat "$work/so")" = octavo_torch_register ]; then pass; else fail "liboctavo_torch.so exports:"; cat "$work/so"; fi
    if nm -D "$operators" | grep ' _Z'; then fail "liboctavo_torch.so uses C++"; else pass; fi
fi

echo "$passed passed, $failed failed"
[ $failed = 0 ]
