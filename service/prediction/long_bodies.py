"""Has long bodies read by a process of its own: there, however long it takes, nothing else waits for it."""

import asyncio
import logging
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from noisevote.service.errors import BodyUnreadError, ServiceError
from noisevote.service.prediction.options import PredictionRequest
from noisevote.service.prediction.reader import Answer, Defect, Question, read_frame, write_frame
from noisevote.service.unread import UnreadBytes

logger = logging.getLogger(__name__)

READER: Final = (sys.executable, "-c", "from noisevote.service.prediction.reader import main; main()")
# Reading the longest allowed body takes a tenth of it.
MOST_SECONDS: Final = 30.0
# A reader that has nothing to do for so long ends, and its memory returns.
IDLE_SECONDS: Final = 60.0


class LongBodyReader:
    """Reads one body at a time, in the order in which they came. Belongs to one event loop.

    The reading process starts with the first body; one that fails or takes too long is replaced.
    """

    def __init__(self, unread: UnreadBytes, seconds: float = MOST_SECONDS, idle_s: float = IDLE_SECONDS) -> None:
        self._unread = unread
        self._seconds = seconds
        self._idle_s = idle_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long bodies")
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping: asyncio.TimerHandle | None = None
        self._waiting = 0
        self._closed = False

    @property
    def process_id(self) -> int | None:
        """Of the reading process, while there is one."""
        return None if self._process is None else self._process.pid

    async def read(self, question: Question, body: bytes) -> PredictionRequest:
        """What a body asks for, its inputs decoded.

        Raises:
            QueueFullError: too many bytes wait to be read.
            BodyUnreadError: the process ended or took too long.
            ServiceError: the body cannot be used; the message names key and value.
            Defect: reading it failed unexpectedly.
        """
        if self._stopping is not None:
            self._stopping.cancel()
        self._waiting += 1
        try:
            with self._unread.waiting(len(body)):
                answer = await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, question, body)
        finally:
            self._waiting -= 1
            self._stop_when_idle()
        if not isinstance(answer, ServiceError | Defect):
            return answer
        try:
            raise answer
        finally:
            del answer  # which holds this frame by now, and so the body

    def close(self) -> None:
        """End the process; what it was reading fails."""
        self._closed = True
        if self._stopping is not None:
            self._stopping.cancel()
        if (process := self._process) is not None:
            process.kill()
            self._thread.submit(self._end)
        self._thread.shutdown(wait=False)

    def _stop_when_idle(self) -> None:
        if not self._waiting and not self._closed:
            stop = self._thread.submit
            self._stopping = asyncio.get_running_loop().call_later(self._idle_s, stop, self._end)

    def _ask(self, question: Question, body: bytes) -> Answer:
        """Ask the process; runs on the reader's own thread, as all that follows."""
        failed = BodyUnreadError(
            f"body: {len(body)} bytes could not be read: the reading process ended, or took longer "
            f"than {self._seconds:g} s"
        )
        try:
            process = self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            overdue = threading.Timer(self._seconds, process.kill)
            overdue.start()
            try:
                write_frame(process.stdin, pickle.dumps(question))
                write_frame(process.stdin, body)
                answer = pickle.loads(read_frame(process.stdout))  # from our own process
            finally:
                overdue.cancel()
        except (OSError, EOFError, RuntimeError, MemoryError, pickle.UnpicklingError) as error:
            logger.warning("reading a body of %d bytes failed: %s; the next has a new process", len(body), error)
            self._end()
            return failed
        assert isinstance(answer, Answer)
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                READER,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C is for the server
            )
        return self._process

    def _end(self) -> None:
        if (process := self._process) is None:
            return
        self._process = None
        process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):  # what was not yet written has nobody to read it
            process.stdin.close()
        process.stdout.close()
        process.wait()
