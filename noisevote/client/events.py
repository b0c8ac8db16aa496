"""Server-sent events, read line by line (HTML standard, 9.2.6), as far as a server of ours writes them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """An event: its name and data."""

    name: str
    data: bytes


class EventReader:
    """Puts lines together to events."""

    def __init__(self) -> None:
        self._name = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Event | None:
        """Take the next line, without its end; the event that it completes, if it does."""
        if not line:
            return self._complete()
        field, _, value = line.partition(":")  # a comment has no field
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        return None

    def _complete(self) -> Event | None:
        event = Event(self._name, "\n".join(self._data).encode()) if self._data else None
        self._name, self._data = "", []
        return event
