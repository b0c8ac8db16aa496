"""Networks that are not ours: of timm and torchvision where they are installed, and as people write their own."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn

from noisevote.training.publish.export import Argument, as_arguments

CLASSES: Final = 1000


@dataclass(frozen=True)
class Case:
    """A network and what it takes."""

    name: str
    make: Callable[[], nn.Module]
    arguments: tuple[Argument, ...] = ()
    shape: tuple[int, ...] = ()
    classes: int = CLASSES
    value_range: tuple[float, float] = (0.0, 1.0)
    learning_rate: float = 1e-3
    tokens: int = field(default=0, kw_only=True)
    package: str = field(default="torch", kw_only=True)

    @property
    def installed(self) -> bool:
        """Whether the package that has it is there."""
        return importlib.util.find_spec(self.package) is not None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input of the published graph."""
        if len(self.arguments) > 1:
            return (sum(argument.size for argument in self.arguments),)
        return self.arguments[0].shape if self.arguments else self.shape

    def inputs(self, rows: int) -> Tensor:
        """Random inputs of the published graph, in the value range."""
        low, high = self.value_range
        drawn = torch.rand(rows, *self.input_shape, generator=torch.Generator().manual_seed(rows))
        return torch.floor(drawn * self.tokens) if self.tokens else low + (high - low) * drawn

    def example(self, rows: int) -> tuple[Tensor, ...]:
        """What the network's own forward takes."""
        return as_arguments(self.inputs(rows), self.arguments)


def cases() -> list[Case]:
    """Every network, those whose package is not installed too."""
    return [*_own(), *map(_timm, TIMM), *map(_torchvision, TORCHVISION)]


# Name to the side of its images: as small as the network allows, which changes no product.
TIMM: Final = {
    "resnet18": 96, "mobilenetv3_small_100": 96, "efficientnet_b0": 96, "regnety_002": 96, "convnext_atto": 96,
    "vit_tiny_patch16_224": 96, "deit_tiny_distilled_patch16_224": 96, "mixer_s16_224": 96,
    "swin_tiny_patch4_window7_224": 112, "resnetv2_50": 96, "inception_v3": 96, "densenet121": 96, "lcnet_050": 96,
    "ghostnet_100": 96, "gmlp_ti16_224": 96, "resmlp_12_224": 96, "xcit_nano_12_p16_224": 96, "mobilevit_xxs": 128,
    "levit_128s": 224, "poolformer_s12": 96,
}  # fmt: skip
RESIZED: Final = ("vit", "deit", "mixer", "swin", "gmlp", "resmlp", "xcit")
TORCHVISION: Final = {
    "swin_t": 96, "mobilenet_v2": 96, "squeezenet1_1": 96, "shufflenet_v2_x0_5": 96, "googlenet": 96, "vgg11_bn": 64,
    "mnasnet0_5": 96, "alexnet": 64, "regnet_y_400mf": 96,
}  # fmt: skip
SLOWLY: Final = {"vgg11_bn": 1e-4, "alexnet": 1e-4}  # heads as large as theirs diverge otherwise


def _timm(name: str) -> Case:
    side = TIMM[name]

    def make() -> nn.Module:
        declare_torchvision_operators()
        import timm  # noqa: PLC0415  # not installed everywhere

        sized = {"img_size": side} if name.startswith(RESIZED) else {}
        network: nn.Module = timm.create_model(name, num_classes=CLASSES, **sized)
        return network

    return Case(f"timm {name}", make, shape=(3, side, side), package="timm")


def _torchvision(name: str) -> Case:
    def make() -> nn.Module:
        declare_torchvision_operators()
        from torchvision import models  # noqa: PLC0415  # not installed everywhere

        # GoogLeNet's auxiliary heads answer while training alone; its own training script reads them.
        options = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
        network: nn.Module = models.get_model(name, weights=None, **options)
        return network

    side = TORCHVISION[name]
    return Case(f"torchvision {name}", make, shape=(3, side, side), package="torchvision",
                learning_rate=SLOWLY.get(name, 1e-3))  # fmt: skip


_declared: list[Any] = []


