"""Who may come in, as the rules alone decide it; test_edge.py asks the whole application."""

import json
from pathlib import Path
from typing import Any

import pytest

from noisevote.service.callers import ANYBODY, Caller
from noisevote.service.errors import ForbiddenError, MissingKeyError, ServiceError
from noisevote.service.rest.access import Access, access_at, access_behind, sent_key
from noisevote.service.rest.keys import key_line
from noisevote.service.rest.openings import Opening, opening
from noisevote.service.rest.origins import HostRule, OriginRule
from noisevote.service.settings import Settings, SettingsError

OPENINGS: list[Opening] = ["health", "page", "metrics", "predict", "admin"]
KEYS = {"p": ["predict"], "a": ["admin"], "both": ["predict", "admin"]}


def keys_file(folder: Path, *names: str) -> Path:
    """A file with keys of these names, which are the keys themselves too."""
    path = folder / "keys.jsonl"
    path.write_text("".join(f"{key_line(name, KEYS[name], name)}\n" for name in names))
    return path


def settings(store: Path, **values: Any) -> Settings:
    """Settings for some store."""
    return Settings(model_store=store, **values)


def outcome(access: Access, opens: Opening, key: str | None) -> str | int:
    """The caller's name, or the status of the refusal."""
    headers = {} if key is None else {b"authorization": f"Bearer {key}".encode()}
    try:
        return access.caller(opens, headers).name
    except ServiceError as error:
        return error.status


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/healthz", "health"),
        ("/readyz", "health"),
        ("/v2/health/ready", "health"),
        ("/", "page"),
        ("/docs", "page"),
        ("/openapi.json", "page"),
        ("/static-offline-docs/swagger-ui.css", "page"),
        ("/metrics", "metrics"),
        ("/v1/models", "predict"),
        ("/v1/models/x/predict", "predict"),
        ("/v2/models/x/infer", "predict"),
        ("/v2", "predict"),
        ("/v1/admin", "admin"),
        ("/v1/admin/models/x", "admin"),
        ("/v2/repository/index", "admin"),
        ("/v2/repository/models/x/load", "admin"),
        # unknown, or nearly known
        ("/v1/whatever", "predict"),
        ("/healthz/", "predict"),
        ("/healthz\n", "predict"),
        ("/healthz/../v1/admin", "predict"),
        ("//v1/admin", "predict"),
        ("/docsx", "predict"),
        ("/v1/admin\n/x", "predict"),
        ("", "predict"),
    ],
)
def test_every_path_has_an_opening_and_unknown_ones_need_a_key(path: str, expected: Opening) -> None:
    """The table, and what it does with paths that no route has."""
    assert opening(path) == expected


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ({}, None),
        ({b"authorization": b"Bearer k"}, b"k"),
        ({b"authorization": b"bearer  k "}, b"k"),
        ({b"authorization": b"Basic k"}, None),
        ({b"authorization": b"Basic k", b"x-api-key": b"j"}, b"j"),
        ({b"x-api-key": b"j"}, b"j"),
        ({b"authorization": b"Bearer k", b"x-api-key": b"j"}, b"k"),
    ],
)
def test_a_key_comes_in_either_header(sent: dict[bytes, bytes], key: bytes | None) -> None:
    """`Authorization: Bearer` first, then `X-API-Key`."""
    assert sent_key(sent) == key


# (loopback, keys in the file or None, other settings) and who gets in with no key, a wrong one, p, a, both
CASES: list[tuple[bool, tuple[str, ...] | None, dict[str, Any], dict[Opening, list[str | int]]]] = [
    (True, None, {}, {"metrics": ["-", "-"], "predict": ["-", "-", "-"], "admin": [403, 403, 403, 403]}),
    (True, ("a",), {}, {"predict": ["-", "-", "-", "a"], "admin": [401, 401, 401, "a"]}),
    (True, ("p",), {}, {"metrics": [401, 401, "p"], "predict": [401, 401, "p", 401], "admin": [403, 403, 403]}),
    (False, ("p", "a", "both"), {}, {
        "metrics": [401, 401, "p", "a", "both"],
        "predict": [401, 401, "p", 403, "both"],
        "admin": [401, 401, 403, "a", "both"],
    }),
    (False, ("p",), {"open_metrics": True}, {"metrics": ["-", "-", "-"], "predict": [401]}),
    (False, ("p",), {"insecure": True}, {"metrics": ["-"], "predict": ["-", "-", "p"], "admin": [403, 403, 403]}),
    (False, None, {"insecure": True}, {"predict": ["-", "-"], "admin": [403]}),
]  # fmt: skip


