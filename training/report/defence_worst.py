"""The worst case over all attacks: each image's worst example, chosen on some votes and judged by others."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noisevote.training.attack.records import FullAccess
from noisevote.training.report.defence_numbers import Interval, share

LEAST_IMAGES: Final = 100  # of an attack, to be among those that are put together


@dataclass(frozen=True)
class Worst:
    """One network under one noise, at one eps.

    `attacks` were put together on the `images` that all of them attacked. `one_vote` is the share of right fresh votes
    on the chosen examples, `decided` that of images which all fresh votes decide rightly. `same_votes` is what the
    votes that chose would say themselves.
    """

    model: str
    variant: str
    sigma: float
    eps: float
    attacks: tuple[str, ...]
    images: int
    natural: float
    one_vote: float
    decided: Interval
    same_votes: float


def worst_cases(records: dict[str, FullAccess]) -> list[Worst]:
    """Of each network, noise and eps that several attacks of enough images were measured for.

    Left out under noise are transfers whose examples the attacked network's own votes did not choose.
    """
    groups: dict[tuple[str, str, float, float], dict[str, FullAccess]] = {}
    for name, record in records.items():
        judged = record.sigma == 0 or not record.source or record.examined
        few = len(record.attacked) < LEAST_IMAGES
        if judged and not few and not record.known and not name.startswith("robust-eps"):
            key = record.model, record.variant, record.sigma, round(float(record.steps["eps"]), 6)
            groups.setdefault(key, {})[name] = record
    return [_worst(group) for _, group in sorted(groups.items()) if len(group) > 1]


def _worst(group: dict[str, FullAccess]) -> Worst:
    by_strength = sorted(group.items(), key=lambda one: float(_chosen_by(one[1]).mean()))  # ties go to the strongest
    common = sorted(set.intersection(*(set(record.places) for record in group.values())))
    places = {name: np.array([record.places[image] for image in common]) for name, record in group.items()}
    choosing = np.stack([_chosen_by(record)[places[name]] for name, record in by_strength])  # [attacks, images]
    fresh = np.stack([record.attacked.counts[places[name]] / record.votes for name, record in by_strength])
    decided = np.stack([record.attacked.decisions[places[name]] for name, record in by_strength])
    picked = choosing.argmin(axis=0), np.arange(len(common))
    name, strongest = by_strength[0]
    return Worst(
        strongest.model, strongest.variant, strongest.sigma, float(strongest.steps["eps"]), tuple(sorted(group)),
        len(common), float(strongest.natural.decisions[places[name]].mean()), float(fresh[picked].mean()),
        share(decided[picked]), float(choosing[picked].mean()),
    )  # fmt: skip


def _chosen_by(record: FullAccess) -> NDArray[np.float64]:
    """Share of the choosing votes that are right, [images]; without noise there is but one answer."""
    if record.sigma == 0:
        return record.attacked.counts / record.votes
    return np.frombuffer(bytes.fromhex(record.judged), np.uint8) / record.draws
