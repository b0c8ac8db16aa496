"""Who may come in: decided once at the edge, when it is known where the server listens, and asked for every request."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from noisevote.service.callers import ANYBODY, Caller, Quotas, Scope
from noisevote.service.errors import ForbiddenError, MissingKeyError
from noisevote.service.rest.keys import Keys, KeysError, KeysFile, key_line, new_key, parse_keys
from noisevote.service.rest.openings import Opening
from noisevote.service.rest.origins import LOOPBACK_NAMES, HostRule, OriginRule
from noisevote.service.settings import Settings, SettingsError

# The holder of a key that the server made for itself.
MADE_FOR_THIS_RUN: Final = "this-run"
FORWARDED: Final = frozenset({b"x-forwarded-for", b"x-forwarded-host", b"forwarded"})
NO_KEYS: Final = Keys(())
ANY_HOST: Final = HostRule(None)
OWN_PAGES: Final = OriginRule()


@dataclass(frozen=True)
class Access:
    """Who may come in.

    Attributes:
        keys: the keys that count now.
        keyless: what needs `predict` needs no key.
        open_metrics: nor does /metrics.
        direct: a request that came through a proxy is refused: without keys, that would serve the world by accident.
        hosts: under which names the server may be asked.
        origins: whose pages may ask.
        made_key: the key that was made for this run, to be shown once.
    """

    keys: Callable[[], Keys]
    keyless: bool
    open_metrics: bool = False
    direct: bool = False
    hosts: HostRule = ANY_HOST
    origins: OriginRule = OWN_PAGES
    made_key: str | None = None

    @property
    def keyed(self) -> bool:
        """Clients need keys."""
        return not self.keyless

    def logged(self, settings: Settings) -> bool:
        """Each request has a line in the log."""
        return self.keyed if settings.access_log == "auto" else settings.access_log == "on"

    def refuse_strangers(self, opens: Opening, method: str, headers: Mapping[bytes, bytes]) -> None:
        """Refuse pages of others, names of others, and proxies where there are no keys.

        Raises:
            ForbiddenError: it is one of those.
        """
        if opens == "health":
            return
        host = _text(headers.get(b"host"))
        self.hosts.check(host)
        if self.direct and not FORWARDED.isdisjoint(headers):
            raise ForbiddenError("this came through a proxy; to serve others, configure keys (NOISEVOTE_KEYS_FILE)")
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if origin is not None or site is not None:
            link = opens == "page" and method == "GET" and headers.get(b"sec-fetch-mode") == b"navigate"
            self.origins.check(None if origin is None else _text(origin), _text(site), host, link=link)

    def caller(self, opens: Opening, headers: Mapping[bytes, bytes]) -> Caller:
        """Who asks for a path that is opened so.

        Raises:
            MissingKeyError: it needs a key, and none that is known was sent.
            ForbiddenError: the key is not for this.
        """
        if opens in {"health", "page"} or (opens == "metrics" and self.open_metrics):
            return ANYBODY
        keys, key = self.keys(), sent_key(headers)
        caller = None if key is None or not keys.holders else keys.caller(key)
        if opens == "admin":
            return _admin(keys, key, caller)
        if caller is None:
            if self.keyless:
                return ANYBODY
            raise _missing(key)
        if opens == "predict" and not self.keyless and opens not in caller.scopes:
            raise _lacking(caller, opens)
        return caller


def _admin(keys: Keys, key: bytes | None, caller: Caller | None) -> Caller:
    if not keys.hold("admin"):
        raise ForbiddenError("no key of scope 'admin' is configured (NOISEVOTE_KEYS_FILE), so nobody may do this")
    if caller is None:
        raise _missing(key)
    if "admin" not in caller.scopes:
        raise _lacking(caller, "admin")
    return caller


def _missing(key: bytes | None) -> MissingKeyError:
    what = "a key is needed" if key is None else "this key is not known"
    return MissingKeyError(f"{what}; send one as 'Authorization: Bearer …' or 'X-API-Key: …'")


def _lacking(caller: Caller, scope: Scope) -> ForbiddenError:
    return ForbiddenError(f"key {caller.name!r} has scope {', '.join(sorted(caller.scopes))}; this needs {scope}")


def sent_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The key in a request's headers."""
    scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
    return bearer.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key")


def how_to_use(key: str, address: str) -> str:
    """A command that shows how to send a key, for people."""
    return f'curl -H "authorization: Bearer {key}" {address}/v1/models'


def access_at(settings: Settings, *, loopback: bool) -> Access:
    """Who may come in where the server listens itself.

    Configured keys for `predict` are asked for everywhere. Without such, loopback needs none, and elsewhere a key is
    made for this run. What needs no key at start needs none until the end, whatever becomes of the file.

    Raises:
        SettingsError: keys are needed and there are none, or their file cannot be used.
    """
    keys = _configured(settings)
    if keys().hold("predict") and not settings.insecure:
        return _access(settings, keys, keyless=False)
    if loopback or settings.insecure:
        return _access(settings, keys, keyless=True, loopback=loopback)
    if settings.require_configured_keys or settings.keys_file is not None:
        raise SettingsError(f"{_no_key(settings)}, and {settings.host} is not loopback; `noisevote key` makes one")
    key = new_key()
    made = parse_keys(key_line(MADE_FOR_THIS_RUN, ["predict"], key), usual_quotas(settings))
    return _access(settings, lambda: made, keyless=False, made_key=key)


def access_behind(settings: Settings) -> Access:
    """Who may come in where another server listens, which does not say where.

    Raises:
        SettingsError: there are no keys, and `insecure` is not set.
    """
    keys = _configured(settings)
    if settings.insecure:
        return _access(settings, keys, keyless=True)
    if not keys().hold("predict"):
        raise SettingsError(f"{_no_key(settings)}; `noisevote key` makes one, or set NOISEVOTE_INSECURE=true")
    return _access(settings, keys, keyless=False)


def _configured(settings: Settings) -> Callable[[], Keys]:
    if settings.keys_file is None:
        return lambda: NO_KEYS
    try:
        return KeysFile(settings.keys_file, usual_quotas(settings), time.monotonic).current
    except KeysError as error:
        raise SettingsError(f"NOISEVOTE_KEYS_FILE: {error}") from None


def _no_key(settings: Settings) -> str:
    if settings.keys_file is None:
        return "no keys are configured (NOISEVOTE_KEYS_FILE)"
    return f"NOISEVOTE_KEYS_FILE: {settings.keys_file}: holds no key of scope 'predict'"


def _access(
    settings: Settings,
    keys: Callable[[], Keys],
    *,
    keyless: bool,
    loopback: bool = False,
    made_key: str | None = None,
) -> Access:
    own_names = LOOPBACK_NAMES | {settings.host.lower()} | {name.lower() for name in settings.allowed_hosts}
    named = bool(settings.allowed_hosts) or (keyless and loopback)
    return Access(
        keys=keys,
        keyless=keyless,
        open_metrics=settings.open_metrics,
        direct=keyless and loopback and not settings.insecure,
        hosts=HostRule(own_names if named else None),
        origins=OriginRule(frozenset(settings.allowed_origins)),
        made_key=made_key,
    )


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("latin-1")


def usual_quotas(settings: Settings) -> Quotas:
    """Quotas of a key that says nothing of its own."""
    quarter = max(settings.queue_rows // 4, settings.max_votes)
    return Quotas(
        requests_per_minute=settings.key_requests_per_minute,
        votes_per_minute=settings.key_votes_per_minute,
        queued_votes=settings.key_queued_votes or quarter,
        priority=settings.key_priority,
    )
