"""Sessions of ONNX Runtime that take any feeds, for tests of what a file computes."""

from pathlib import Path

import onnxruntime

from noisevote.noise_op.library import load_kernel


def session(path: Path, *, kernel: bool) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the native kernel, or as it comes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if kernel and (native := load_kernel()):
        native.register(options)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
