#!/bin/bash
# check_arrows.sh [TREE]: fails when an #include points sideways or up. What may include what:
#   include/octavo.h                  <stdint.h>
#   src/core                          octavo.h, core, the three .def, libc
#   src/isa/<backend>                 octavo.h (its constants and descriptors), core, isa/<backend>
#   src/<op>/<op>.c, <op>_ref.c       octavo.h, core, headers of src/<op> without a backend in their name
#   src/<op>/<op>_..._<backend>.*     the same, isa/<backend>, headers of src/<op> with that backend in their name
#   llama                             octavo.h, llama
#   cli                               octavo.h, tests/check.h, llama, cli
#   tests                             octavo.h, core, the two .def, llama, tests
#   bindings, examples, python        octavo.h, their own folder
# A backend counts as the ones that it builds on, too: avx512 takes headers of avx2.
# The library (src) moreover takes nothing from outside but libc and the compiler's intrinsics.
set -u
cd "${1:-$(dirname "$0")/..}" || exit 2
backends="avx2 avx512 amx sm90 gfx942"
libc=" assert errno fenv float inttypes limits math stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib string \
threads time xmmintrin immintrin dlfcn pthread unistd "
bad=0 seen=0

backend_of() { # file name -> $backend: ref, one of $backends, or nothing
    backend=${1##*/} backend=${backend%%.*}
    case $backend in *_*) backend=${backend##*_} ;; *) backend= ;; esac
    case " ref $backends " in *" $backend "*) ;; *) backend= ;; esac
}

allows() { # may files of backend $1 include headers of backend $2?
    [[ $1 == "$2" || "$1 $2" == "avx512 avx2" ]]
}

# Where a quoted name leads: beside the file, or below one of the include paths.
resolve() {
    local dir
    for dir in "${file%/*}" include src . tests; do
        [ -e "$dir/$name" ] || continue
        to=$dir/$name
        while [[ $to == */../* ]]; do to=$(realpath --relative-to=. "$to"); done
        to=${to#./}
        return 0
    done
    return 1
}

refuse() { echo "$file:$line: $1"; bad=$((bad + 1)); }

check_library() { # the file lies in src/
    local own_dir=${file%/*} own=${file#src/} mine theirs
    own=${own%%/*}
    if [ "$own_dir" = src ]; then refuse "${own} -> $to: the tables include nothing"; return; fi
    [[ $to == include/octavo.h || $to == src/core/* ]] && return
    if [ "$own" = core ]; then
        [[ $to == src/ops.def || $to == src/kernels.def || $to == src/cubins.def ]] || refuse "core -> ${to#src/}: core uses octavo.h, the tables and libc"
        return
    fi
    if [ "$own" = isa ]; then
        mine=${own_dir#src/isa/} mine=${mine%%/*}
        theirs=${to#src/isa/} theirs=${theirs%%/*}
        [[ $to == src/isa/* ]] && allows "$mine" "$theirs" || refuse "isa/$mine -> ${to#src/}: isa uses octavo.h, core and its own backend"
        return
    fi
    backend_of "$file"; mine=$backend
    case $to in
    src/isa/*)
        theirs=${to#src/isa/} theirs=${theirs%%/*}
        [[ -n $mine && $mine != ref ]] && allows "$mine" "$theirs" ||
            refuse "${mine:-an entry file} -> ${to#src/}: isa/<backend> is for kernels of that backend" ;;
    "$own_dir"/*)
        backend_of "$to"
        [[ -z $backend ]] || allows "$mine" "$backend" || refuse "${mine:-an entry file} -> ${to#src/}: a file of another backend" ;;
    *)  refuse "op $own -> $to: an op uses octavo.h, core, its own folder and isa/<its backend>" ;;
    esac
}

while IFS=: read -r file line text; do
    seen=$((seen + 1))
    text=${text#*include}
    if [[ $text =~ ^[[:space:]]*\<([^\>]+)\> ]]; then
        name=${BASH_REMATCH[1]}
        case $file in
        include/*) [ "$name" = stdint.h ] || refuse "octavo.h -> <$name>: the public header needs <stdint.h> alone" ;;
        src/*) [[ $libc == *" ${name%.h} "* ]] || refuse "the library -> <$name>: only libc and intrinsics" ;;
        esac
        continue
    fi
    if ! [[ $text =~ ^[[:space:]]*\"([^\"]+)\" ]]; then refuse "an #include of neither <name> nor \"name\""; continue; fi
    name=${BASH_REMATCH[1]}
    if ! resolve; then refuse "\"$name\" lies nowhere in the tree"; continue; fi
    case $file in
    include/*) refuse "octavo.h -> $to: the public header stands alone" ;;
    src/*)     check_library ;;
    llama/*)   [[ $to == include/octavo.h || $to == llama/* ]] || refuse "llama -> $to: llama uses octavo.h alone" ;;
    cli/*)     [[ $to == include/octavo.h || $to == tests/check.h || $to == llama/* || $to == cli/* ]] ||
                   refuse "cli -> $to: cli uses octavo.h, tests/check.h and llama" ;;
    tests/*)   [[ $to == include/octavo.h || $to == src/core/* || $to == src/ops.def || $to == src/kernels.def ||
                  $to == llama/* || $to == tests/* ]] || refuse "tests -> $to: tests use octavo.h, core and llama" ;;
    *)         [[ $to == include/octavo.h || $to == "${file%%/*}"/* ]] || refuse "${file%%/*} -> $to: it uses octavo.h alone" ;;
    esac
done < <(for top in include src llama cli tests bindings examples python; do
             [ -d $top ] && grep -rnE --include=*.{c,h,cu,cuh,def,inc} '^[[:space:]]*#[[:space:]]*include' $top
         done)

[ $seen -gt 0 ] || { echo "check_arrows: no #include found below $PWD"; exit 2; }
echo "check_arrows: $seen includes, $bad point the wrong way"
[ $bad = 0 ]