@pytest.mark.parametrize(("loopback", "names", "values", "expected"), CASES, ids=str)
def test_who_gets_in_where(
    tmp_path: Path,
    loopback: bool,
    names: tuple[str, ...] | None,
    values: dict[str, Any],
    expected: dict[Opening, list[str | int]],
) -> None:
    """By address, configured keys and settings: each opening with no key, a wrong one, and each of the three."""
    file = {} if names is None else {"keys_file": keys_file(tmp_path, *names)}
    access = access_at(settings(tmp_path, **file, **values), loopback=loopback)
    for opens, outcomes in expected.items():
        sent = [None, "wrong", "p", "a", "both"][: len(outcomes)]
        assert [outcome(access, opens, key) for key in sent] == outcomes, opens
    for opens in ("health", "page"):
        assert [outcome(access, opens, key) for key in (None, "wrong", "p")] == [ANYBODY.name] * 3


def test_away_from_loopback_a_key_is_made_for_the_run(tmp_path: Path) -> None:
    """It opens what needs `predict`, nobody else gets in, and two runs have two keys."""
    one, two = (access_at(settings(tmp_path, host="0.0.0.0"), loopback=False) for _ in range(2))
    assert one.made_key is not None
    assert outcome(one, "predict", one.made_key) == "this-run"
    assert outcome(one, "admin", one.made_key) == 403
    for key in (None, two.made_key):
        assert outcome(one, "predict", key) == outcome(one, "metrics", key) == 401


def test_where_keys_are_required_there_is_no_start_without(tmp_path: Path) -> None:
    """By setting, by a file that lets nobody predict, and wherever another server listens; loopback may start."""
    required = settings(tmp_path, require_configured_keys=True)
    with pytest.raises(SettingsError, match="no keys are configured"):
        access_at(required, loopback=False)
    assert access_at(required, loopback=True).keyless
    lacking = settings(tmp_path, keys_file=keys_file(tmp_path, "a"))
    with pytest.raises(SettingsError, match="holds no key of scope 'predict'"):
        access_at(lacking, loopback=False)
    for values in (settings(tmp_path), lacking):
        with pytest.raises(SettingsError, match="NOISEVOTE_INSECURE"):
            access_behind(values)
    assert access_behind(settings(tmp_path, insecure=True)).keyless
    assert access_behind(settings(tmp_path, keys_file=keys_file(tmp_path, "p"))).keyed


def test_a_file_of_keys_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    """With its name and line."""
    path = tmp_path / "keys.jsonl"
    path.write_text(json.dumps({"name": "x"}))
    with pytest.raises(SettingsError, match=r"NOISEVOTE_KEYS_FILE: .*keys.jsonl: line 1: scopes"):
        access_at(settings(tmp_path, keys_file=path), loopback=True)


