"""The image, built and run. See container.py for what it takes."""

import re
from pathlib import Path

import httpx
import pytest

from noisevote.model_store.store import ModelStore
from tests.support.container import Engine, build_image, container, find_engine
from tests.support.readme import assert_answers_the_example
from tests.support.serving import publish_tiny

MAX_BYTES = 600_000_000
LOOK_INSIDE = """
import importlib.util, os, shutil
from noisevote.noise_op.library import load_kernel
assert load_kernel() is not None
assert os.getuid() != 0
absent = ("torch", "onnx", "cmake", "pip", "locust", "noisevote.training", "noisevote.evaluation", "noisevote.loadtest")
found = [name for name in absent if importlib.util.find_spec(name)]
found += [name for name in ("g++", "gcc", "cmake", "ninja") if shutil.which(name)]
assert not found, found
"""


@pytest.fixture(scope="module")
def engine() -> Engine:
    """What runs containers here."""
    return find_engine()


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    """The image of this tree."""
    return build_image(engine)


def test_the_image_holds_what_serves_and_little_else(
    engine: Engine, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under 600 MB, with the kernel, without torch, training, pip and compilers, and its user is not root."""
    size = engine.inspect(image)["Size"]
    with capsys.disabled():
        print(f"\nimage: {size / 1e6:.0f} MB")
    assert size < MAX_BYTES
    engine("run", "--rm", image, "python", "-c", LOOK_INSIDE)


def test_a_container_without_rights_answers_as_documented_and_stops_cleanly(engine: Engine, image: str) -> None:
    """Read-only, no capabilities: healthy by its own check, the README's answer, metrics, 0 on SIGTERM."""
    with container(engine, image, "--env", "NOISEVOTE_INSECURE=true") as (name, address):
        configured = engine.inspect(image)
        # where docker puts it, and where podman does
        health = configured["Config"].get("Healthcheck") or configured["Healthcheck"]
        assert health["Test"][0] == "CMD"
        engine("exec", name, *health["Test"][1:])
        assert_answers_the_example(address)
        assert "noisevote_votes_cast_total{" in httpx.get(f"{address}/metrics").text
        engine("stop", name)
        assert engine.inspect(name)["State"]["ExitCode"] == 0


def test_a_container_shows_its_key_once(engine: Engine, image: str) -> None:
    """`docker run` works at once, and serves nobody who has not seen its log."""
    with container(engine, image) as (name, address):
        (key,) = re.findall(r"nv_[\w-]+", engine("logs", name))
        assert httpx.get(f"{address}/v1/models").status_code == 401
        assert httpx.get(f"{address}/v1/models", headers={"x-api-key": key}).status_code == 200


def test_a_mounted_folder_is_served_instead(engine: Engine, image: str, tmp_path: Path) -> None:
    """Models of one's own at /models."""
    publish_tiny(ModelStore(tmp_path / "models"))
    tmp_path.chmod(0o755)
    store = ("--volume", f"{tmp_path / 'models'}:/models:ro")
    with container(engine, image, "--env", "NOISEVOTE_INSECURE=true", *store) as (_, address):
        models = httpx.get(f"{address}/v1/models").json()["models"]
    assert [model["name"] for model in models] == ["tiny"]
