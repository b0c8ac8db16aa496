"""What a request for certificates may choose, in whatever protocol it came."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noisevote.model_store.manifest import InputSpec
from noisevote.voting.certification import CertificateRule, CertificateRuleName, rule_of


@dataclass(frozen=True)
class CertifyRequest:
    """A request for certificates, read from some protocol.

    Attributes:
        inputs: how many there are.
        decode: makes them one array; see `PredictionRequest`.
        n0: votes that select the class.
        n: further votes that estimate its probability, at most.
        alpha: error probability of a certificate.
        radius: the radius wanted; None: as large a one as the votes give.
        rule: `fixed` or `anytime`.
        deadline_ms: milliseconds after acceptance at which the votes counted so far are all.
        variant: its name; None: the only one that certifies.
        given: names of the keys that the request gives; None: not known.
    """

    inputs: int
    decode: Callable[[InputSpec], NDArray[np.float32]]
    n0: int = 100
    n: int = 100_000
    alpha: float = 0.001
    radius: float | None = None
    rule: CertificateRuleName = "fixed"
    deadline_ms: float | None = None
    variant: str | None = None
    given: frozenset[str] | None = None

    def rule_at(self, sigma: float) -> CertificateRule:
        """The rule under noise of standard deviation `sigma`."""
        return rule_of(self.rule, self.n, self.alpha, sigma, self.radius)
