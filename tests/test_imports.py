import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "voting": set[str](),
    "noise_op": set[str](),
    "model_store": {"voting", "noise_op"},
    "engine": {"noise_op", "model_store"},
    "evaluation": {"voting", "noise_op", "model_store", "engine"},
    "training": {"voting", "noise_op", "model_store", "engine", "evaluation"},
    "service": {"voting", "noise_op", "model_store", "engine"},
    "loadtest": set[str](),
    "noisevote": {"noise_op", "model_store", "evaluation", "training", "service", "loadtest"},
    "deploy": {"voting", "noise_op", "model_store", "engine", "service"},
}
PACKAGE = "noisevote"  # what the rooms are installed as: noisevote.service and so on
UNINSTALLED = {"deploy"}  # files beside the package, imported by the name of their folder
TRAINING_LIBRARIES = {"torch", "onnx", "onnxscript", "safetensors"}
# Importing Locust replaces the sockets and threads of the whole process.
LOAD_LIBRARIES = {"locust", "gevent"}
FORBIDDEN_LIBRARIES = {
    "service": TRAINING_LIBRARIES | LOAD_LIBRARIES | {"ray"},
    "model_store": TRAINING_LIBRARIES | {"onnxruntime"},
    "engine": TRAINING_LIBRARIES,
    "evaluation": TRAINING_LIBRARIES,
    "loadtest": TRAINING_LIBRARIES | {"onnxruntime"},
    "noisevote": LOAD_LIBRARIES,
    "deploy": TRAINING_LIBRARIES | LOAD_LIBRARIES,
}
# `voting` is what certificates rest on: NumPy, SciPy and the standard library, and nothing that does input or output.
VOTING_LIBRARIES = {"numpy", "scipy"}
STANDARD_IN_VOTING = {"math", "dataclasses", "fractions", "functools", "typing", "collections", "enum"}
# What the rooms that serve load of noise_op, so that they start without the training packages.
SERVED = (
    "noise_op/__init__.py",
    "noise_op/contract.py",
    "noise_op/library.py",
    "noise_op/reference.py",
    "noise_op/nibble_tables.py",
)
SERVING_ROOMS = ("model_store", "engine", "evaluation", "service", "deploy")
# What of the room that measures looks into ONNX files, by noise_op's own files for it; they need the package onnx.
LOOKING_INTO_FILES = {
    "gate.py", "gate_sites.py", "source.py", "inject.py", "publication.py", "publish.py", "costs.py",
    "injection_record.py", "per_site.py",
}  # fmt: skip
OF_ONNX = (
    "noise_op/onnx_injection.py",
    "noise_op/onnx_preparation.py",
    "noise_op/onnx_probes.py",
    "noise_op/onnx_versions.py",
    "noise_op/errors.py",
)

# Along a request's path backwards: each part of the service imports those before it, never those after it.
SERVICE = (
    "importing", "errors", "once", "validation", "cgroups", "cpus", "memory", "settings", "unread", "callers",
    "scheduling", "traces", "models", "statistics", "triton_metrics", "instruments", "metrics", "backends",
    "prediction", "runtime", "open_inference", "rest", "grpc", "connections", "output", "key_command", "telemetry",
    "app", "__main__",
)  # fmt: skip
# Scheduling is tested without a server and without a model: it knows neither.
NOT_IN_SCHEDULING = {"fastapi", "starlette", "orjson", "prometheus_client", "onnxruntime", "pydantic_settings"}
ENGINE_WITHOUT_ONNX_RUNTIME = {f"noisevote.engine.{name}" for name in ("feeds", "footprint", "session_key", "trial")}


@cache
def modules() -> list[tuple[str, Path]]:
    """Every Python file of the rooms, with its room."""
    return [
        (room, path)
        for room in ALLOWED
        for path in sorted((ROOT / room).rglob("*.py"))  # which does not follow the links inside noisevote/
    ]


