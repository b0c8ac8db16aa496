"""What is built and installed: the wheel, the source archive, and a checkout installed as editable."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import httpx
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.rest.playground.files import FOLDER, page_files
from tests.support.process import ROOT, TIMEOUT_S, clean_environment
from tests.support.serving import publish_tiny

BUILD_S = 180
BUILD = """
import sys
from scikit_build_core import build

kind, target, folder = sys.argv[1:]
# Optimised, the kernel takes a compiler ten times as long; what every checkout compiles for itself is optimised.
settings = {"build-dir": folder, "cmake.define.CMAKE_CXX_FLAGS_RELEASE": "-O0"}
getattr(build, f"build_{kind}")(target, settings)
"""


def built(kind: str, source: Path, target: Path) -> Path:
    """A wheel or a source archive of a tree."""
    target.mkdir()
    command = [sys.executable, "-c", BUILD, kind, str(target), str(target / "build")]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=BUILD_S)
    (found,) = (path for path in target.iterdir() if path.is_file())
    return found


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive of this tree."""
    return built("sdist", ROOT, tmp_path_factory.mktemp("archive") / "sdist")


@pytest.fixture(scope="module")
def wheel(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the archive, as installers do it."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    return built("wheel", folder / archive.name.removesuffix(".tar.gz"), folder / "wheel")


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked where Python looks for packages."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder)
    return folder


def installed(site: Path, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Python on the unpacked wheel; -S: no .pth files, so that this checkout does not step in front."""
    path = os.pathsep.join([str(site), sysconfig.get_path("purelib")])
    return subprocess.Popen(
        [sys.executable, "-S", *arguments],
        cwd=cwd,
        env=clean_environment(PYTHONPATH=path, NOISEVOTE_TIMINGS_FILE=str(site.parent / "timings.json")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_archive_has_each_file_once_and_no_model(archive: Path) -> None:
    """The rooms are links in it as they are here."""
    with tarfile.open(archive) as content:
        members = content.getmembers()
    inside = {member.name.partition("/")[2]: member for member in members}
    links = {name: member.linkname for name, member in inside.items() if member.issym()}
    rooms = {path.name for path in (ROOT / "noisevote").iterdir() if path.is_symlink()}
    assert links == {f"noisevote/{room}": f"../{room}" for room in rooms} | {".editable/noisevote": "../noisevote"}
    assert "model_store/store.py" in inside
    assert not [name for name in inside if name.startswith(("tests/", "model_store/models/")) or name.endswith(".so")]


def test_the_wheel_is_one_package_with_the_kernel_and_without_models_and_tests(wheel: Path) -> None:
    """Every Python file of the rooms and the playground's page, under noisevote/ alone; typed; no build tools."""
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    assert {name.partition("/")[0] for name in names} == {"noisevote", wheel.name.split("-py3-")[0] + ".dist-info"}
    ours = {name for name in names if name.startswith("noisevote/")}
    rooms = [path for path in (ROOT / "noisevote").iterdir() if path.is_symlink()]
    files = (file for room in rooms for file in room.resolve().rglob("*") if file.suffix in {".py", ".pyi", ".proto"})
    sources = {f"noisevote/{file.relative_to(ROOT)}" for file in files}
    package = (ROOT / "noisevote").rglob("*")  # which does not follow the links
    own = {str(file.relative_to(ROOT)) for file in package if file.suffix in {".py", ".typed"}}
    page = {f"noisevote/{(FOLDER / name).relative_to(FOLDER.parents[3])}" for name in page_files()}
    built = {"noisevote/noise_op/libnoisevote_kernel.so", "noisevote/training/libnoisevote_training.so"}
    assert ours == sources | own | page | built


def test_what_is_installed_serves_a_store(site: Path, tmp_path: Path) -> None:
    """On the kernel that was built with it."""
    publish_tiny(ModelStore(tmp_path / "models"))
    flags = ("--port", "0", "--model-store", str(tmp_path / "models"))
    with installed(site, "-m", "noisevote", "serve", *flags, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "| kernel" in line
            address = line.split()[2]
            assert httpx.get(f"{address}/readyz", timeout=TIMEOUT_S).is_success
        finally:
            process.kill()


def test_without_a_store_it_says_how_to_name_one(site: Path, tmp_path: Path) -> None:
    """The models are no part of the wheel."""
    with installed(site, "-m", "noisevote", "serve", cwd=tmp_path) as process:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, output) == (2, "")
    folder = site / "noisevote" / "model_store" / "models"
    assert errors.startswith(f"noisevote: model_store: its default {str(folder)!r}: ")
    assert errors.endswith("set --model-store or NOISEVOTE_MODEL_STORE\n")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("init", [True, False], ids=["packages", "folders"])
def test_beside_an_editable_install_packages_of_ones_own_are_found(init: bool, tmp_path: Path) -> None:
    """Whatever the rooms of this repository are called, and although `noisevote` itself is there."""
    names = ("training", "service", "tests")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "my_loop.py").write_text(f"def {name}(): return 'my {name}'\n")
        if init:
            (tmp_path / name / "__init__.py").touch()
    own = [f"from {name}.my_loop import {name}" for name in names]
    ours = "import noisevote.service.settings, noisevote.training.runs.recipe"
    code = "\n".join([*own, ours, "print(training(), service(), tests(), sep=', ')"])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "my training, my service, my tests\n"
