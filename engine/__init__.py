"""A published file as a session: rows in, logits out, on the native kernel or the function body."""

import os

# ONNX Runtime's own builds report their use to its maker over the network, and keep a device id in the home folder,
# unless this is set before they are first imported (Privacy.md in the package). Whoever wants that can set it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
