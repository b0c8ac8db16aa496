"""What is installed: packages, the noise kernel, the models, and the settings."""

from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from noisevote import model_store
from noisevote.console.command import NAMES, find, hint
from noisevote.doctor.finding import Finding, failure, ok, warning

# As the server's default, wherever the room is installed.
STORE: Final = Path(str(model_store.__file__)).resolve().parent / "models"
# A module by which each extra is known.
OF_EXTRA: Final = {"serve": "uvicorn", "verify": "scipy", "onnx": "onnx", "training": "torch", "loadtest": "locust"}


def packages() -> Iterator[Finding]:
    """The version, and commands that need what is not installed."""
    try:
        yield ok("noisevote", version("noisevote"))
    except PackageNotFoundError:
        yield failure("noisevote", "is not installed", "pip install it, so that its rooms are found")
    missing: dict[str, list[str]] = {}
    for name in NAMES:
        extra = find(name).EXTRA
        if extra is not None and find_spec(OF_EXTRA.get(extra, extra)) is None:
            missing.setdefault(extra, []).append(name)
    for extra, names in missing.items():
        found = f"noisevote {', noisevote '.join(names)} cannot run here"
        yield warning("packages", found, f"{hint(extra)}, if it shall")
    if not missing:
        yield ok("packages", "every command has what it needs")


def kernel() -> Iterator[Finding]:
    """Whether noise is drawn by the kernel, and on which instruction set."""
    from noisevote.noise_op.library import load_kernel  # noqa: PLC0415  # tells why there is none

    try:
        found = load_kernel()
    except (OSError, AttributeError) as error:  # a library of another version of this package
        yield failure("kernel", f"cannot be loaded: {error}", "install noisevote again, which builds it anew")
        return
    if found is None:
        advice = "install a C++ compiler and noisevote again; until then the slower function body draws the same noise"
        yield warning("kernel", "is not built", advice)
        return
    yield ok("kernel", str(found.path))
    best, here = found.isa, ", ".join(found.isas())
    if best == "portable":
        advice = "a processor with AVX2 or AVX-512 draws several times as fast, and the same noise"
        yield warning("instruction set", best, advice)
    else:
        yield ok("instruction set", f"{best} (this processor can: {here})")


def store(folder: Path) -> tuple[list[Finding], datetime | None]:
    """What of a store can be served, and when its newest version was published."""
    from noisevote.model_store.store import BadManifestError, ModelStore, RefusedFileError  # noqa: PLC0415  # after packages
    from noisevote.model_store.survey import survey  # noqa: PLC0415  # as above

    if not folder.is_dir():
        advice = "name a folder of published models with --model-store or NOISEVOTE_MODEL_STORE; the wheel has none"
        return [failure("store", f"{folder} is no folder", advice)], None
    looked, opened = survey(folder), ModelStore(folder)
    found, published, good = [], [], 0
    for name, number in looked.versions:
        try:
            manifest = opened.manifest(name, number)
            for variant in manifest.variants:
                opened.read(manifest, variant)
        except (BadManifestError, RefusedFileError, OSError) as error:
            found.append(warning("store", f"{name} {number}: {error}", "publish it again, or remove its folder"))
            continue
        good += 1
        published += [manifest.published] if manifest.published is not None else []
    found += [
        warning("store", f"{each.place}: {each.reason}", "it is passed over")
        for each in (*looked.unreadable, *looked.ignored)
    ]
    if good:
        found.insert(0, ok("store", f"{good} versions in {folder}, each file as its manifest says"))
    else:
        found.insert(
            0, failure("store", f"nothing in {folder} can be served", "publish a model, or name another folder")
        )
    return found, max(published, default=None)


def settings() -> Finding:
    """Whether the environment's settings can be used."""
    from noisevote.service.settings import SettingsError, read_settings  # noqa: PLC0415  # of an extra

    try:
        read = read_settings()
    except SettingsError as error:
        return failure("settings", str(error), "docs/settings.md lists the settings")
    most = f"{read.threads} batches at once, of at most {read.most_batch_bytes / 2**20:,.0f} MiB each"
    return ok("settings", f"the environment's can be used; {most}")