def name_of(room: str, path: Path) -> str:
    """The dotted name that a file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if room in UNINSTALLED or room == PACKAGE else (PACKAGE, *parts))


@cache
def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_of(names: set[str]) -> set[str]:
    """The rooms that dotted names belong to."""
    inside = {name.split(".")[1] for name in names if name.startswith(f"{PACKAGE}.")}
    return (inside & set(ALLOWED)) | {name.split(".")[0] for name in names if name.split(".")[0] in UNINSTALLED}


def roots_of(names: set[str]) -> set[str]:
    """First parts of dotted names."""
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize(("room", "path"), modules(), ids=lambda value: str(value).removeprefix(f"{ROOT}/"))
def test_rooms_import_one_way(room: str, path: Path) -> None:
    """A room imports the rooms below it and no other; what serves never loads torch or onnx.

    Rooms are imported by their installed name alone: under two names a module would be there twice.
    """
    names = imported(path)
    assert rooms_of(names) <= ALLOWED[room] | {room}
    assert not roots_of(names) & FORBIDDEN_LIBRARIES.get(room, set())
    assert not roots_of(names) & ({"tests", "benchmarks"} | (set(ALLOWED) - UNINSTALLED - {PACKAGE}))


def test_the_service_imports_against_a_requests_path() -> None:
    """Later parts import earlier ones; a protocol imports what all protocols share, never another protocol."""
    files = [path for room, path in modules() if room == "service" and path.name != "__init__.py"]
    for path in files:
        part = path.relative_to(ROOT / "service").parts[0].removesuffix(".py")
        named = {name.split(".")[2] for name in imported(path) if name.startswith(f"{PACKAGE}.service.")}
        assert named <= set(SERVICE[: SERVICE.index(part) + 1]), path
    shared = [path for path in files if path.parent == ROOT / "service" / "rest"]
    assert shared
    protocols = {path.name for path in (ROOT / "service" / "rest").iterdir() if (path / "__init__.py").exists()}
    for path in files:
        inside = path.relative_to(ROOT / "service").parts
        own = {inside[1]} & protocols if inside[0] == "rest" else set()
        used = {
            name.split(".")[3] for name in imported(path) if name.startswith(f"{PACKAGE}.service.rest.")
        } & protocols
        assert path.name == "app.py" or used <= own, path


def test_scheduling_knows_no_http_no_model_and_no_metrics() -> None:
    """It is handed an engine, a clock and whoever wants to hear of batches."""
    for path in sorted((ROOT / "service" / "scheduling").glob("*.py")):
        names = imported(path)
        assert not roots_of(names) & NOT_IN_SCHEDULING, path
        of_engine = {name for name in names if name.startswith(f"{PACKAGE}.engine.") and name.count(".") == 2}
        assert of_engine <= ENGINE_WITHOUT_ONNX_RUNTIME, path


def test_voting_is_pure() -> None:
    """`voting` imports NumPy, SciPy and arithmetic: no file, no clock, no thread, no random number."""
    for path in (path for room, path in modules() if room == "voting"):
        foreign = roots_of(imported(path)) - VOTING_LIBRARIES - STANDARD_IN_VOTING - {PACKAGE}
        assert not foreign, f"{path}: {foreign}"


def test_what_serves_loads_of_noise_op_no_training_package() -> None:
    """The contract, the library, the reference and its tables stay free of torch, onnx and ONNX Runtime.

    They are all that the rooms that serve or measure import of noise_op; the store needs the contract alone.
    """
    for name in SERVED:
        names = imported(ROOT / name)
        assert not roots_of(names) & (TRAINING_LIBRARIES | {"onnxruntime"})
        assert {f"{module.replace('.', '/')}.py" for module in _of_noise_op(names)} <= set(SERVED)
    for room, path in modules():
        if room in SERVING_ROOMS:
            allowed: tuple[str, ...] = SERVED[:2] if room == "model_store" else SERVED
            allowed += OF_ONNX if room == "evaluation" and path.name in LOOKING_INTO_FILES else ()
            used = {f"{module.replace('.', '/')}.py" for module in _of_noise_op(imported(path))}
            assert used <= set(allowed), path


def _of_noise_op(names: set[str]) -> set[str]:
    """Modules of noise_op among dotted names, as `noise_op.<file>`."""
    inside = {name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(f"{PACKAGE}.noise_op.")}
    return {name for name in inside if (ROOT / f"{name.replace('.', '/')}.py").exists()}


def test_only_the_process_that_makes_load_imports_locust() -> None:
    """Nothing that the command imports, directly or not, patches the process: voter.py and who imports it do."""
    patching = {"voter", "generator", "locustfile"}
    for _, path in (found for found in modules() if found[0] == "loadtest" and found[1].stem not in patching):
        assert not roots_of(imported(path)) & LOAD_LIBRARIES, path
        assert not imported(path) & {f"{PACKAGE}.loadtest.{name}" for name in patching}, path


def test_only_one_file_needs_ray() -> None:
    """Whatever else scales out can be imported, and is tested, without it."""
    needing = [path.name for _, path in modules() if "ray" in roots_of(imported(path))]
    assert needing == ["ray_serve.py"]


def test_the_client_needs_what_the_base_installs() -> None:
    """httpx, NumPy and pydantic: no room, no command, and no package of an extra."""
    for path in sorted((ROOT / PACKAGE / "client").glob("*.py")):
        names = imported(path)
        assert {name for name in names if name.startswith(PACKAGE)} <= {
            name for name in names if name.startswith(f"{PACKAGE}.client")
        }, path
        assert roots_of(names) - {PACKAGE} <= {"httpx", "numpy", "pydantic"} | set(sys.stdlib_module_names), path


def test_training_is_a_pipeline() -> None:
    """A package of training imports those of the steps before its own, and the commands stand above all."""
    steps = ("data", "networks", "runs", "noise", "attack", "fit", "measure", "card", "publish", "report", "commands")
    folder = ROOT / "training"
    assert {path.name for path in folder.iterdir() if (path / "__init__.py").exists()} == set(steps)
    for place, step in enumerate(steps):
        for path in sorted((folder / step).rglob("*.py")):
            used = {name.split(".")[2] for name in imported(path) if name.startswith(f"{PACKAGE}.training.")}
            assert used <= {"errors", *steps[: place + 1]}, path


def test_every_room_is_linked_into_the_package() -> None:
    """A room that is not installed under noisevote/ would be missing from the wheel."""
    linked = {path.name: path.readlink() for path in (ROOT / PACKAGE).iterdir() if path.is_symlink()}
    assert linked == {room: Path("..") / room for room in set(ALLOWED) - UNINSTALLED - {PACKAGE}}


def test_there_are_no_import_cycles() -> None:
    """Following imports between our own modules never comes back."""
    names = {name_of(room, path): path for room, path in modules()}
    assert Counter(names.values()).most_common(1)[0][1] == 1
    edges = {name: imported(path) & set(names) - {name} for name, path in names.items()}
    assert sum(map(len, edges.values())) > len(names)  # imports were understood
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail, name))
        if name not in done:
            for target in edges[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_a_server_starts_without_what_it_does_not_need() -> None:
    """Of SciPy it loads the special functions: the rest would take 25 MiB and half a second of each start.

    Of NumPy it loads no tools of developers either, nor pydantic's former version or uvicorn's watch over files; they
    are there once they are asked for, and so is the description at /docs. What `noisevote serve` imports is collected
    neither meanwhile nor later.
    """
    code = """
