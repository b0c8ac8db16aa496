"""What a browser does with a server of this machine: its documentation, and pages elsewhere that would drive it."""

import functools
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from noisevote.model_store.store import ModelStore
from tests.support.process import TIMEOUT_S, ended, server, start_line
from tests.support.serving import publish_tiny

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.prove, pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")]

# As a page would try it: as a form does, by script without and with CORS, and as an image. Then it is done.
ATTACK = """<title>begun</title><script>
const url = "http://127.0.0.1:PORT/v1/models";
const tries = [
  fetch(url, {mode: "no-cors"}), fetch(url),
  fetch(url + "/tiny/predict", {method: "POST", mode: "no-cors", body: "{}"}),
  fetch(url, {method: "POST", headers: {"content-type": "application/json"}, body: "{}"}),
  new Promise(done => { const image = new Image(); image.onerror = done; image.src = url; }),
];
Promise.allSettled(tries).then(() => { document.title = "tried"; });
</script>"""


def dom(url: str, folder: Path, *flags: str) -> tuple[str, str]:
    """The page as the browser has it in the end, and what it complained about."""
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'browser'}"]
    command += ["--virtual-time-budget=8000", "--enable-logging=stderr", *flags, "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@contextmanager
def elsewhere(folder: Path) -> Iterator[int]:
    """Port of a server of this folder's pages."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        yield pages.server_address[1]
        pages.shutdown()


def test_the_documentation_is_shown_under_its_own_policy(tmp_path: Path) -> None:
    """Every operation is there, and the browser blocked nothing."""
    publish_tiny(ModelStore(tmp_path / "models"))
    with server("--port", "0", "--model-store", str(tmp_path / "models")) as process:
        page, complaints = dom(f"{start_line(process)[1]}/docs", tmp_path)
    assert "/v1/models/{name}/predict" in page.replace("<wbr>", "").replace("\u200b", "")
    assert page.count("opblock-summary-path") > 8
    assert complaints == ""


def test_a_page_elsewhere_drives_nothing(tmp_path: Path) -> None:
    """Whatever way it tries, each of its requests is refused; under a name that it made resolve to here as well."""
    publish_tiny(ModelStore(tmp_path / "models"))
    (tmp_path / "pages").mkdir()
    flags = ("--port", "0", "--model-store", str(tmp_path / "models"), "--access-log", "on")
    with server(*flags) as process, elsewhere(tmp_path / "pages") as port:
        here = start_line(process)[1].rpartition(":")[2]
        (tmp_path / "pages" / "attack.html").write_text(ATTACK.replace("PORT", here))
        page, _ = dom(f"http://localhost:{port}/attack.html", tmp_path)
        assert "<title>tried</title>" in page
        rebound, _ = dom(f"http://evil.example:{here}/v1/models", tmp_path, "--host-resolver-rules=MAP * 127.0.0.1")
        assert "tiny" not in rebound
        process.send_signal(signal.SIGTERM)
        _, _, errors = ended(process)
    lines = [line for line in errors.splitlines() if "path=/v1/models" in line]
    assert len(lines) >= 6
    assert all("status=403" in line for line in lines)
