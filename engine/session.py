"""ONNX Runtime: one session per variant, on the native kernel or on the function body inside the file.

A run uses one thread, and several runs may be under way at once, each on whole rows of its own. So
no operator is ever cut between threads, which is both faster here (no waiting for one another after
every operator; each thread's batch stays in its own cache) and what makes results independent of the
number of threads.
"""

from typing import Any, Final, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from noisevote.model_store.manifest import Manifest
from noisevote.noise_op.contract import DOMAIN, OP_VERSION
from noisevote.noise_op.library import Kernel
from noisevote.service.scheduling.batch import Feeds, SessionKey

INPUT_TYPES: Final = {
    "input": "tensor(float)",
    "sigma": "tensor(float)",
    "seed": "tensor(int64)",
    "vote": "tensor(int64)",
    "row": "tensor(int64)",
}
OUTPUT: Final = "logits"

# The standard operators of the function body work on 4 elements at a time and on what is left over
# one by one, with other rounding. In batches of 4, 8, 12 ... rows nothing is left over, so that a
# row's bits do not depend on the size of its batch. The kernel needs no such care.
FUNCTION_BODY_ROWS: Final = 4


class BadModelError(Exception):
    """A published file cannot be served, though its hash is right."""


class Engine(Protocol):
    """What computes logits. `run` is called from several threads at once."""

    @property
    def description(self) -> str:
        """In a few words, for the line at start."""

    def load(self, key: SessionKey, manifest: Manifest, content: bytes) -> None:
        """Make a session of an ONNX file and run it once.

        Raises:
            BadModelError: it is not a file that this engine can serve as the manifest describes it.
        """

    def run(self, key: SessionKey, feeds: Feeds) -> NDArray[np.float32]:
        """Logits float32 [rows, classes]; a row depends on nothing but itself and its input."""


class OnnxEngine:
    """Sessions of ONNX Runtime on the CPU; with `kernel` None noise is computed by the function body."""

    def __init__(self, kernel: Kernel | None) -> None:
        self._kernel = kernel
        self._sessions: dict[SessionKey, onnxruntime.InferenceSession] = {}

    @property
    def description(self) -> str:
        """Which implementation of the operator runs."""
        return "function body (no native kernel)" if self._kernel is None else f"kernel {self._kernel.isa}"

    def load(self, key: SessionKey, manifest: Manifest, content: bytes) -> None:
        """Make a session; see `Engine.load`."""
        operator = manifest.operator
        if (operator.domain, operator.version) != (DOMAIN, OP_VERSION):
            raise BadModelError(f"operator {operator.domain} version {operator.version} is not {DOMAIN} {OP_VERSION}")
        try:
            session = onnxruntime.InferenceSession(content, self._options(), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base but this
            raise BadModelError(f"ONNX Runtime cannot load it: {_first_line(error)}") from error
        _check_contract(session)
        self._sessions[key] = session
        try:
            self._check_run(key, manifest)
        except BadModelError:
            del self._sessions[key]
            raise

    def run(self, key: SessionKey, feeds: Feeds) -> NDArray[np.float32]:
        """Run a session; see `Engine.run`."""
        rows = len(feeds.row)
        if self._kernel is None:
            feeds = _padded(feeds)
        (logits,) = self._sessions[key].run([OUTPUT], feeds.as_dict())
        return np.asarray(logits)[:rows]

    def _options(self) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle means idle
        options.log_severity_level = 3  # errors; what matters to a request arrives as an exception
        if self._kernel is not None:
            self._kernel.register(options)
        return options

    def _check_run(self, key: SessionKey, manifest: Manifest) -> None:
        """Warm the session up with two rows of one input, and check the shape of what comes out."""
        two = np.arange(2)
        shape = (1, *manifest.input.shape)
        dark = np.full(shape, manifest.input.value_range[0], np.float32)
        feeds = Feeds(dark, np.zeros((2, 2), np.float32), two, two, np.zeros(2, np.int64))
        try:
            found = self.run(key, feeds).shape
        except Exception as error:  # as above
            raise BadModelError(f"input of shape {list(shape)}: {_first_line(error)}") from error
        if found != (2, len(manifest.classes)):
            raise BadModelError(f"{OUTPUT} of 2 rows has shape {list(found)}, expected {[2, len(manifest.classes)]}")


def _check_contract(session: onnxruntime.InferenceSession) -> None:
    inputs = {value.name: value.type for value in session.get_inputs()}
    if inputs != INPUT_TYPES:
        raise BadModelError(f"inputs are {inputs}, expected {INPUT_TYPES}")
    outputs = [value.name for value in session.get_outputs()]
    if OUTPUT not in outputs:
        raise BadModelError(f"outputs are {outputs}, expected {OUTPUT}")


def _padded(feeds: Feeds) -> Feeds:
    """The last row repeated up to a multiple of `FUNCTION_BODY_ROWS`."""
    rows = len(feeds.row)
    padded = -(-rows // FUNCTION_BODY_ROWS) * FUNCTION_BODY_ROWS
    return feeds if padded == rows else feeds.rows(np.minimum(np.arange(padded), rows - 1))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
