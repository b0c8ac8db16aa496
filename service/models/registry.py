"""What is served: the versions and variants of the model store that could be loaded, and why others could not."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from noisevote.engine.errors import BadModelError
from noisevote.engine.session_key import SessionKey
from noisevote.model_store.manifest import Manifest, Variant
from noisevote.model_store.selection import select
from noisevote.model_store.store import BadManifestError, ModelStore, Publication
from noisevote.noise_op.contract import NoiseKind
from noisevote.service.errors import UnknownModelError, UnknownVariantError, UnknownVersionError
from noisevote.service.rest.v1.schemas import AUTO
from noisevote.service.scheduling.batch_size import BatchProfile, Clock, measure
from noisevote.service.scheduling.engine import Engine

logger = logging.getLogger(__name__)


class Refusal(NamedTuple):
    """What of the store is not served, by name, and why."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class ServedVersion:
    """A version with at least one served variant, each at its measured pace; `refused` holds the others and why."""

    manifest: Manifest
    variants: tuple[Variant, ...]
    refused: Mapping[str, str]
    profiles: Mapping[SessionKey, BatchProfile]

    def key(self, variant: Variant) -> SessionKey:
        """Name of a variant's session."""
        return SessionKey(self.manifest.name, self.manifest.version, variant.name)

    def variant(self, name: str, noise: NoiseKind, sigma: float, votes: int, reads: int) -> Variant:
        """The variant of that name; for `auto` the best for this noise and these votes.

        Raises:
            UnknownVariantError: it does not exist or is not served.
        """
        if name == AUTO:
            return _best(self, noise, sigma, votes, reads)
        for variant in self.variants:
            if variant.name == name:
                return variant
        if name in self.refused:
            raise UnknownVariantError(f"variant: {name!r} was refused at start: {self.refused[name]}")
        known = ", ".join([AUTO, *(variant.name for variant in self.variants)])
        raise UnknownVariantError(f"variant: {name!r} is not one of {known}")


# Choosing walks through all measured points; requests repeat a few settings over and over.
@lru_cache(maxsize=4096)
def _best(served: ServedVersion, noise: NoiseKind, sigma: float, votes: int, reads: int) -> Variant:
    return select(served.variants, noise, sigma, votes, reads)


@dataclass(frozen=True)
class ModelRegistry:
    """Served versions by model name and version, versions oldest first, and all refusals."""

    models: Mapping[str, Mapping[str, ServedVersion]]
    refusals: tuple[Refusal, ...]

    def versions(self, name: str) -> list[str]:
        """Served versions of a model, oldest first.

        Raises:
            UnknownModelError: no such model is served.
        """
        if name not in self.models:
            raise UnknownModelError(f"model: {name!r} is not one of {', '.join(sorted(self.models)) or 'none'}")
        return list(self.models[name])

    def version(self, name: str, version: str | None = None) -> ServedVersion:
        """A version of a model; by default the served one with the highest number.

        Raises:
            UnknownModelError: no such model is served.
            UnknownVersionError: it has no such version.
        """
        versions = self.versions(name)
        if version is not None and version not in versions:
            raise UnknownVersionError(f"version: {version!r} is not one of {', '.join(versions)} of {name}")
        return self.models[name][version or versions[-1]]

    def profiles(self) -> dict[SessionKey, BatchProfile]:
        """The measured pace of every session."""
        return {
            key: pace
            for versions in self.models.values()
            for served in versions.values()
            for key, pace in served.profiles.items()
        }

    def sessions(self) -> list[SessionKey]:
        """Names of all served variants' sessions."""
        return [
            served.key(variant)
            for versions in self.models.values()
            for served in versions.values()
            for variant in served.variants
        ]

    def summary(self) -> str:
        """Models, versions and variants, in one line."""
        return "; ".join(
            f"{name} {version}: {', '.join(variant.name for variant in served.variants)}"
            for name, versions in self.models.items()
            for version, served in versions.items()
        )


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
