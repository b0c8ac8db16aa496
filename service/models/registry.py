"""What is served: the versions and variants of the model store that could be loaded, and why others could not."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

from noisevote.engine.session_key import SessionKey
from noisevote.model_store.accuracy_table import effective_sigma
from noisevote.model_store.manifest import Manifest, Precision, PrecisionChoice, Variant
from noisevote.model_store.selection import NoVariantsError, measured_around, measured_range, select
from noisevote.noise_op.contract import NoiseKind
from noisevote.service.errors import InvalidValueError, UnknownModelError, UnknownVariantError, UnknownVersionError
from noisevote.service.scheduling.batch_size import BatchProfile
from noisevote.service.validation import shown

AUTO: Final = "auto"
# Settings of requests to one version that its choice of a variant is remembered for.
CHOICES_KEPT: Final = 4096


def session_key(manifest: Manifest, variant: Variant) -> SessionKey:
    """Name of a variant's session."""
    return SessionKey(manifest.name, manifest.version, variant.name, variant.sha256)


class Refusal(NamedTuple):
    """What of the store is not served, by name, and why."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class ServedVersion:
    """A version with at least one served variant and their batch profiles; `refused` holds the others and why."""

    manifest: Manifest
    variants: tuple[Variant, ...]
    refused: Mapping[str, str]
    profiles: Mapping[SessionKey, BatchProfile]

    @cached_property
    def _select(self) -> Callable[[bool, NoiseKind, float, int, int], Variant]:
        """The best float32 variant for a noise and votes, remembered as long as the version itself.

        Choosing walks through all measured points, and requests repeat a few settings over and over.
        """
        # of the variants alone: the version itself must go as soon as nobody uses it
        twins = tuple(variant for variant in self.variants if variant.twin)
        floats = tuple(variant for variant in self.variants if variant.precision == "float32")

        def chosen(twins_only: bool, noise: NoiseKind, sigma: float, votes: int, reads: int) -> Variant:
            if not twins_only:
                return select(floats, noise, sigma, votes, reads)
            fitting = {twin.twin for twin in twins if measured_around(twin, noise, sigma, reads)}
            return select((each for each in floats if each.name in fitting), noise, sigma, votes, reads)

        return lru_cache(maxsize=CHOICES_KEPT)(chosen)

    def key(self, variant: Variant) -> SessionKey:
        """Name of a variant's session."""
        return session_key(self.manifest, variant)

    def best(self, noise: NoiseKind, sigma: float, votes: int, reads: int, precision: PrecisionChoice) -> Variant:
        """The variant with the best float32 accuracy for this noise and these votes, computed in this precision.

        In int8 the best of those that have a twin is taken; `any` stays with the best, whether it has one or not. A
        twin counts only where it was measured at such noise: beyond, its bytes end before its signals do.

        Raises:
            InvalidValueError: nothing is served in this precision, or not under this noise.
        """
        try:
            chosen = self._select(precision == "int8", noise, sigma, votes, reads)
        except NoVariantsError:
            raise InvalidValueError("precision", f"{precision}; {self._why_none(noise, sigma, reads)}") from None
        if precision == "float32":
            return chosen
        return self._computed(chosen, precision, lambda twin: measured_around(twin, noise, sigma, reads))

    def _why_none(self, noise: NoiseKind, sigma: float, reads: int) -> str:
        whose = f"no variant of {self.manifest.name} {self.manifest.version} is served in it"
        ranges = [
            found for each in self.variants if each.twin and (found := measured_range(each, noise)) and found[1] > 0
        ]
        if not ranges:
            under = f" under {noise} noise" if any(each.twin for each in self.variants) else ""
            return whose + under
        least, most = min(first for first, _ in ranges), max(last for _, last in ranges)
        at = f"{effective_sigma(sigma, reads):.4g}"
        return f"{whose} at sigma {at}; its twins were measured under {noise} noise from {least:g} to {most:g}"

    def computed(self, variant: Variant, precision: PrecisionChoice) -> Variant:
        """The variant itself or its twin, whichever computes in this precision; of `any` the faster one here.

        Of several twins it is the one that draws with the newest version of the noise operator.

        Raises:
            InvalidValueError: it is not served in this precision.
        """
        return self._computed(variant, precision, lambda _: True)

    def _computed(self, variant: Variant, precision: PrecisionChoice, fits: Callable[[Variant], bool]) -> Variant:
        pair = self._pair(variant, fits)
        if precision == "any":
            return min(pair.values(), key=self._row_s)
        if precision not in pair:
            raise InvalidValueError("precision", f"{precision}; variant {variant.name!r} is not served in it")
        return pair[precision]

    def _pair(self, variant: Variant, fits: Callable[[Variant], bool]) -> dict[Precision, Variant]:
        """A variant and the newest of its twins that fits, or its twin's variant, by precision."""
        family = variant.twin or variant.name
        known = [each for each in self.variants if each.name == family or (each.twin == family and fits(each))]
        oldest_first = sorted(known, key=self.manifest.operator_version)
        return {each.precision: each for each in oldest_first} | {variant.precision: variant}

    def _row_s(self, variant: Variant) -> float:
        """Seconds that a vote takes, as measured when the variant was loaded; infinite where it was not."""
        profile = self.profiles.get(self.key(variant))
        return math.inf if profile is None else profile.row_s

    def named(self, name: str) -> Variant:
        """The variant of that name.

        Raises:
            UnknownVariantError: it does not exist or is not served.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        if name in self.refused:
            raise UnknownVariantError(f"variant: {shown(name)} is refused: {self.refused[name]}")
        known = ", ".join([AUTO, *(variant.name for variant in self.variants)])
        raise UnknownVariantError(f"variant: {shown(name)} is not one of {known}")


@dataclass(frozen=True)
class ModelRegistry:
    """Served versions by model name and version, versions oldest first, all refusals, and what was passed over."""

    models: Mapping[str, Mapping[str, ServedVersion]]
    refusals: tuple[Refusal, ...]
    ignored: tuple[Refusal, ...] = ()

    def versions(self, name: str) -> list[str]:
        """Served versions of a model, oldest first.

        Raises:
            UnknownModelError: no such model is served.
        """
        if name not in self.models:
            raise UnknownModelError(f"model: {shown(name)} is not one of {', '.join(sorted(self.models)) or 'none'}")
        return list(self.models[name])

    def version(self, name: str, version: str | None = None) -> ServedVersion:
        """A version of a model; by default the served one with the highest number.

        Raises:
            UnknownModelError: no such model is served.
            UnknownVersionError: it has no such version.
        """
        versions = self.versions(name)
        if version is not None and version not in versions:
            raise UnknownVersionError(f"version: {shown(version)} is not one of {', '.join(versions)} of {name}")
        return self.models[name][version or versions[-1]]

    def profiles(self) -> dict[SessionKey, BatchProfile]:
        """The measured batch profile of every session."""
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

    def certifying(self) -> list[SessionKey]:
        """Names of the sessions of variants that certify."""
        return [
            served.key(variant)
            for versions in self.models.values()
            for served in versions.values()
            for variant in served.variants
            if variant.certifies is not None
        ]

    def summary(self) -> str:
        """Models, versions and variants, in one line."""
        return "; ".join(
            f"{name} {version}: {', '.join(variant.name for variant in served.variants)}"
            for name, versions in self.models.items()
            for version, served in versions.items()
        )
