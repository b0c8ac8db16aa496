"""An answer of `…/predict`, computed again from the published file that it names."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from noisevote.engine.errors import BadModelError
from noisevote.engine.session import open_session
from noisevote.engine.trial import Expectation
from noisevote.evaluation.recast import VotesAsked, recast, rule_named
from noisevote.evaluation.verify import STORE, VerifyError, read_inputs
from noisevote.model_store.store import BadManifestError, ModelStore, RefusedFileError, UnknownVersionError
from noisevote.noise_op.library import load_kernel


class ReplayError(Exception):
    """An answer, an input or a model cannot be used; the message names it."""


def cast_again(answer: Mapping[str, Any], files: Sequence[Path], store: Path | None, *, kernel: bool) -> bytes:
    """Cast an answer's votes again.

    Args:
        answer: its keys, as the service gave them; complete, and with its seed.
        files: of its inputs, in their order; see `read_inputs`.
        store: folder of published models; None: that of this repository.
        kernel: on the native kernel, as the service computes; else on the function body that the file carries.

    Returns:
        The same answer with the predictions of now, and each vote, as JSON.

    Raises:
        ReplayError: it cannot be done.
    """
    try:
        return _cast(answer, files, ModelStore(STORE if store is None else store), kernel=kernel)
    except (VerifyError, BadModelError, BadManifestError, RefusedFileError, UnknownVersionError) as error:
        raise ReplayError(str(error)) from error
    except (OSError, ValueError) as error:
        raise ReplayError(str(error)) from error


def _cast(answer: Mapping[str, Any], files: Sequence[Path], store: ModelStore, *, kernel: bool) -> bytes:
    manifest = store.manifest(answer["model"], answer["version"])
    variant = manifest.variant(answer["variant"])
    if variant is None:
        raise ReplayError(f"{manifest.name} {manifest.version} has no variant {answer['variant']!r}")
    inputs = np.concatenate([read_inputs(file, manifest.input) for file in files])
    stop = answer["stop"]
    names = ("seed", "first_vote", "sigma", "noise", "votes", "reads", "alpha")
    asked = VotesAsked(rule=rule_named(stop["rule"], stop.get("delta")), **{name: answer[name] for name in names})
    native = load_kernel() if kernel else None
    if kernel and native is None:
        raise ReplayError("the native kernel is not built here; the function body computes the same noise")
    session = open_session(store.read(manifest, variant), Expectation.of(manifest, variant), native)
    told = {"sha256": variant.sha256, "operator": manifest.operator_version(variant)}
    return json.dumps({**answer, **told, "predictions": recast(asked, inputs, session, manifest.classes)}).encode()
