"""Networks that are smaller than those of the registry, and made of the same layers."""

from noisevote.training.networks.densenet import CifarDenseNet


class ShallowDenseNet(CifarDenseNet):
    """A DenseNet like those of the registry, three products a block."""

    depth = 13
    title = description = "for a test"


class ShallowestDenseNet(CifarDenseNet):
    """A product a block."""

    depth = 7
    title = description = "three blocks of one"