def declare_torchvision_operators() -> None:
    """Let torchvision import where its compiled operators, made for another build of torch, do not load.

    No classifier uses them.
    """
    if not _declared and not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]  # untyped in torch
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
        _declared.append(library)


class Reader(nn.Module):
    """Text: word vectors, a recurrence in two directions, a head."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.words = nn.Embedding(5000, 64)
        self.read = kind(64, 96, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(192, 4)

    def forward(self, tokens: Tensor) -> Any:
        """Logits [rows, 4] of token ids [rows, 32]."""
        return self.head(self.read(self.words(tokens))[0].mean(1))


class TextTransformer(nn.Module):
    """Text: torch's own TransformerEncoder over word and position vectors."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=batch_first, activation="gelu")
        self.words, self.places = nn.Embedding(5000, 64), nn.Parameter(torch.randn(32, 64) * 0.02)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 4)
        self.batch_first = batch_first

    def forward(self, tokens: Tensor) -> Any:
        """Logits [rows, 4] of token ids [rows, 32]."""
        x = self.words(tokens) + self.places
        if self.batch_first:
            return self.head(self.encoder(x).mean(1))
        return self.head(self.encoder(x.transpose(0, 1)).mean(0))


class Audio(nn.Module):
    """Sound: strided one-dimensional convolutions over the wave, as in M5."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((1, 32, 80, 4), (32, 32, 3, 1), (32, 64, 3, 1), (64, 64, 3, 1))
        self.blocks = nn.Sequential(*(
            nn.Sequential(nn.Conv1d(a, b, k, s), nn.BatchNorm1d(b), nn.ReLU(inplace=True), nn.MaxPool1d(4))
            for a, b, k, s in sizes
        ))  # fmt: skip
        self.head = nn.Linear(64, 35)

    def forward(self, wave: Tensor) -> Any:
        """Logits [rows, 35] of waves [rows, 1, 8000]."""
        return self.head(self.blocks(wave).mean(2))


class Tabular(nn.Module):
    """A table's row: numbers and two columns of categories, several inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds = nn.ModuleList(nn.Embedding(20, 8) for _ in range(2))
        self.layers = nn.Sequential(
            nn.Linear(12 + 16, 128), nn.BatchNorm1d(128), nn.SiLU(inplace=True), nn.Dropout(0.2),
            nn.Linear(128, 64), nn.BatchNorm1d(64), nn.SiLU(inplace=True), nn.Linear(64, 3),
        )  # fmt: skip

    def forward(self, numbers: Tensor, categories: Tensor) -> Any:
        """Logits [rows, 3] of numbers [rows, 12] and categories [rows, 2]."""
        looked_up = [table(categories[:, at]) for at, table in enumerate(self.kinds)]
        return self.layers(torch.cat((numbers, *looked_up), 1))


def _mlp() -> nn.Module:
    """A table's row: numbers alone."""
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5))


def _own() -> list[Case]:
    """Text, sound and tables."""
    text = {"arguments": (Argument((32,), torch.int64),), "classes": 4, "value_range": (0.0, 4999.0), "tokens": 5000}
    columns = (Argument((12,)), Argument((2,), torch.int64))
    return [
        Case("LSTM, text", lambda: Reader(nn.LSTM), **text, learning_rate=1e-2),  # type: ignore[arg-type]  # a mixed dictionary
        Case("GRU, text", lambda: Reader(nn.GRU), **text, learning_rate=1e-2),  # type: ignore[arg-type]  # as above
        Case("RNN, text", lambda: Reader(nn.RNN), **text, learning_rate=1e-2),  # type: ignore[arg-type]  # as above
        Case("Transformer, text", lambda: TextTransformer(True), **text),  # type: ignore[arg-type]  # as above
        Case("Transformer, text, sequence first", lambda: TextTransformer(False), **text),  # type: ignore[arg-type]  # as above
        Case("CNN, 1-D audio", Audio, shape=(1, 8000), classes=35, value_range=(-1.0, 1.0)),
        Case("MLP, table", _mlp, shape=(30,), classes=5, value_range=(-3.0, 3.0), learning_rate=1e-2),
        Case("MLP, numbers and categories", Tabular, columns, classes=3, value_range=(0.0, 19.0), learning_rate=1e-2,
             tokens=20),
    ]  # fmt: skip
