#!/bin/bash
# test_install.sh BUILD_DIR: installs into an empty prefix, then builds a small program against it in every way that
# docs promise (pkg-config with the shared and the static library, find_package) and runs each.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:?the build folder}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
pass() { passed=$((passed + 1)); }
fail() { echo "FAIL $*"; [ -s "$work/log" ] && tail -15 "$work/log"; failed=$((failed + 1)); }
try() { # what, command
    if "${@:2}" >"$work/log" 2>&1; then pass; else fail "$1"; fi
}

prefix=$work/prefix
try "cmake --install" cmake --install "$build" --prefix "$prefix"
lib=$(dirname "$(find "$prefix" -name liboctavo.so)")
for file in include/octavo.h "${lib#"$prefix"/}"/{liboctavo.so.0,liboctavo.a,pkgconfig/octavo.pc,cmake/octavo/octavoConfig.cmake}; do
    if [ -e "$prefix/$file" ]; then pass; else fail "$file is not installed"; fi
done
if grep -rIl "$root\|$build" "$prefix" >"$work/log"; then fail "installed files name the source or build folder"; else pass; fi
: >"$work/log"

# A prefix may be moved: nothing in it may know where it was.
mv "$prefix" "$work/moved" && prefix=$work/moved && lib=${lib/prefix/moved}
export PKG_CONFIG_PATH=$lib/pkgconfig
cp "$root/examples/quantize_and_multiply.c" "$work/app.c"
version=$(sed -n 's/^project(octavo VERSION \([0-9.]*\).*/\1/p' "$root/CMakeLists.txt")
if [ "$(pkg-config --modversion octavo)" = "$version" ]; then pass; else fail "pkg-config names another version than $version"; fi

# shellcheck disable=SC2046
try "compiling by pkg-config" cc -std=c11 "$work/app.c" $(pkg-config --cflags --libs octavo) -lm -o "$work/shared"
try "running with the shared library" env LD_LIBRARY_PATH="$lib" "$work/shared"
if LD_LIBRARY_PATH=$lib ldd "$work/shared" | grep -q "liboctavo.so.0 => $lib"; then pass; else fail "the program does not use liboctavo.so.0 of the prefix"; fi

mkdir "$work/static_lib" && cp "$lib/liboctavo.a" "$work/static_lib"
# shellcheck disable=SC2046
try "compiling with the static library" cc -std=c11 "$work/app.c" $(pkg-config --cflags octavo) -L"$work/static_lib" \
    $(pkg-config --static --libs octavo | sed "s|-L[^ ]*||") -lm -o "$work/static"
try "running with the static library" "$work/static"
if ldd "$work/static" | grep liboctavo; then fail "the static program asks for liboctavo.so"; else pass; fi

mkdir "$work/project"
cat >"$work/project/CMakeLists.txt" <<CMAKE
cmake_minimum_required(VERSION 3.20)
project(app C)
find_package(octavo ${version%.*} REQUIRED)
foreach(kind octavo octavo_static)
  add_executable(app_\${kind} ../app.c)
  target_link_libraries(app_\${kind} PRIVATE octavo::\${kind} m)
endforeach()
CMAKE
try "configuring with find_package" cmake -S "$work/project" -B "$work/project/build" -DCMAKE_PREFIX_PATH="$prefix"
try "building with find_package" cmake --build "$work/project/build"
for kind in octavo octavo_static; do try "running what links octavo::$kind" "$work/project/build/app_$kind"; done

if [ -x "$prefix/bin/octavo" ]; then try "running the installed program" "$prefix/bin/octavo" info; fi

echo "$passed passed, $failed failed"
[ $failed = 0 ]
