"""The plan of an evaluation."""

from dataclasses import dataclass

from noisevote.noise_op.contract import NoiseKind

# Kind and sigma, and the reads that are averaged where there is more than one.
Noise = tuple[NoiseKind, float] | tuple[NoiseKind, float, int]


@dataclass(frozen=True)
class Plan:
    """Says what to measure: every kind at every sigma with every number of reads, `votes` votes an image.

    `counts` are the numbers of votes whose accuracy is wanted; None: the usual ones (`scores.VOTE_COUNTS`).

    The images are treated as one request: image i draws with `seed` + i and votes 0, 1, …, so that the service can
    repeat every figure vote by vote.
    """

    kinds: tuple[NoiseKind, ...]
    sigmas: tuple[float, ...]
    votes: int
    seed: int
    counts: tuple[int, ...] | None = None
    reads: tuple[int, ...] = (1,)

    def cells(self) -> list[tuple[NoiseKind, float, int]]:
        """Kinds, sigmas and reads to measure; sigma 0 once, with one read, as it is the same under all."""
        sigmas = [sigma for sigma in self.sigmas if sigma > 0]
        noisy = [(kind, sigma, reads) for kind in self.kinds for reads in self.reads for sigma in sigmas]
        return [(self.kinds[0], 0.0, 1), *noisy] if 0 in self.sigmas else noisy

    def passes(self, sigma: float) -> int:
        """Votes an image needs: at sigma 0 all are the same."""
        return 1 if sigma == 0 else self.votes