def test_what_needs_a_key_at_start_needs_one_until_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking the last key out of the file shuts everybody out; it opens nothing."""
    now = [0.0]
    monkeypatch.setattr("noisevote.service.rest.access.time.monotonic", lambda: now[0])
    path = keys_file(tmp_path, "p")
    access = access_at(settings(tmp_path, keys_file=path), loopback=True)
    assert outcome(access, "predict", "p") == "p"
    path.write_text("")
    now[0] = 5.0
    assert outcome(access, "predict", "p") == outcome(access, "predict", None) == 401


OWN = "127.0.0.1:8000"


@pytest.mark.parametrize(
    ("origin", "site", "link", "refused"),
    [
        (None, None, False, False),  # curl and the like
        (f"http://{OWN}", "same-origin", False, False),
        (f"https://{OWN}", "same-origin", False, False),  # behind a proxy that ends TLS
        ("https://lab.example", "cross-site", False, False),  # allowed
        ("https://evil.example", "cross-site", False, True),
        ("https://evil.example", None, False, True),
        ("http://127.0.0.1:3000", "same-site", False, True),  # another port is another page
        ("null", "cross-site", False, True),
        ("", None, False, True),
        (f"http://{OWN}.evil.example", None, False, True),
        (f"http://evil.example/{OWN}", None, False, True),
        (None, "cross-site", False, True),  # an image, a script, a form by GET
        (None, "cross-site", True, False),  # a link that a person follows
        ("https://evil.example", "cross-site", True, True),
        (None, "none", False, False),  # typed into the browser
    ],
)
def test_pages_of_others_may_not_ask(origin: str | None, site: str | None, link: bool, refused: bool) -> None:
    """By Origin, and where there is none by Sec-Fetch-Site."""
    rule = OriginRule(frozenset({"https://lab.example"}))
    if refused:
        with pytest.raises(ForbiddenError):
            rule.check(origin, site, OWN, link=link)
    else:
        rule.check(origin, site, OWN, link=link)
    if origin in {"null", ""}:
        with pytest.raises(ForbiddenError):  # nor where there is no Host
            rule.check(origin, site, "", link=link)


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        ("localhost", False),
        ("LocalHost:8000", False),
        ("127.0.0.1:80", False),
        ("[::1]:8000", False),
        ("[::1]", False),
        ("", False),
        ("evil.example:8000", True),
        ("localhost.evil.example", True),
        ("localhost:8000.evil.example", True),
        ("127.0.0.1.evil.example:8000", True),
        ("localhost:", True),
        ("::1", True),
        ("[::1", True),
        ("x" * 10**5, True),
    ],
)
def test_keyless_loopback_is_asked_by_its_own_names_alone(tmp_path: Path, host: str, refused: bool) -> None:
    """A page whose name is made to resolve to this machine sends that name; ports do not matter."""
    access = access_at(settings(tmp_path), loopback=True)
    headers = {b"host": host.encode(), b"origin": f"http://{host}".encode()} if host else {}
    if refused:
        with pytest.raises(ForbiddenError, match="host") as caught:
            access.refuse_strangers("predict", "GET", headers)
        assert len(str(caught.value)) < 200
        access.refuse_strangers("health", "GET", headers)
    else:
        access.refuse_strangers("predict", "GET", headers)


def test_names_can_be_allowed_and_elsewhere_all_are(tmp_path: Path) -> None:
    """`allowed_hosts` adds to the names on keyless loopback, and restricts them elsewhere."""
    for values, loopback, expected in (
        ({"allowed_hosts": "Lab.example,other"}, True, {"lab.example": True, "other": True, "localhost": True}),
        ({"insecure": True}, False, {"anything": True}),
        ({"insecure": True, "allowed_hosts": "lab"}, False, {"lab:80": True, "127.0.0.1": True, "evil": False}),
        ({"keys_file": keys_file(tmp_path, "p")}, True, {"anything": True}),
    ):
        rule = access_at(settings(tmp_path, **values), loopback=loopback).hosts
        for host, allowed in expected.items():
            assert allowed == (not _refuses(rule, host)), (values, host)


def _refuses(rule: HostRule, host: str) -> bool:
    try:
        rule.check(host)
    except ForbiddenError:
        return True
    return False


@pytest.mark.parametrize("header", [b"x-forwarded-for", b"forwarded", b"x-forwarded-host"])
def test_keyless_loopback_is_not_published_by_a_proxy(tmp_path: Path, header: bytes) -> None:
    """What came through one is refused, since it may come from anywhere; with keys or `insecure` it is not."""
    asked = {b"host": b"127.0.0.1:8000", header: b"203.0.113.9"}
    with pytest.raises(ForbiddenError, match="proxy"):
        access_at(settings(tmp_path), loopback=True).refuse_strangers("predict", "GET", asked)
    for values in ({"insecure": True}, {"keys_file": keys_file(tmp_path, "p")}):
        access_at(settings(tmp_path, **values), loopback=True).refuse_strangers("predict", "GET", asked)


def test_messages_never_hold_a_key(tmp_path: Path) -> None:
    """Neither the one that was sent nor one that is known."""
    access = access_at(settings(tmp_path, keys_file=keys_file(tmp_path, "p", "a")), loopback=False)
    with pytest.raises(MissingKeyError) as unknown:
        access.caller("predict", {b"x-api-key": b"nv_mistyped"})
    assert "nv_mistyped" not in str(unknown.value)
    assert unknown.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert isinstance(access.caller("predict", {b"x-api-key": b"p"}), Caller)
