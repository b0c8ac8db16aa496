"""The engine that serves, for tests in whose process a file that passed its trial once needs no other one.

Starting the process that tries files is most of what serving a small network from a test would take.
"""

from hashlib import sha256
from typing import Final

from noisevote.engine.footprint import Footprint
from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.engine.trial import Expectation, TrialLimits
from noisevote.engine.trial_process import TrialProcess
from noisevote.noise_op.library import Kernel

# What each trial found that was passed, by all that it depends on.
_FOUND: Final[dict[tuple[object, ...], Footprint | None]] = {}


class OnceTriedEngine(OnnxEngine):
    """Loads, times and runs like any other."""

    def __init__(self, kernel: Kernel | None) -> None:
        super().__init__(kernel)
        self._with = kernel

    def trial(self, limits: TrialLimits) -> TrialProcess:
        """The process that tries files; it starts with the first that has not passed before."""
        return _OnceTrial(self._with, limits)


class _OnceTrial(TrialProcess):
    def __init__(self, kernel: Kernel | None, limits: TrialLimits) -> None:
        super().__init__(kernel, limits)
        self._about = (kernel is None, limits)

    def check(self, expectation: Expectation, content: bytes, *, weigh: bool = False) -> Footprint | None:
        asked = (*self._about, expectation, sha256(content).digest(), weigh)
        if asked not in _FOUND:
            _FOUND[asked] = super().check(expectation, content, weigh=weigh)
        return _FOUND[asked]
