"""A line for a request: who asked for what, and what became of it. Inputs are never in it, nor queries and keys."""

import logging
import time
from typing import Any, Final

import orjson

from noisevote.service.prediction.visit import Visit

logger = logging.getLogger("noisevote.access")

MOST_PATH: Final = 200


class AccessLine:
    """What happened to a request; made into text or JSON by the log's format."""

    def __init__(
        self, scope: Any, visit: Visit, status: int, seconds: float, names: tuple[bytes, bytes | None]
    ) -> None:
        self._scope = scope
        self._visit = visit
        self._status = status
        self._seconds = seconds
        self._names = names

    def fields(self) -> dict[str, Any]:
        """Everything known, by name; `status` 0: the client left before its answer began."""
        visit, (request_id, trace) = self._visit, self._names
        fields = {
            "key": visit.caller.name,
            "client": (self._scope.get("client") or ("-",))[0],
            "method": self._scope["method"],
            "path": _path(self._scope),
            "status": self._status,
            "ms": round(1e3 * self._seconds, 1),
            "request_id": request_id.decode(),
        }
        if visit.session is not None:
            fields["model"] = "/".join(filter(None, visit.session.labels))
        if visit.votes:
            fields |= {"inputs": visit.inputs, "votes": visit.votes}
        if visit.queue_s is not None:
            fields["queue_ms"] = round(1e3 * visit.queue_s, 1)
        if trace is not None:
            fields["traceparent"] = trace.decode()
        return fields

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.fields().items())


class JsonFormatter(logging.Formatter):
    """A log line as one JSON object; those of requests with a key for each field."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if isinstance(record.msg, AccessLine):
            line |= record.msg.fields()
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def write(line: AccessLine, *, admin: bool) -> None:
    """Log a request. What an administrator does is a warning, so that no log level leaves it out.

    Without the search for the line of code that logs, which `Logger.log` does, it takes two thirds of the time.
    """
    level = logging.WARNING if admin else logging.INFO
    if admin or logger.isEnabledFor(level):
        logger.handle(logger.makeRecord(logger.name, level, "", 0, line, (), None))


def _path(scope: Any) -> str:
    """The path as it was sent: percent-encoded, so that it cannot break the line; cut where it is long."""
    raw = scope.get("raw_path") or scope["path"].encode()
    return str(raw[:MOST_PATH].decode("ascii", "backslashreplace")).replace(" ", "%20")
