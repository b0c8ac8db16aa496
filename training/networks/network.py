"""The base class of trainable networks, each of which describes itself."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import nn

from noisevote.model_store.manifest import Padding


class Network(nn.Module):
    """A classifier made of noisy layers: [N, *input_shape] in `value_range` to logits [N, classes].

    Inside `noise_op.torch_twin.drawing` its first sites fan votes out, so the logits are [rows, classes].
    Its last site is made with `output=True`, so that training can average several draws of it.
    Normalisation of the input is inside the network, hence inside the exported graph.

    `free_scale` gives the batch norms before the noise a learned scale and shift. Additive noise needs
    them fixed (1 and 0, as in the paper), or the network would raise its signal above the noise.
    """

    title: ClassVar[str]
    description: ClassVar[str]
    preprocessing: ClassVar[str]
    data_set: ClassVar[str]
    input_shape: ClassVar[tuple[int, ...]]
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    # How the service makes sequences of another length fit; None: it refuses them.
    padding: ClassVar[Padding | None] = None
    # What training this network needs where it differs from the defaults of `training.recipe.Recipe`.
    recipe_defaults: ClassVar[Mapping[str, Any]] = {}
    # Whether norms that read the same signals share their statistics in training; None: no two norms do.
    shared_norms: bool | None = None
    # Its only noise is on the input, so that additive noise certifies (Cohen et al. 2019).
    noise_on_input: ClassVar[bool] = False

    def __init__(self, *, free_scale: bool) -> None:
        super().__init__()
        self.free_scale = free_scale

    def to_device(self, device: torch.device) -> Self:
        """Itself there, channels-last; on a graphics card on the way module after module, until both were measured."""
        self.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload torch leaves out
        if device.type == "cuda" and self.shared_norms:
            self.shared_norms = False
        return self