import gc, sys
from noisevote.service.importing import leanly
with leanly():
    import noisevote.service.__main__
assert gc.isenabled() and gc.get_freeze_count() > 100_000 and sum(gc.get_count()) < 10_000
print(*(name for name in sys.modules if name.count('.') < 2))
import numpy, scipy.stats
assert numpy.f2py and numpy.testing and {"f2py", "testing", "ma"} <= set(dir(numpy)) and "ma" in numpy.__all__
assert scipy.stats.binomtest(9, 10).pvalue > 0
from noisevote.service.app import create_app
from noisevote.service.settings import Settings
assert "/v1/models/{name}/predict" in create_app(Settings(insecure=True)).openapi()["paths"]
from pydantic import BaseModel, v1
assert v1.BaseModel and not BaseModel.model_config
"""
    started = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(started.stdout.split())
    assert "scipy.special" in loaded
    of_scipy = {"scipy.interpolate", "scipy.optimize", "scipy.stats", "scipy.linalg"}
    of_numpy = {"numpy.f2py", "numpy.testing", "numpy.ma", "numpy.polynomial", "unittest"}
    unwanted = {"pydantic.v1", "watchfiles", "torch", "onnx", "locust", "ray", "limits"}
    assert not loaded & (of_scipy | of_numpy | unwanted)
