"""Loads what is published: every variant of every version that can be served, each timed once."""

import logging

from noisevote.engine.errors import BadModelError
from noisevote.engine.session_key import SessionKey
from noisevote.model_store.manifest import Variant
from noisevote.model_store.store import BadManifestError, ModelStore, Publication
from noisevote.service.models.registry import ModelRegistry, Refusal, ServedVersion
from noisevote.service.scheduling.batch_size import BatchProfile, Clock, measure
from noisevote.service.scheduling.engine import Engine

logger = logging.getLogger(__name__)


def load_models(store: ModelStore, engine: Engine, most_rows: int, clock: Clock) -> ModelRegistry:
    """Load every variant of every published version, and time batches of up to `most_rows` rows of each network.

    What cannot be loaded is refused by name.
    """
    models: dict[str, dict[str, ServedVersion]] = {}
    refusals: list[Refusal] = []
    for name in store.names():
        for version in store.versions(name):
            try:
                served = _load_version(store.publication(name, version), engine, most_rows, clock)
            except BadManifestError as error:
                refusals.append(Refusal(f"{name} {version}", str(error)))
                continue
            refusals += [Refusal(f"{name} {version} {each}", reason) for each, reason in served.refused.items()]
            if served.variants:
                models.setdefault(name, {})[version] = served
    for refusal in refusals:
        logger.warning("refused: %s: %s", *refusal)
    return ModelRegistry(models, tuple(refusals))


def _load_version(publication: Publication, engine: Engine, most_rows: int, clock: Clock) -> ServedVersion:
    manifest, refused = publication.manifest, dict(publication.refusals)
    shapes = {variant.name: _shape(variant) for variant in manifest.variants}
    measured: dict[tuple[str | int, ...], BatchProfile] = {}  # variants of one network differ in weights, not in time
    profiles = {}
    for variant, content in publication.files.items():
        key = SessionKey(manifest.name, manifest.version, variant)
        try:
            engine.load(key, manifest, content)
        except BadModelError as error:
            refused[variant] = str(error)
        else:
            shape = shapes[variant]
            if shape not in measured:
                measured[shape] = measure(engine, key, manifest, most_rows, clock)
            profiles[key] = measured[shape]
    loaded = tuple(variant for variant in manifest.variants if variant.name not in refused)
    return ServedVersion(manifest, loaded, refused, profiles)


def _shape(variant: Variant) -> tuple[str | int, ...]:
    """What decides how long a vote of the variant takes."""
    return variant.network, variant.parameters, variant.multiply_accumulates, variant.samples, variant.layers
