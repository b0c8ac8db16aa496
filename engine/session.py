"""One published file in ONNX Runtime, on the native kernel or on the function body inside the file."""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from noisevote.engine.errors import BadModelError
from noisevote.engine.feeds import Feeds
from noisevote.engine.free_memory import keep_large_blocks_apart
from noisevote.engine.onnx_file import refuse_unsafe
from noisevote.engine.trial import Expectation
from noisevote.engine.trial_runs import check_runs
from noisevote.noise_op.contract import DOMAIN, OP_VERSIONS
from noisevote.noise_op.library import Kernel

INPUT_TYPES: Final = {
    "input": "tensor(float)",
    "sigma": "tensor(float)",
    "seed": "tensor(int64)",
    "vote": "tensor(int64)",
    "row": "tensor(int64)",
}
OUTPUT: Final = "logits"
OUTPUT_TYPE: Final = "tensor(float)"
LONGEST_REASON: Final = 500

# The standard operators of the function body work on 4 elements at a time and on what is left over
# one by one, with other rounding. In batches of 4, 8, 12 ... rows nothing is left over, so that a
# row's bits do not depend on the size of its batch. The kernel needs no such care.
FUNCTION_BODY_ROWS: Final = 4

# An ONNX file, y = −x of one number, of opset 13.
_NEGATES_A_NUMBER: Final = (
    b'\x08\x08:2\n\x0b\n\x01x\x12\x01y"\x03Neg\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


class Session:
    """A published file that is ready to run. `run` may be called from several threads at once.

    Args:
        session: of ONNX Runtime.
        padded: batches are padded to a multiple of `FUNCTION_BODY_ROWS`.
        rows_per_run: each run has exactly so many rows, each with an input of its own; None: as many as are asked for.
        options: of each run; None: the usual ones.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        *,
        padded: bool,
        rows_per_run: int | None = None,
        options: onnxruntime.RunOptions | None = None,
    ) -> None:
        self._session = session
        self._padded = padded
        self._rows_per_run = rows_per_run
        self._options = options

    def shrinking(self) -> "Session":
        """The same, but after each run the arena gives back what no run needs then."""
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return Session(self._session, padded=self._padded, rows_per_run=self._rows_per_run, options=options)

    @property
    def step(self) -> int:
        """Rows are computed in multiples of so many."""
        return FUNCTION_BODY_ROWS if self._padded else 1

    @property
    def operator_version(self) -> str | None:
        """The version of the operator that the file says it draws with; None: it says none."""
        said: str | None = self._session.get_modelmeta().custom_metadata_map.get("operator_version")
        return said

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Logits float32 [rows, classes]; a row depends on nothing but itself and its input."""
        rows = len(feeds.row)
        if self._rows_per_run is not None:
            return np.concatenate([self._run(part) for part in _parts(feeds, self._rows_per_run)])[:rows]
        return self._run(feeds)

    def _run(self, feeds: Feeds) -> NDArray[np.float32]:
        rows = len(feeds.row)
        if self._padded:
            feeds = _padded(feeds)
        (logits,) = self._session.run([OUTPUT], feeds.as_dict(), self._options)
        return np.asarray(logits)[:rows]


def load_session(content: bytes, kernel: Kernel | None, threads: int = 1, rows_per_run: int | None = None) -> Session:
    """A session of a file's bytes, whatever its manifest says.

    Args:
        content: the bytes of the file.
        kernel: what computes the noise; None: the function body.
        threads: of each run.
        rows_per_run: see `Session`.

    Raises:
        BadModelError: it is not self-contained, has weights that are no numbers, ONNX Runtime cannot load it, or its
            inputs and outputs are not those of a published graph.
    """
    refuse_unsafe(content)
    return open_tried(content, kernel, threads, rows_per_run)


def open_tried(content: bytes, kernel: Kernel | None, threads: int = 1, rows_per_run: int | None = None) -> Session:
    """A session of bytes that were looked through already; see `load_session`."""
    try:
        options = session_options(kernel, threads)
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base but this
        raise BadModelError("ONNX Runtime cannot load it", str(error)) from error
    session._model_bytes = None  # else the file stays in memory as long as the session, beside its weights
    _check_contract(session)
    return Session(session, padded=kernel is None, rows_per_run=rows_per_run)


def open_session(content: bytes, expectation: Expectation, kernel: Kernel | None) -> Session:
    """A session of a file that its manifest describes, warmed up by a few runs.

    Raises:
        BadModelError: it is not a file that can be served as the manifest describes it.
    """
    domain, version = expectation.domain, expectation.operator_version
    if domain != DOMAIN or version not in OP_VERSIONS:
        known = " or ".join(map(str, OP_VERSIONS))
        raise BadModelError(f"operator {domain} version {version} is not {DOMAIN} {known}")
    session = load_session(content, kernel, rows_per_run=expectation.rows_per_run)
    if session.operator_version not in {None, str(version)}:
        raise BadModelError(f"it draws with operator version {session.operator_version}; its manifest says {version}")
    check_runs(session, expectation)
    return session


def describe(kernel: Kernel | None) -> str:
    """Which implementation of the operator runs, in a few words."""
    return "function body (no native kernel)" if kernel is None else f"kernel {kernel.isa}"


@cache
def _share_an_arena() -> None:
    """Let all sessions take what a run needs from one arena, once per process.

    Each session would else keep an arena as large as its largest run, once for each thread that ever ran it.
    """
    keep_large_blocks_apart()
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    growing_by_doubling = onnxruntime.OrtArenaCfg({"arena_extend_strategy": 0})
    onnxruntime.create_and_register_allocator(memory, growing_by_doubling)


def keep_arena_small() -> None:
    """Begin the arena with its smallest part, of a megabyte, which is the one that `shrinking` never gives back.

    To be called before anything else is run in the process.
    """
    session = onnxruntime.InferenceSession(_NEGATES_A_NUMBER, session_options(None, 1), ["CPUExecutionProvider"])
    session.run(None, {"x": np.zeros(1, np.float32)})


def session_options(kernel: Kernel | None, threads: int) -> Any:
    """How every session runs: on so many threads, idle when there is nothing to do, with the kernel if there is one."""
    _share_an_arena()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")  # weights stay out of it
    options.enable_mem_pattern = False  # one block for a whole run fits no other session's
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle means idle
    options.log_severity_level = 3  # errors; what matters to a request arrives as an exception
    if kernel is not None:
        kernel.register(options)
    return options


def _check_contract(session: onnxruntime.InferenceSession) -> None:
    inputs = {value.name: value.type for value in session.get_inputs()}
    if inputs != INPUT_TYPES:
        raise BadModelError(_shortened(f"inputs are {inputs}, expected {INPUT_TYPES}"))
    outputs = {value.name: value.type for value in session.get_outputs()}
    if outputs.get(OUTPUT) != OUTPUT_TYPE:
        raise BadModelError(_shortened(f"outputs are {outputs}, expected {{{OUTPUT!r}: {OUTPUT_TYPE!r}}}"))


def _padded(feeds: Feeds) -> Feeds:
    """The last row repeated up to a multiple of `FUNCTION_BODY_ROWS`."""
    rows = len(feeds.row)
    padded = -(-rows // FUNCTION_BODY_ROWS) * FUNCTION_BODY_ROWS
    return feeds if padded == rows else feeds.rows(np.minimum(np.arange(padded), rows - 1))


def _parts(feeds: Feeds, size: int) -> Iterator[Feeds]:
    """The rows, so many at a time, each with its input; the last ones repeated to fill up."""
    rows = len(feeds.row)
    for start in range(0, rows, size):
        part = feeds.rows(np.minimum(np.arange(start, start + size), rows - 1))
        yield Feeds(feeds.input[part.row], part.sigma, part.seed, part.vote, np.arange(size, dtype=np.int64))


def _shortened(reason: str) -> str:
    """Names come from the file, which may hold any number of them, of any length."""
    return reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} …"
