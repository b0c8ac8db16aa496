"""Builds and runs the image with whatever container engine there is.

`CONTAINER_ENGINE` names a command that understands docker's arguments (default: docker, else podman), and
`BASE_IMAGE` what to build on (default: the Dockerfile's).
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.support.process import ROOT, TIMEOUT_S

IMAGE = "noisevote-test"
BUILD_S = 600
PULL_S = 120
UNPRIVILEGED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


class Engine:
    """A docker-compatible command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def tries(self, *arguments: str, timeout: float = TIMEOUT_S) -> subprocess.CompletedProcess[str]:
        """Run it, well or not; status 124: not in time. The image format that podman prefers would lose HEALTHCHECK."""
        command = [self.command, *arguments]
        environment = os.environ | {"BUILDAH_FORMAT": "docker"}
        try:
            return subprocess.run(
                command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"not done after {timeout} s")

    def __call__(self, *arguments: str, timeout: float = TIMEOUT_S) -> str:
        """Its output; it must succeed."""
        done = self.tries(*arguments, timeout=timeout)
        assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip()

    def inspect(self, what: str) -> dict[str, Any]:
        """Description of an image or a container."""
        (description,) = json.loads(self("inspect", what))
        return dict(description)


def find_engine() -> Engine:
    """An engine that answers; skips the test where there is none."""
    named = os.environ.get("CONTAINER_ENGINE")
    problems = []
    for name in [named] if named else ["docker", "podman"]:
        path = shutil.which(name)
        if path is None:
            problems.append(f"{name} is not installed")
        elif Engine(path).tries("info").returncode:
            problems.append(f"{name} finds no engine that answers")
        else:
            return Engine(path)
    assert not named, f"CONTAINER_ENGINE: {problems}"
    pytest.skip(f"no container engine: {', '.join(problems)}")


def build_image(engine: Engine) -> str:
    """The image built from this tree; skips the test where its base cannot be had."""
    default = re.search(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert default is not None
    base = os.environ.get("BASE_IMAGE", default[1])
    if engine.tries("image", "inspect", base).returncode and engine.tries("pull", base, timeout=PULL_S).returncode:
        pytest.skip(f"the base image {base} is not here and cannot be pulled")
    engine("build", "--build-arg", f"BASE_IMAGE={base}", "--tag", IMAGE, ".", timeout=BUILD_S)
    return IMAGE


@contextmanager
def container(engine: Engine, image: str, *arguments: str) -> Iterator[tuple[str, str]]:
    """A container with as few rights as can be: its name, and its address once it is ready."""
    name = engine("run", "--detach", *UNPRIVILEGED, "--publish", "127.0.0.1::8000", *arguments, image)
    try:
        address = f"http://{engine('port', name, '8000')}"
        wait_until_ready(engine, name, address)
        yield name, address
    finally:
        engine("rm", "--force", name)


def wait_until_ready(engine: Engine, name: str, address: str) -> None:
    """Return once models are served."""
    patience = time.monotonic() + TIMEOUT_S
    while True:
        try:
            if httpx.get(f"{address}/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        logs = engine.tries("logs", name)
        assert engine.inspect(name)["State"]["Running"], logs.stdout + logs.stderr
        assert time.monotonic() < patience, logs.stdout + logs.stderr
        time.sleep(0.2)
