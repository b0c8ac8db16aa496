"""What the index says of versions, and which of them an operation means. Pure."""

from collections.abc import Iterable

from noisevote.service.errors import UnknownModelError, UnknownVersionError
from noisevote.service.models.networks import VersionName
from noisevote.service.models.registry import ServedVersion
from noisevote.service.models.repository import State, VersionEntry
from noisevote.service.models.residents import Residents
from noisevote.service.validation import shown


def entry_of(
    name: VersionName, served: ServedVersion | None, residents: Residents, state: State, reason: str
) -> VersionEntry:
    """The entry of a version; `served` is None while it is not."""
    if served is None:
        return VersionEntry(*name, state, reason)
    return VersionEntry(
        *name,
        state,
        reason,
        serving=True,
        variants=tuple(variant.name for variant in served.variants),
        resident=tuple(each.name for each in served.variants if served.key(each) in residents),
        refused=tuple(served.refused.items()),
    )


def by_age(name: VersionName) -> tuple[str, int]:
    """Sorts versions by model, the oldest of each first."""
    return name[0], int(name[1])


def is_meant(name: VersionName, model: str, version: str | None) -> bool:
    """An operation on a model, or on one version of it, is on this version too."""
    return name[0] == model and version in (None, name[1])


def refuse_unknown(model: str, version: str | None, there: Iterable[VersionName], where: str) -> None:
    """Nothing, where there is what an operation is on.

    Raises:
        UnknownModelError: there is no such model.
        UnknownVersionError: it has no such version.
    """
    there = sorted(there, key=by_age)
    versions = [each[1] for each in there if each[0] == model]
    if not versions:
        models = ", ".join(dict.fromkeys(each[0] for each in there)) or "none"
        raise UnknownModelError(f"model: {shown(model)} is not {where}, which has {models}")
    if version is not None and version not in versions:
        raise UnknownVersionError(
            f"version: {shown(version)} of {model} is not {where}, which has {', '.join(versions)}"
        )
