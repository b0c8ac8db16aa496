"""What is found in a store of the versions that are to be served, and how it differs from what is."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from noisevote.model_store.manifest import Manifest
from noisevote.model_store.store import ModelStore
from noisevote.model_store.survey import Survey
from noisevote.service.models.choice import Choice
from noisevote.service.models.loading import read_manifest
from noisevote.service.models.networks import VersionName
from noisevote.service.models.registry import Refusal

# How the files of a version look from outside; see `ModelStore.fingerprint`.
Fingerprint = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Inspection:
    """What was found of the versions that are to be served, and how their files looked just before."""

    survey: Survey
    fingerprints: Mapping[VersionName, Fingerprint]
    manifests: Mapping[VersionName, Manifest | Refusal]

    def missing(self, served: Collection[VersionName]) -> set[VersionName]:
        """What is served and not in the store any more."""
        unreadable = {remark.place.rstrip("/") for remark in self.survey.unreadable}
        there = set(self.survey.versions)
        return {name for name in served if name not in there and name[0] not in unreadable}

    def superseded(self, served: Collection[VersionName]) -> set[VersionName]:
        """What is served and not to be served any more, once all that is to be served of its model is."""
        waiting = {name[0] for name in self.manifests if name not in served}
        return {name for name in served if name not in self.manifests and name[0] not in waiting}

    def changed(self, known: Mapping[VersionName, Fingerprint]) -> dict[VersionName, Manifest | Refusal]:
        """The versions whose files look different from when they were taken up, or were not."""
        return {name: each for name, each in self.manifests.items() if self.fingerprints[name] != known.get(name)}

    @property
    def unreadable(self) -> tuple[Refusal, ...]:
        """What of the store cannot be read."""
        return tuple(Refusal(*each) for each in self.survey.unreadable)

    @property
    def ignored(self) -> tuple[Refusal, ...]:
        """What was passed over."""
        return tuple(Refusal(*each) for each in self.survey.ignored)


def inspect(store: ModelStore, choice: Choice, names: Iterable[VersionName] | None = None) -> Inspection:
    """Look at the files of versions, by default of all that are to be served. Blocks: not for the event loop."""
    survey = store.survey()
    wanted = choice.of(survey.versions) if names is None else list(names)
    fingerprints = {name: store.fingerprint(*name) for name in wanted}  # before the manifests: later is a change
    return Inspection(survey, fingerprints, {name: read_manifest(store, name) for name in wanted})
