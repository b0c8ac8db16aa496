"""The sessions of everything that is served, by name.

A run uses one thread, and several runs may be under way at once, each on whole rows of its own. So
no operator is ever cut between threads, which is both faster here (no waiting for one another after
every operator; each thread's batch stays in its own cache) and what makes results independent of the
number of threads.
"""

from hashlib import sha256
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from noisevote.engine.errors import BadModelError
from noisevote.engine.feeds import Feeds
from noisevote.engine.free_memory import give_back
from noisevote.engine.input_noise import refuse_other_noise
from noisevote.engine.session import Session, describe, open_session, open_tried
from noisevote.engine.session_key import SessionKey
from noisevote.engine.trial import Expectation, TrialLimits
from noisevote.engine.trial_process import TrialProcess
from noisevote.engine.trial_runs import warm_up
from noisevote.model_store.manifest import Manifest
from noisevote.noise_op.library import Kernel

# Radii are proven for normal noise; version 2 is near it, and ends at 4.3 standard deviations.
CERTIFYING_VERSION: Final = 1


class OnnxEngine:
    """Sessions of ONNX Runtime on the CPU; with `kernel` None noise is computed by the function body.

    `ahead` was started for the first files that are tried within its limits; `tidy` ends it if there were none.
    """

    def __init__(self, kernel: Kernel | None, ahead: TrialProcess | None = None) -> None:
        self._kernel = kernel
        self._ahead = ahead
        self._sessions: dict[SessionKey, Session] = {}
        self._latest: tuple[Session, Expectation] | None = None

    @property
    def description(self) -> str:
        """Which implementation of the operator runs."""
        return describe(self._kernel)

    @property
    def build(self) -> str:
        """The version of ONNX Runtime, and the kernel's bytes and instruction set."""
        kernel = "" if self._kernel is None else sha256(self._kernel.path.read_bytes()).hexdigest()
        return f"{onnxruntime.__version__} {self.description} {kernel}"

    def load(self, key: SessionKey, manifest: Manifest, content: bytes, *, tried: bool = False) -> None:
        """Make a session of an ONNX file, after all checks and runs unless it was `tried`.

        See `open_session` and `refuse_other_noise` for errors.
        """
        variant = manifest.variant(key.variant)
        expectation = Expectation.of(manifest, variant)
        if tried:
            session = open_tried(content, self._kernel, rows_per_run=expectation.rows_per_run)
            warm_up(session, expectation)
        else:
            session = open_session(content, expectation, self._kernel)
        if variant is not None and variant.certifies is not None:
            if (version := manifest.operator_version(variant)) != CERTIFYING_VERSION:
                raise BadModelError(
                    f"certifies: {variant.certifies}, but it draws with operator version {version}; "
                    f"version {CERTIFYING_VERSION} alone certifies"
                )
            refuse_other_noise(session, manifest.input, variant.certifies)
        self._sessions[key] = session
        self._latest = session, expectation
        give_back()

    def trial(self, limits: TrialLimits) -> TrialProcess:
        """A process that loads and runs files first, so that none that hangs or crashes does so here."""
        if self._ahead is None or self._ahead.limits != limits:
            return TrialProcess(self._kernel, limits)
        ahead, self._ahead = self._ahead, None
        return ahead

    def tidy(self) -> None:
        """Let the arena of all sessions give back what the largest batches took that were timed; lanes take it anew."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        if self._latest is not None:
            session, expectation = self._latest
            self._latest = None
            warm_up(session.shrinking(), expectation)
        give_back()

    def unload(self, key: SessionKey) -> None:
        """Let go of a session; its memory is free once runs under way have ended."""
        if self._sessions.pop(key, None) is not None:
            give_back()

    def run(self, key: SessionKey, feeds: Feeds) -> NDArray[np.float32]:
        """Logits float32 [rows, classes]; a row depends on nothing but itself and its input."""
        return self._sessions[key].run(feeds)
