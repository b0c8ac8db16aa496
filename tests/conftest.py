import os

from hypothesis import settings

# CI judges a change by the same examples every time; elsewhere each run looks for new ones.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")

# As in service/__init__.py; tests of the operator import ONNX Runtime without the service.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
