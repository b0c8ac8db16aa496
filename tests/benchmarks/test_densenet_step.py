"""The ways of computing a step that are compared."""

from typing import Any

import pytest
import torch

from benchmarks.densenet_step import stepping
from noisevote.training.networks import densenet
from noisevote.training.networks.channels import channels_of
from noisevote.training.networks.dense_block import DenseBlock


@pytest.mark.skipif(channels_of(torch.device("cpu")) is None, reason="there was no compiler at install")
def test_only_shared_norms_make_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the one way makes three dense blocks, of the other none."""
    made = []

    class Watched(DenseBlock):
        def add(self, *given: Any) -> torch.Tensor:
            made.append(self.filled)
            return super().add(*given)

    monkeypatch.setattr(densenet, "DenseBlock", Watched)
    stepping(False, "float32", 2, torch.device("cpu"))()
    assert made == []
    stepping(True, "float32", 2, torch.device("cpu"))()
    assert made == [*range(0, 1), *range(16, 160, 12), 0, *range(160, 304, 12), 0, *range(304, 448, 12)]
