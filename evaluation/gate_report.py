"""What the gate of publishing refuses by, and what it found of a file that passed."""

from dataclasses import dataclass

from noisevote.model_store.manifest import Checked


class GateError(Exception):
    """A file is not published; the message names the check, the place and the number."""

    def __init__(self, check: str, problem: str) -> None:
        super().__init__(f"{check}: {problem}")
        self.check = check


@dataclass(frozen=True)
class SiteFound:
    """Noise measured at one site, relative to what was asked: 1 would be exact, within `error` (4 standard errors).

    `samples` draws were looked at; none where the site is inside a loop, whose inner tensors cannot be shown.
    """

    number: int
    layer: str
    sigma_scale: float
    ratio: float | None
    error: float
    samples: int


@dataclass(frozen=True)
class GateReport:
    """What was found of a file that may be published.

    Attributes:
        examples: how many inputs it was tried on.
        given: they were real examples; else they are random.
        error: largest difference from the source's logits without noise; None: there was no source.
        scale: the largest |logit|.
        tolerance: how large the difference might be.
        rows_per_run: to how many rows batches must be padded so that a row's bits do not depend on its company; None:
            they never do.
        products: how many products depend on the input.
        digital: names of those without noise.
        sites: noise at each site.
    """

    examples: int
    given: bool
    error: float | None
    scale: float
    tolerance: float
    rows_per_run: int | None
    products: int
    digital: tuple[str, ...]
    sites: tuple[SiteFound, ...]

    def for_manifest(self) -> Checked:
        """What a manifest says of it."""
        seen = sum(1 for site in self.sites if site.samples)
        return Checked(examples=self.examples, given=self.given, error=self.error, scale=self.scale, sites=seen)
