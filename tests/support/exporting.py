"""What torch's exporter asks for at each export, kept."""

from functools import cache
from importlib import import_module


def keep_translations() -> None:
    """Ask onnxscript for its translations once.

    It reads the source of 500 functions for that, which is a third of what exporting a small network takes.
    """
    apis = import_module("torch.onnx._internal._lazy_import").onnxscript_apis
    apis.get_torchlib_ops = cache(apis.get_torchlib_ops)
