import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "noise_op": set[str](),
    "model_store": set[str](),
    "training": {"noise_op", "model_store"},
    "service": {"noise_op", "model_store"},
    "loadtest": set[str](),
    "noisevote": {"service", "loadtest"},
    "deploy": {"service", "noise_op", "model_store"},
}
TRAINING_LIBRARIES = {"torch", "onnx", "onnxscript", "safetensors"}
# Importing Locust replaces the sockets and threads of the whole process.
LOAD_LIBRARIES = {"locust", "gevent"}
FORBIDDEN_LIBRARIES = {
    "service": TRAINING_LIBRARIES | LOAD_LIBRARIES | {"ray"},
    "model_store": {"torch", "onnx"},
    "loadtest": TRAINING_LIBRARIES | {"onnxruntime"},
    "noisevote": LOAD_LIBRARIES,
    "deploy": TRAINING_LIBRARIES | LOAD_LIBRARIES,
}
# What the service loads of noise_op, so that it starts without the training packages.
SERVED = ("noise_op/__init__.py", "noise_op/contract.py", "noise_op/library.py")


def modules() -> list[tuple[str, Path]]:
    """Every Python file of the rooms, with its room."""
    return [(room, path) for room in ALLOWED for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in the file."""
    names = set()
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(("room", "path"), modules(), ids=lambda value: str(value).removeprefix(f"{ROOT}/"))
def test_rooms_import_one_way(room: str, path: Path) -> None:
    """Imports run training → {noise_op, model_store} ← service ← {deploy, noisevote}, and noisevote → loadtest.

    What serves never loads torch or onnx, and no room but loadtest loads Locust.
    """
    roots = {name.split(".")[0] for name in imported(path)}
    assert roots & set(ALLOWED) <= ALLOWED[room] | {room}
    assert not roots & FORBIDDEN_LIBRARIES.get(room, set())
    assert not roots & {"tests", "benchmarks"}


def test_what_the_service_loads_of_noise_op_needs_no_training_package() -> None:
    """contract.py and library.py, and what they import of noise_op, stay free of torch and onnx."""
    for name in SERVED:
        assert not {root.split(".")[0] for root in imported(ROOT / name)} & {"torch", "onnx"}
        ours = {module for module in imported(ROOT / name) if module.startswith("noise_op.")}
        assert {
            f"{module.replace('.', '/')}.py" for module in ours if (ROOT / f"{module.replace('.', '/')}.py").exists()
        } <= set(SERVED)
    used = {module for room, path in modules() if room == "service" for module in imported(path)}
    files = {f"{module.replace('.', '/')}.py" for module in used if module.startswith("noise_op.")}
    assert {name for name in files if (ROOT / name).exists()} <= set(SERVED)


def test_only_the_process_that_makes_load_imports_locust() -> None:
    """Nothing that the command imports, directly or not, patches the process: voter.py and who imports it do."""
    patching = {"voter", "generator", "locustfile"}
    for _, path in (found for found in modules() if found[0] == "loadtest" and found[1].stem not in patching):
        assert not {name.split(".")[0] for name in imported(path)} & LOAD_LIBRARIES, path
        assert not imported(path) & {f"loadtest.{name}" for name in patching}, path


def test_only_one_file_needs_ray() -> None:
    """Whatever else scales out can be imported, and is tested, without it."""
    needing = [path.name for _, path in modules() if "ray" in {name.split(".")[0] for name in imported(path)}]
    assert needing == ["ray_serve.py"]


def test_there_are_no_import_cycles() -> None:
    """Following imports between our own modules never comes back."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for _, path in modules()}
    edges = {name: imported(path) & set(names) - {name} for name, path in names.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail, name))
        if name not in done:
            for target in edges[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in edges:
        visit(name, ())
