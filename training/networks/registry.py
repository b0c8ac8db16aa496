"""Networks by name."""

from typing import Final

from noisevote.noise_op.contract import NoiseKind
from noisevote.training.errors import TrainingError
from noisevote.training.networks.cifar_cnn import CifarCnn
from noisevote.training.networks.densenet import CifarDenseNet40, CifarDenseNet100
from noisevote.training.networks.mnist_cnn import MnistCnn
from noisevote.training.networks.mnist_madry import MnistMadry
from noisevote.training.networks.network import Network
from noisevote.training.networks.smoothed import CifarSmoothed, MnistSmoothed
from noisevote.training.networks.stroke_lstm import StrokeLstm

NETWORKS: Final[dict[str, type[Network]]] = {
    "mnist-cnn": MnistCnn,
    "cifar10-cnn": CifarCnn,
    "cifar10-densenet40": CifarDenseNet40,
    "cifar10-densenet100": CifarDenseNet100,
    "stroke-lstm": StrokeLstm,
    "mnist-madry": MnistMadry,
    "mnist-smoothed": MnistSmoothed,
    "cifar10-smoothed": CifarSmoothed,
}


class UnknownNetworkError(TrainingError):
    """No network has that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"network {name!r}: unknown; known are {', '.join(NETWORKS)}")


def named(name: str) -> type[Network]:
    """The network's class, which says what it takes (`input_shape`, `data_set`, …).

    Raises:
        UnknownNetworkError: no such network.
    """
    if name not in NETWORKS:
        raise UnknownNetworkError(name)
    return NETWORKS[name]


def build(name: str, kind: NoiseKind) -> Network:
    """A network for training under one noise kind; weights from torch's global random state."""
    return named(name)(free_scale=kind == "multiplicative")
