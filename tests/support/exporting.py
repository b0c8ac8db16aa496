"""What torch's exporter finds out anew at each export, kept."""

from functools import cache
from importlib import import_module


def keep_translations() -> None:
    """Ask onnxscript for its translations once, and torch for what it knows of them and of its operators.

    For the first it reads the source of 500 functions, then it reads their annotations, and for each of 50 libraries of
    operators it looks through all of them. Kept too, these two make 0.67 s of the 0.93 that an export took.
    """
    apis = import_module("torch.onnx._internal._lazy_import").onnxscript_apis
    apis.get_torchlib_ops = cache(apis.get_torchlib_ops)
    for module, name in (
        ("torch.onnx._internal.exporter._schemas", "op_signature_from_function"),
        ("torch._export.utils", "_materialize_cpp_cia_ops"),
    ):
        found = import_module(module)
        setattr(found, name, cache(getattr(found, name)))
