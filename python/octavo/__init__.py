"""octavo: kernels of low-precision inference. `import octavo.torch` adds the torch operators, `octavo.fbgemm` stands in for
fbgemm_gpu; this module needs neither: it says what the C library finds here, and where it lies."""
import os
import sys

__all__ = ["get_include", "get_library", "info", "main", "version"]
_here = os.path.dirname(os.path.abspath(__file__))


def get_include():
    """The folder of octavo.h."""
    return os.path.join(_here, "include")


def get_library():
    """The shared library; link with `cc app.c -I$INCLUDE $LIBRARY`. It brings no threads of its own: pass on.parallel_for."""
    return os.path.join(_here, "lib", "liboctavo.so.0")


def _load():
    import ctypes

    return ctypes.CDLL(get_library())


def version():
    import ctypes

    library = _load()
    library.oct_version.restype = ctypes.c_char_p
    return library.oct_version().decode()


def info():
    """What the library has for this machine: CPU features, CUDA device 0, the kernels and whether each runs here."""
    import ctypes as c

    class Cuda(c.Structure):
        _fields_ = [("name", c.c_char * 96), ("built_in", c.c_int32), ("runs_here", c.c_int32), ("driver", c.c_int32),
                    ("major", c.c_int32), ("minor", c.c_int32), ("sms", c.c_int32), ("memory", c.c_int64),
                    ("l2_bytes", c.c_int64), ("reserved", c.c_int64 * 4)]

    class Kernel(c.Structure):
        _fields_ = [("op", c.c_char_p), ("name", c.c_char_p), ("backend", c.c_char_p), ("needs", c.c_char_p),
                    ("runs_here", c.c_int32), ("reserved", c.c_int32)]

    library = _load()
    library.oct_cpu_features.restype = c.c_uint32
    library.oct_error_text.restype = c.c_char_p
    features, cuda, kernels = library.oct_cpu_features(), Cuda(), []
    why = None if library.oct_cuda_info(0, c.byref(cuda)) == 0 else library.oct_error_text().decode()
    for i in range(library.oct_kernel_count()):
        row = Kernel()
        library.oct_kernel_info(i, c.byref(row))
        kernels.append({"op": row.op.decode(), "name": row.name.decode(), "needs": row.needs.decode(), "runs_here": bool(row.runs_here)})
    names = {1: "avx2", 2: "avx512", 4: "avx512_bf16", 8: "avx512_vbmi", 16: "amx_bf16"}
    return {"version": version(), "cpu": [name for bit, name in names.items() if features & bit],
            "cuda": {"name": cuda.name.decode(), "built_in": bool(cuda.built_in), "runs_here": bool(cuda.runs_here), "why_not": why},
            "kernels": kernels}


def main():
    """The command line: the program in the package takes this one's place."""
    program = os.path.join(_here, "bin", "octavo")
    if not os.path.exists(program):
        sys.exit("octavo: this installation has no command line: libcjson and libpcre2-8 were missing when it was built")
    os.execv(program, [program] + sys.argv[1:])
