"""When a certificate has votes enough, and what they certify.

As a stopping rule of decisions, a rule of certificates is asked for the least number of further votes after which it
could stop, and again once those are cast. So what it decides depends on the votes alone, not on how they were cut.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from noisevote.voting.certificates import (
    LOG_MARGIN,
    anytime_failure,
    certified_radius,
    failure_at,
    fixed_failure,
    log_evidence,
    lower_bound,
)

CertificateRuleName = Literal["fixed", "anytime"]
CERTIFICATE_RULES: Final[tuple[CertificateRuleName, ...]] = get_args(CertificateRuleName)
CertificateEnd = Literal["radius", "refuted", "unreachable", "budget"]

# Error of giving up on a radius that could be certified. It costs certificates, never alpha.
GIVE_UP: Final = 0.01
# The anytime rule looks after every eighth vote, later when a 32nd of the votes is new.
LEAST_STEP: Final = 8
STEP_SHARE: Final = 32

Condition = Callable[[NDArray[np.int64]], NDArray[np.bool_]]


class CertificateRule(Protocol):
    """How many votes estimate the selected class, and the bound that they give. Frozen."""

    @property
    def name(self) -> CertificateRuleName:
        """What requests and metrics call it."""

    @property
    def n(self) -> int:
        """The budget."""

    def more(self, count: int, trials: int) -> int:
        """Further votes to cast before the rule is asked again, after `count` of `trials` for the class; 0: stop."""

    def met(self, count: int, trials: int) -> CertificateEnd | None:
        """Why the rule stops here; None where it does not."""

    def failure(self, count: int, trials: int) -> float:
        """Upper bound of the probability of a vote for another class, wherever the voting ended."""


@dataclass(frozen=True)
class FixedCertificate:
    """All n votes, and Clopper and Pearson's bound (Cohen et al. 2019). Fewer votes certify nothing."""

    name: ClassVar[CertificateRuleName] = "fixed"
    n: int
    alpha: float

    def more(self, count: int, trials: int) -> int:  # noqa: ARG002  # the protocol's
        """All that is left."""
        return self.n - trials

    def met(self, count: int, trials: int) -> CertificateEnd | None:  # noqa: ARG002  # the protocol's
        """At the budget."""
        return "budget" if trials >= self.n else None

    def failure(self, count: int, trials: int) -> float:
        """See `CertificateRule`."""
        return fixed_failure(count, trials, self.alpha) if trials >= self.n else 1.0


@dataclass(frozen=True)
class AnytimeCertificate:
    """Until a radius is certified, or known to be out of reach; the bound holds wherever the voting ends.

    It stops at a look once the confidence sequence certifies `radius` under noise of `sigma`; once it cannot within n
    even if all further votes succeed; or once an upper bound of the probability lies below what the radius needs.
    The latter is no claim about the network, so it takes nothing of alpha. Without a radius all n votes are cast.
    """

    name: ClassVar[CertificateRuleName] = "anytime"
    n: int
    alpha: float
    sigma: float
    radius: float | None = None

    def more(self, count: int, trials: int) -> int:
        """Votes until the first look at which enough successes or failures in a row would end it."""
        if self.met(count, trials) is not None:
            return 0
        if self.radius is None:
            return self.n - trials
        plan, failures = self._plan(self.radius), trials - count
        later = plan.looks > trials
        certain = failures <= plan.most_failures
        hopeless = failures + (plan.looks - trials) >= np.minimum(plan.refuting, plan.reachable + 1)
        possible = np.flatnonzero(later & (certain | hopeless))
        return int(plan.looks[possible[0]]) - trials if len(possible) else self.n - trials

    def met(self, count: int, trials: int) -> CertificateEnd | None:
        """Only at a look is anything decided but the budget."""
        if self.radius is not None and (end := self._plan(self.radius).end(count, trials)) is not None:
            return end
        return "budget" if trials >= self.n else None

    def failure(self, count: int, trials: int) -> float:
        """See `CertificateRule`."""
        return anytime_failure(count, trials, self.alpha) if trials else 1.0

    def _plan(self, radius: float) -> "Looks":
        return looks_of(self.n, self.alpha, failure_at(self.sigma, radius))


def rule_of(name: CertificateRuleName, n: int, alpha: float, sigma: float, radius: float | None) -> CertificateRule:
    """The rule of that name; only `anytime` stops by the radius, under noise of standard deviation `sigma`."""
    return FixedCertificate(n, alpha) if name == "fixed" else AnytimeCertificate(n, alpha, sigma, radius)


@dataclass(frozen=True)
class Certificate:
    """What `trials` votes, `count` of them for the selected class, certify.

    `abstain`: no radius is certified, or not the one that was asked for; `radius` is 0 then.
    """

    count: int
    trials: int
    lower_bound: float
    radius: float
    abstain: bool


