#!/bin/bash
# test_cubin.sh NVCC: cmake/cubin.cmake compiles a plain kernel, and refuses one of each kind that would be slow in silence.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

compile() { # name, what the refusal must say ("" for none); the source comes from stdin
    cat >"$work/$1.cu"
    out=$(cmake -D NVCC="$NVCC" -D SOURCE="$work/$1.cu" -D CUBIN="$work/$1.cubin" -D INCLUDE="$work" -P "$root/cmake/cubin.cmake" 2>&1)
    local status=$?
    if [ -z "$2" ] && [ $status = 0 ] && [ -s "$work/$1.cubin" ]; then passed=$((passed + 1))
    elif [ -n "$2" ] && [ $status != 0 ] && [ ! -e "$work/$1.cubin" ] && [[ $out == *$2* ]]; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAIL $1: status $status, expected '$2' in: $out"; fi
}

NVCC=$1
compile plain "" <<<'extern "C" __global__ void f(float *p) { p[threadIdx.x] *= 2; }'
compile warning "never referenced" <<<'extern "C" __global__ void f(float *p) { int unused; p[threadIdx.x] *= 2; }'
compile stack "bytes stack frame" <<'E2'
extern "C" __global__ void f(float *p, int n) { float a[64]; for (int i = 0; i < 64; i++) a[i] = p[i]; for (int i = 0; i < n; i++) p[i] = a[(i * n) & 63]; }
E2
compile spill "spill stores" <<'E2'
extern "C" __global__ void __launch_bounds__(1024, 2) f(float *p)
{
    float a[64];
#pragma unroll
    for (int i = 0; i < 64; i++) a[i] = p[i * 4096 + threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 64; i++) p[i * 4096 + threadIdx.x] = a[i] * a[63 - i];
}
E2
compile setmaxnreg "C75" <<'E2'
extern "C" __global__ void f(float *p) { asm volatile("setmaxnreg.inc.sync.aligned.u32 240;"); p[threadIdx.x] *= 2; }
E2
compile syntax "error" <<<'extern "C" __global__ void f(float *p) { p[threadIdx.x] *= ; }'
echo "$passed passed, $failed failed"
[ $failed = 0 ]
