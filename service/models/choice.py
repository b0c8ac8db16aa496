"""Which versions of a store are served: those that settings name, and what was loaded or unloaded since. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from noisevote.service.models.networks import VersionName


class NoSuchModelError(Exception):
    """A setting names a model that the store does not have."""


@dataclass
class Choice:
    """What is to be served of what a store has.

    Attributes:
        named: `model` or `model:version`, as the settings name them; none: everything.
        newest: how many versions of a model, the newest ones; None: all. Versions that are named count beside them.
    """

    named: tuple[str, ...] = ()
    newest: int | None = None
    _by_hand: dict[tuple[str, str | None], bool] = field(default_factory=dict)

    def load(self, name: str, version: str | None) -> None:
        """From now on serve a model, or a version."""
        self._decide(name, version, wanted=True)

    def unload(self, name: str, version: str | None) -> None:
        """From now on do not."""
        self._decide(name, version, wanted=False)

    def of(self, versions: Iterable[VersionName]) -> list[VersionName]:
        """Those that are to be served, of what there is, in the same order."""
        there = list(versions)
        return [each for each in there if self._wants(each, there)]

    def unloaded(self, name: VersionName) -> bool:
        """A version was unloaded by hand."""
        return self._by_hand.get(name, self._by_hand.get((name[0], None), True)) is False

    def check(self, versions: Iterable[VersionName]) -> None:
        """Nothing, where there is all that the settings name.

        Raises:
            NoSuchModelError: there is not.
        """
        there = {text for model, version in versions for text in (model, f"{model}:{version}")}
        if missing := [each for each in self.named if each not in there]:
            models = ", ".join(sorted(each for each in there if ":" not in each)) or "none"
            raise NoSuchModelError(f"models: {', '.join(missing)} is not in the store, which has {models}")

    def _decide(self, name: str, version: str | None, *, wanted: bool) -> None:
        if version is None:
            self._by_hand = {key: value for key, value in self._by_hand.items() if key[0] != name}
        self._by_hand[name, version] = wanted

    def _wants(self, name: VersionName, there: Sequence[VersionName]) -> bool:
        model, version = name
        by_hand = self._by_hand.get(name)
        if by_hand is not None:
            return by_hand
        if f"{model}:{version}" in self.named:
            return self._by_hand.get((model, None), True)
        if self.newest is not None and version not in [each for of, each in there if of == model][-self.newest :]:
            return False
        return self._by_hand.get((model, None), not self.named or model in self.named)
