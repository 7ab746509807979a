"""`import octavo.fbgemm` makes `import fbgemm_gpu.experimental.gen_ai` work, by octavo's operators, where FBGEMM GenAI is not
installed. The stand-in is the last finder that Python asks, so a real package always comes first. It imports no torch until the
stand-in module itself is imported, and so costs nothing in a .pth file (which octavo-fbgemm, the extra `octavo[fbgemm]`, has)."""
import importlib.abc
import importlib.machinery
import sys

_operators = "fbgemm_gpu.experimental.gen_ai"
_triton = "fbgemm_gpu.experimental.gemm.triton_gemm.fp8_gemm"
_names = {name.rsplit(".", n)[0] for name in (_operators, _triton) for n in range(name.count(".") + 1)}


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, origin="octavo", is_package=True) if name in _names else None

    def find_distributions(self, context):
        """Transformers 4 believes only in packages that have a version."""
        if (context.name or "").lower().replace("-", "_") != "fbgemm_gpu":
            return []
        import importlib.metadata

        class Distribution(importlib.metadata.Distribution):
            def read_text(self, filename):
                return "Metadata-Version: 2.1\nName: fbgemm-gpu\nVersion: 0+octavo\n" if filename == "METADATA" else None

            def locate_file(self, path):
                return path

        return [Distribution()]

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.__version__ = "0+octavo"
        if module.__name__ == _operators:
            import octavo.torch

            octavo.torch.register("fbgemm")
        elif module.__name__ == _triton:
            import octavo.torch

            for name in octavo.torch.triton_functions:
                setattr(module, name, getattr(octavo.torch, name))


def installed():
    """Whether a real FBGEMM GenAI can be imported (nothing is imported to find out)."""
    import os

    for finder in sys.meta_path:
        spec = None if isinstance(finder, _StandIn) else getattr(finder, "find_spec", lambda *_: None)("fbgemm_gpu", None)
        if spec is not None:
            folders = spec.submodule_search_locations or []
            return any(os.path.isdir(os.path.join(folder, "experimental", "gen_ai")) for folder in folders)
    return False


def enable_transformers_on_any_device():
    """Transformers refuses fbgemm_fp8 without a GPU of compute capability 9 or later: takes that refusal out of this process."""
    from transformers.quantizers import auto

    class Quantizer(auto.AUTO_QUANTIZER_MAPPING["fbgemm_fp8"]):
        def validate_environment(self, *args, **kwargs):
            import accelerate  # noqa: F401  what remains of the check

    auto.AUTO_QUANTIZER_MAPPING["fbgemm_fp8"] = Quantizer


if not any(type(finder).__name__ == "_StandIn" and type(finder).__module__ == __name__ for finder in sys.meta_path):
    sys.meta_path.append(_StandIn())
