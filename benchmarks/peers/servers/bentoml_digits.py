"""BentoML: two workers."""

import bentoml
from digit_votes import Voter


@bentoml.service(workers=2, logging={"access": {"enabled": False}})
class Digits:
    """One worker."""

    def __init__(self) -> None:
        self.voter = Voter()

    @bentoml.api
    def predict(self, image: str, votes: int) -> dict[str, list[int]]:
        """All votes in one run."""
        return {"histogram": self.voter.histograms([image], [votes])[0]}
