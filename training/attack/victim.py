"""Who is attacked, or whose gradients are used: a trained network, and what records call it."""

from dataclasses import dataclass, replace

import torch

from noisevote.evaluation.results import sha256_of
from noisevote.training.networks.layers import fold
from noisevote.training.networks.network import Network
from noisevote.training.networks.registry import named
from noisevote.training.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Victim:
    """A network in evaluation mode. `sha256` is that of the file with its weights, of a run or published."""

    model: str
    variant: str
    data_set: str
    sha256: str
    network: Network

    @classmethod
    def of_run(cls, run: RunFolder) -> "Victim":
        """The network of a finished run."""
        recipe = run.read_recipe()
        data_set = named(recipe.network).data_set
        return cls(recipe.model, recipe.variant, data_set, sha256_of(run.weights), run.read_network())

    def on(self, device: torch.device) -> "Victim":
        """The same, computing there."""
        return replace(self, network=self.network.to(device))

    def folded(self) -> "Victim":
        """The same function of the same draws up to rounding, in less time: norms in the products, channels last."""
        return replace(self, network=fold(self.network).to(memory_format=torch.channels_last))  # type: ignore[call-overload]  # torch's stubs lack the keyword alone
