"""The plan of an evaluation."""

from dataclasses import dataclass

from noisevote.noise_op.contract import NoiseKind


@dataclass(frozen=True)
class Plan:
    """Says what to measure: every kind at every sigma, `votes` votes an image.

    The images are treated as one request: image i draws with `seed` + i and votes 0, 1, …, so that the service can
    repeat every figure vote by vote.
    """

    kinds: tuple[NoiseKind, ...]
    sigmas: tuple[float, ...]
    votes: int
    seed: int

    def cells(self) -> list[tuple[NoiseKind, float]]:
        """Kinds and sigmas to measure; sigma 0 under the first kind only, as it is the same under all."""
        return [(kind, sigma) for kind in self.kinds for sigma in self.sigmas if sigma > 0 or kind == self.kinds[0]]

    def passes(self, sigma: float) -> int:
        """Votes an image needs: at sigma 0 all are the same."""
        return 1 if sigma == 0 else self.votes
