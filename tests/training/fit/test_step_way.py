import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from noisevote.noise_op.torch_twin import Draws
from noisevote.training.fit.gradients import Gradients
from noisevote.training.fit.step_way import faster_way
from noisevote.training.noise.draws import constant_draws, laid_out
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder
from tests.support.networks import ShallowestDenseNet

RECIPE = Recipe(network="cifar10-densenet40", precision="float32")


class Way:
    """Computes as it is told to, and takes its time, in virtual seconds, by the way that the network is on."""

    def __init__(self, computed: Gradients, clock: list[float], seconds: dict[bool, float], broken: bool) -> None:
        self.computed, self.clock, self.seconds = computed, clock, seconds
        self.shared = bool(computed.network.shared_norms)
        self.used = 0
        if broken and self.shared:
            raise NotImplementedError("no such kernel")

    def __call__(self, inputs: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        assert self.computed.network.shared_norms == self.shared
        self.clock[0] += self.seconds[self.shared]
        self.used += 1
        return self.computed(inputs, labels, draws)


@pytest.mark.parametrize(
    ("plain", "shared", "broken", "taken"),
    [(0.015, 0.007, False, True), (0.007, 0.015, False, False), (0.015, 0.007, True, False)],
)
def test_the_faster_way_is_taken(
    plain: float, shared: float, broken: bool, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says what a step took either way, a way that fails is not taken, and the network is as it was before.

    What computes the steps is made anew: a recorded graph of the first way would write gradients that the optimiser no
    longer reads, as recording the second has put others in their place.
    """
    clock = [0.0]
    monkeypatch.setattr("noisevote.training.fit.step_way.time.perf_counter", lambda: clock[0])
    network = ShallowestDenseNet(free_scale=True).train()
    before = [tensor.clone() for tensor in network.state_dict().values()]
    given = (laid_out(torch.rand(2, 3, 32, 32)), torch.tensor([1, 2]), constant_draws("multiplicative", 0.6, 1, 2, 0))
    folder = RunFolder(tmp_path)
    seconds = {False: plain, True: shared}
    chosen = faster_way(Gradients(network, RECIPE), given, folder, lambda made: Way(made, clock, seconds, broken))
    assert isinstance(chosen, Way)
    assert chosen.shared == network.shared_norms == taken
    assert chosen.used == 0
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(*pair) for pair in zip(before, network.state_dict().values(), strict=True))
    (line,) = (json.loads(line) for line in folder.log.read_text().splitlines())
    expected = {"plain": 1000 * plain} | ({} if broken else {"shared": 1000 * shared})
    assert line["milliseconds"] == pytest.approx(expected)
    assert line["shared_norms"] == taken
    assert line.get("failed") == ("NotImplementedError: no such kernel" if broken else None)
