"""deploy/proxy/nginx.conf in front of a server, with a certificate made for the test."""

import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.rest.keys import key_line
from tests.support.graphs import SHAPE
from tests.support.process import ROOT, TIMEOUT_S, free_port, server, start_line
from tests.support.serving import publish_tiny

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]
CONF = (ROOT / "deploy" / "proxy" / "nginx.conf").read_text()
BODY: dict[str, Any] = {"inputs": [[[[0.5] * SHAPE[2]] * SHAPE[1]]], "seed": 1}
PREDICT = "v1/models/tiny/predict"
ALICE = {"authorization": "Bearer alice"}


def certificate(folder: Path) -> None:
    """A key and a certificate of localhost, signed by itself."""
    files = ["-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")]
    about = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*command, *files, *about], check=True, capture_output=True, timeout=TIMEOUT_S)


def configuration(folder: Path, upstream: str, port: int) -> Path:
    """The file as it is shipped, but for addresses, paths, and what nginx needs without rights."""
    path = folder / "nginx.conf"
    changed = CONF
    for shipped, here in {
        "pid /run/noisevote-nginx.pid;": f"pid {folder}/nginx.pid;\ndaemon off;\n",
        "server 127.0.0.1:8000;": f"server {upstream};",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{port} ssl http2;",
        "server_name noisevote.example;": "server_name localhost;",
        "/etc/ssl/noisevote/": f"{folder}/",
        "access_log off;": "access_log off;\n"
        + "\n".join(
            f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
    }.items():
        assert shipped in changed
        changed = changed.replace(shipped, here)
    path.write_text(changed)
    return path


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, str]]:
    """A client of nginx in front of a server with a key, and the server's own address."""
    folder = tmp_path_factory.mktemp("proxy")
    publish_tiny(ModelStore(folder / "models"))
    (folder / "keys.jsonl").write_text(key_line("alice", ["predict"], "alice"))
    certificate(folder)
    port = free_port()
    flags = ("--model-store", str(folder / "models"), "--keys-file", str(folder / "keys.jsonl"))
    with server("--port", "0", *flags, "--root-path", "/noisevote") as process:
        address = start_line(process)[1]
        conf = configuration(folder, address.removeprefix("http://"), port)
        nginx = subprocess.Popen([str(NGINX), "-e", "stderr", "-p", str(folder), "-c", str(conf)])
        trusted = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
        try:
            with httpx.Client(base_url=f"https://localhost:{port}/noisevote/", verify=trusted, timeout=30) as client:
                wait_until_ready(client, nginx)
                yield client, address
        finally:
            nginx.terminate()
            nginx.wait(TIMEOUT_S)


def wait_until_ready(client: httpx.Client, nginx: subprocess.Popen[bytes]) -> None:
    """Return once models are served through the proxy."""
    patience = time.monotonic() + TIMEOUT_S
    while True:
        try:
            if client.get("readyz").is_success:
                return
        except httpx.TransportError:
            assert nginx.poll() is None
        assert time.monotonic() < patience
        time.sleep(0.05)


def test_tls_and_keys_work_through_the_proxy(proxied: tuple[httpx.Client, str]) -> None:
    """401 without a key; with it the same answer as without the proxy, and its stream."""
    client, address = proxied
    assert client.get("v1/models").status_code == 401
    through = client.post(PREDICT, json=BODY, headers=ALICE)
    straight = httpx.post(f"{address}/{PREDICT}", json=BODY, headers=ALICE)
    assert through.status_code == straight.status_code == 200
    assert through.json()["predictions"] == straight.json()["predictions"]
    assert "max-age" in through.headers["strict-transport-security"]
    with client.stream("POST", f"{PREDICT}/stream", json=BODY, headers=ALICE) as stream:
        assert "event: answer" in "".join(stream.iter_text())


def test_nothing_leads_past_the_proxy(proxied: tuple[httpx.Client, str]) -> None:
    """Redirects and the documentation stay under its name, its scheme and its prefix."""
    client, _ = proxied
    for path, end in (("", ""), ("v1/models/", "v1/models")):
        answer = client.get(path, headers=ALICE, follow_redirects=True)
        assert answer.status_code == 200
        assert answer.url == client.base_url.join(end)
    assert client.get("openapi.json").json()["servers"] == [{"url": "/noisevote"}]
    own = {"origin": str(client.base_url).removesuffix("/noisevote/"), **ALICE}
    assert client.post(PREDICT, json=BODY, headers=own).status_code == 200
    assert client.post(PREDICT, json=BODY, headers=own | {"origin": "https://evil.example"}).status_code == 403


def test_a_keyless_server_behind_it_refuses(proxied: tuple[httpx.Client, str], tmp_path: Path) -> None:
    """What would publish it by accident is told so."""
    publish_tiny(ModelStore(tmp_path / "models"))
    with server("--port", "0", "--model-store", str(tmp_path / "models")) as process:
        address = start_line(process)[1]
        sent = {"x-forwarded-for": "203.0.113.9", "host": "localhost"}
        answer = httpx.get(f"{address}/v1/models", headers=sent)
    assert answer.status_code == 403
    assert "proxy" in answer.json()["error"]["message"]
