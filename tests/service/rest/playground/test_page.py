"""The playground as it is served: its files, their headers, and who may have them."""

import re
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service import __main__ as server
from noisevote.service.rest.playground.files import FOLDER, page_files
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES
from tests.support.keyed import ALICE, keyed
from tests.support.serving import serve

MOST_BYTES = 300_000
SCRIPTS = sorted(FOLDER.glob("*.js"))
MOST_LINES = 300


@pytest.fixture
async def client(store: ModelStore) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server whose engine does not matter here."""
    async with serve(store, FakeEngine(CLASSES)) as client:
        yield client


def policy_of(answer: httpx.Response) -> dict[str, str]:
    """The answer's Content-Security-Policy by directive."""
    return dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))


async def test_the_page_runs_scripts_and_styles_of_this_server_alone(client: httpx.AsyncClient) -> None:
    """Nothing else is allowed by default, nothing inline, and nobody else may frame it."""
    page = await client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert policy_of(page) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' blob: data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
    }
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", page.text)


async def test_pages_that_may_ask_may_also_frame_it(store: ModelStore) -> None:
    """As slides of a lecture do."""
    async with serve(store, FakeEngine(CLASSES), allowed_origins=("https://lab.example",)) as client:
        assert policy_of(await client.get("/"))["frame-ancestors"] == "'self' https://lab.example"


async def test_every_file_that_the_page_names_is_there(client: httpx.AsyncClient) -> None:
    """Scripts, styles, pictures and imports, each with its type; nothing is left over."""
    page = (await client.get("/")).text
    named = set(re.findall(r'(?:src|href)="playground/([^"]+)"', page)) | {"examples.json"}
    for script in SCRIPTS:
        named |= set(re.findall(r'(?:from|import\() ?"\./([^"]+)"', script.read_text()))
    for name in named:
        answer = await client.get(f"/playground/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert named == set(page_files()) - {"index.html"}


async def test_a_browser_that_has_a_file_is_told_so(client: httpx.AsyncClient) -> None:
    """304 for its ETag, the whole file for another; HEAD has the same headers and no body."""
    for path in ("/", "/playground/app.js"):
        whole = await client.get(path)
        etag = whole.headers["etag"]
        assert whole.headers["cache-control"] == "no-cache"
        for held in (etag, f'"other", W/{etag}', "*"):
            kept = await client.get(path, headers={"if-none-match": held})
            assert (kept.status_code, kept.content, kept.headers["etag"]) == (304, b"", etag)
        assert (await client.get(path, headers={"if-none-match": '"other"'})).content == whole.content
        head = await client.head(path)
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", etag)
        assert head.headers["content-length"] == str(len(whole.content))


async def test_nothing_but_the_page_is_served(client: httpx.AsyncClient) -> None:
    """No file beside it, by whatever name."""
    for path in ("index.html", "nothing.js", "../front.py", "..%2ffront.py", "%2e%2e/files.py", ""):
        assert (await client.get(f"/playground/{path}")).status_code == 404, path


async def test_the_page_needs_no_key_and_what_it_asks_does(store: ModelStore, tmp_path: Path) -> None:
    """It is loaded before a person can give it one."""
    async with keyed(store, tmp_path) as client:
        assert (await client.get("/")).status_code == 200
        assert (await client.get("/playground/app.js")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/v1/models", headers=ALICE)).status_code == 200


async def test_a_setting_turns_it_off(store: ModelStore) -> None:
    """Then `/` leads to the documentation, and no file of the page is served."""
    async with serve(store, FakeEngine(CLASSES), playground=False) as client:
        index = await client.get("/")
        assert (index.status_code, index.headers["location"]) == (307, "docs")
        assert (await client.get("/playground/app.js")).status_code == 404


def test_the_page_is_small_and_names_no_other_server() -> None:
    """At most 300 kB in all; the only addresses are names of XML."""
    assert sum(len(file.content) for file in page_files().values()) <= MOST_BYTES
    for name, file in page_files().items():
        text = file.content.decode()
        addresses = re.findall(r"\b(?:https?|wss?)://[^\s\"'`)]+", text)
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(r"(?:src|href)=[\"']//|\burl\(|@import|\beval\(|innerHTML", text), name


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_small_and_say_what_they_are(script: Path) -> None:
    """A comment first, under 300 lines, and every element that they ask for is in the page."""
    text = script.read_text()
    assert text.startswith("/**")
    assert text.count("\n") < MOST_LINES
    page = (FOLDER / "index.html").read_text()
    for asked in re.findall(r'byId\("([\w-]+)"\)', text):
        assert f'id="{asked}"' in page, asked


@pytest.mark.parametrize(("host", "root_path", "shown"), [
    ("127.0.0.1", "", "http://127.0.0.1:{port}/"),
    ("0.0.0.0", "/lab", "http://127.0.0.1:{port}/lab/"),
])  # fmt: skip
def test_open_shows_an_address_that_this_machine_reaches(
    monkeypatch: pytest.MonkeyPatch, host: str, root_path: str, shown: str
) -> None:
    """Also where the server listens everywhere, and under a prefix."""
    opened, done = [], threading.Event()

    def note(address: str) -> bool:
        opened.append(address)
        done.set()
        return True

    monkeypatch.setattr("webbrowser.open", note)
    with socket.socket() as listening:
        listening.bind((host, 0))
        server.open_page(listening, root_path)
        assert done.wait(10)
        assert opened == [shown.format(port=listening.getsockname()[1])]