def certificate(rule: CertificateRule, sigma: float, asked: float | None, count: int, trials: int) -> Certificate:
    """The certificate of votes under noise of standard deviation `sigma`; `asked` is the radius wanted, if any."""
    failure = rule.failure(count, trials)
    radius = certified_radius(sigma, failure)
    abstain = radius <= 0 or (asked is not None and radius < asked)
    return Certificate(count, trials, lower_bound(failure), 0.0 if abstain else radius, abstain)


@dataclass(frozen=True, eq=False)
class Looks:
    """When the anytime rule looks and what it finds there; arrays int64 [looks].

    At look i, after `looks[i]` votes, up to `most_failures[i]` failures certify (−1: none does), `refuting[i]` or more
    refute. `reachable[i]` is the most failures with which a later look can still certify.
    """

    looks: NDArray[np.int64]
    most_failures: NDArray[np.int64]
    refuting: NDArray[np.int64]
    reachable: NDArray[np.int64]

    def end(self, count: int, trials: int) -> CertificateEnd | None:
        """What a look at these votes decides; None where it decides nothing, or where there is no look."""
        index = int(np.searchsorted(self.looks, trials))
        if trials == 0:
            return "unreachable" if self.reachable[0] < 0 and self.most_failures[0] < 0 else None
        if index == len(self.looks) or self.looks[index] != trials:
            return None
        failures = trials - count
        if failures <= self.most_failures[index]:
            return "radius"
        if failures >= self.refuting[index]:
            return "refuted"
        # At the budget nothing lies ahead: that is the budget's end, whatever is still open.
        return "unreachable" if failures > self.reachable[index] and trials < self.looks[-1] else None

    def first_ends(self, failures: NDArray[np.int64], reached: NDArray[np.int64]) -> NDArray[np.int64]:
        """At which look each path of votes ends, int64 [paths]; −1: it takes further votes.

        The same as `end` asked at one look after the other, or the budget, for many paths at once.

        Args:
            failures: up to and at each look, int64 [paths, looks].
            reached: looks that were reached, int64 [paths]; what `failures` has beyond does not count.
        """
        places = np.arange(len(self.looks))
        over = (failures <= self.most_failures) | (failures >= self.refuting) | (failures > self.reachable)
        over |= places == len(self.looks) - 1
        over &= places < reached[:, np.newaxis]
        return np.where(over.any(axis=1), over.argmax(axis=1), -1)


@lru_cache(maxsize=1024)
def looks_of(n: int, alpha: float, q: float) -> Looks:
    """The looks of at most n votes at a failure probability of at most q, 0 ≤ q < 1, certified with error alpha."""
    looks = look_times(n)
    none = np.full(len(looks), -1, np.int64)
    if q <= 0:  # no number of votes shows that
        return Looks(looks, none, looks + 1, none)
    most = _most(looks, lambda failures: _certifies(looks, failures, q, alpha))
    refuting = _most(looks, lambda failures: ~_refutes(looks, failures, q)) + 1
    ahead = np.maximum.accumulate(most[::-1])[::-1]
    return Looks(looks, most, refuting, np.append(ahead[1:], -1))


def look_times(n: int) -> NDArray[np.int64]:
    """Numbers of votes after which the anytime rule looks: rising, the last is n."""
    times, now = [], 0
    while (now := now + max(LEAST_STEP, now // STEP_SHARE)) < n:
        times.append(now)
    return np.array([*times, n], np.int64)


def _certifies(looks: NDArray[np.int64], failures: NDArray[np.int64], q: float, alpha: float) -> NDArray[np.bool_]:
    """Where so many failures certify a failure probability below q: q lies above their likeliest place, by enough."""
    enough = log_evidence(looks - failures, failures, np.array(q)) >= math.log(1 / alpha) + LOG_MARGIN
    return np.asarray(enough & (q * (looks + 1) > failures + 1))


def _refutes(looks: NDArray[np.int64], failures: NDArray[np.int64], q: float) -> NDArray[np.bool_]:
    """Where so many failures show that they are likelier than q: the same with the sides exchanged."""
    enough = log_evidence(failures, looks - failures, np.array(1 - q), math.log(q)) >= math.log(1 / GIVE_UP)
    return np.asarray(enough & (q * (looks + 1) < failures))


def _most(looks: NDArray[np.int64], holds: Condition) -> NDArray[np.int64]:
    """The most failures at each look for which a condition holds that ceases with their number; −1: for none."""
    low, high = np.full(len(looks), -1, np.int64), looks.copy()
    while (low < high).any():
        middle = (low + high + 1) // 2
        kept = holds(middle)
        low, high = np.where(kept, middle, low), np.where(kept, high, middle - 1)
    return low
