"""API keys: how one is made, kept as a hash, and recognised.

A key is 256 random bits, so its SHA-256 cannot be searched for a preimage and needs neither salt nor a slow hash, which
are for passwords that people choose; a slow one would also let strangers spend the server's time. Whoever reads the
file of hashes cannot make a key of it.
"""

import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError

from noisevote.service.callers import Caller, Quotas, Scope
from noisevote.service.errors import InvalidValueError
from noisevote.service.validation import Body, as_invalid_value

logger = logging.getLogger(__name__)

PREFIX: Final = "nv_"  # so that scanners for leaked secrets can tell one
SECRET_BYTES: Final = 32
# Longer ones are not hashed; ours have 46 characters, and others may make their own.
MOST_CHARACTERS: Final = 512
# How often it is looked whether the file has changed.
LOOK_EVERY_S: Final = 1.0
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"


class KeysError(Exception):
    """A file of keys cannot be used; the message names file, line and problem, and no hash."""


class KeyLine(Body):
    """A line of the file: who holds the key, what it opens, and its hash."""

    name: Annotated[str, Field(pattern=NAME)]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, strict=False)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    votes_per_minute: Annotated[int, Field(ge=1)] | None = None
    queued_votes: Annotated[int, Field(ge=1)] | None = None
    priority: Annotated[int, Field(ge=1, le=8)] | None = None

    def caller(self, usual: Quotas) -> Caller:
        """Its holder, with the usual quotas where the line has none."""
        own = {name: getattr(self, name) for name in vars(usual) if getattr(self, name) is not None}
        return Caller(self.name, frozenset(self.scopes), replace(usual, **own))


@dataclass(frozen=True)
class Keys:
    """Holders of keys by the hashes of their keys."""

    holders: tuple[tuple[bytes, Caller], ...]

    def caller(self, key: bytes) -> Caller | None:
        """Whose key this is. All hashes are compared, each in constant time, so the time tells nothing."""
        digest = hashlib.sha256(key[:MOST_CHARACTERS]).digest()
        found = None
        for known, caller in self.holders:
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def hold(self, scope: Scope) -> bool:
        """Some key has this scope."""
        return any(scope in caller.scopes for _, caller in self.holders)


def new_key() -> str:
    """A key that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def key_line(name: str, scopes: Sequence[str], key: str) -> str:
    """The line of the file for a key.

    Raises:
        InvalidValueError: name or scope cannot be used.
    """
    digest = hashlib.sha256(key.encode()).hexdigest()
    line: dict[str, Any] = {"name": name, "scopes": list(dict.fromkeys(scopes)), "sha256": digest}
    _validated(json.dumps(line))
    return json.dumps(line)


def parse_keys(text: str, usual: Quotas) -> Keys:
    """The keys of a file's text: a JSON object a line; empty lines and those that begin with # are skipped.

    Raises:
        KeysError: a line cannot be used, or a name or key is there twice.
    """
    lines: list[KeyLine] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            lines.append(_validated(line))
        except InvalidValueError as error:
            raise KeysError(f"line {number}: {error}") from None
        if len({each.name for each in lines}) < len(lines):
            raise KeysError(f"line {number}: name: {lines[-1].name!r} is there twice")
        if len({each.sha256 for each in lines}) < len(lines):
            raise KeysError(f"line {number}: sha256: the key of {lines[-1].name!r} has another name above")
    holders = tuple((bytes.fromhex(line.sha256), line.caller(usual)) for line in lines)
    if any(caller.quotas.by_the_minute for _, caller in holders):
        from noisevote.service.prediction import minute  # noqa: F401, PLC0415  # now, not with a request: 2 MiB
    return Keys(holders)


def _validated(line: str) -> KeyLine:
    """A line, read.

    Raises:
        InvalidValueError: it cannot be used; values are not shown, since a key might stand where its hash belongs.
    """
    try:
        return KeyLine.model_validate_json(line)
    except ValidationError as error:
        problem = as_invalid_value(error)
        raise InvalidValueError(problem.key or "line", error.errors(include_url=False)[0]["msg"]) from None


class KeysFile:
    """The keys of a file, read again when it has changed. `clock` gives seconds.

    A file that cannot be used any more changes nothing, but for an error in the log.
    """

    def __init__(self, path: Path, usual: Quotas, clock: Callable[[], float]) -> None:
        self._path = path
        self._usual = usual
        self._clock = clock
        self._looked = clock()
        self._state = self._stat()
        self._keys = self._read()

    def current(self) -> Keys:
        """The keys that count now."""
        now = self._clock()
        if now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            if (state := self._stat()) != self._state:
                self._state = state
                self._reread()
        return self._keys

    def _reread(self) -> None:
        try:
            self._keys = self._read()
        except KeysError as error:
            logger.error("%s; the keys read before still count", error)
        else:
            logger.info("%s: %d keys read", self._path, len(self._keys.holders))

    def _read(self) -> Keys:
        try:
            return parse_keys(self._path.read_text("utf-8"), self._usual)
        except (OSError, UnicodeDecodeError) as error:
            raise KeysError(f"{self._path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
        except KeysError as error:
            raise KeysError(f"{self._path}: {error}") from None

    def _stat(self) -> tuple[int, ...]:
        """What differs once the file was written or replaced; empty: it is not there."""
        try:
            found = os.stat(self._path)
        except OSError:
            return ()
        return (found.st_mtime_ns, found.st_size, found.st_ino)
