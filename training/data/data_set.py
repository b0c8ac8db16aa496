"""A data set: what is trained on, and what is judged on."""

from dataclasses import dataclass

from noisevote.evaluation.examples import Examples


@dataclass(frozen=True)
class DataSet:
    """Training and test examples, and which files they are: `hashes`, uncompressed file → `<algorithm>:<hash>`."""

    name: str
    train: Examples
    test: Examples
    classes: tuple[str, ...]
    hashes: dict[str, str]

    def to_train(self, images: int | None, holdout: int) -> Examples:
        """Return the training examples without the last `holdout`, and of those the first `images`."""
        kept = len(self.train) - holdout
        return self.train.first(kept if images is None else min(images, kept))

    def to_judge(self, holdout: int) -> Examples:
        """Return the examples to judge choices on: the last `holdout` training examples, or else the test examples."""
        return self.train.last(holdout) if holdout else self.test
