"""A torch network of one's own, with a residual connection, from plain torch to an answer over HTTP.

    python examples/own_network.py --store own_models
    NOISEVOTE_MODEL_STORE=own_models noisevote serve

It knows nothing of noise; `inject_noise` puts it after every product. Needs what training needs.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from noisevote.evaluation.plan import Plan
from noisevote.model_store.manifest import InputSpec
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.injection import NoisyModule, inject_noise
from noisevote.training.data.data_set import DataSet
from noisevote.training.data.files import DataSource
from noisevote.training.data.registry import load
from noisevote.training.publish.injected import Description, publish


class Residual(nn.Module):
    """x + f(x), the way torch users write it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of x."""
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(x + self.second_norm(self.second(inner)))


class SmallResNet(nn.Module):
    """[N, 1, 28, 28] to logits [N, 10]: a convolution, two residual pairs of them, and a fully connected layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 5, stride=2, padding=2)
        self.near = Residual(16)
        self.far = Residual(16)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(16 * 7 * 7, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        x = torch.relu(self.stem(images - 0.13))
        return self.head(self.pool(self.far(self.near(x))).flatten(1))  # type: ignore[no-any-return]  # untyped __call__


def train(network: NoisyModule, data: DataSet, epochs: int, batch: int = 128) -> None:
    """An ordinary loop: the noise is inside the network."""
    labels = torch.from_numpy(data.train.labels).long()
    steps = epochs * (len(labels) // batch)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    network.train()
    for epoch in range(epochs):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch))
        for chosen in torch.split(order, batch)[: steps // epochs]:
            loss = cross_entropy(network(torch.from_numpy(data.train.values(chosen.numpy()))), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{epochs}: loss of the last batch {loss.item():.3f}")


def main() -> None:
    """Train one variant without noise and one with, and publish both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("own_models"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--votes", type=int, default=20)
    options = parser.parse_args()
    data = load("mnist", DataSource.from_environment())
    torch.manual_seed(1)
    variants = {f"mul-{sigma}": inject_noise(SmallResNet(), "multiplicative", sigma) for sigma in (0.0, 0.7)}
    for noisy in variants.values():
        train(noisy, data, options.epochs)
    described = Description(
        name="small-resnet",
        version="1",
        title="MNIST digits, a small residual network",
        description="Plain torch, noise injected after every product.",
        input=InputSpec(shape=(1, 28, 28), preprocessing="Inside the graph: minus 0.13."),
        recipe={"epochs": options.epochs, "batch": 128, "lr": 5e-3, "optimizer": "adamw"},
    )
    plan = Plan(("multiplicative",), (0.0, 0.4, 0.7, 1.0), options.votes, seed=0)
    print(publish(variants, described, data, ModelStore(options.store), plan))


if __name__ == "__main__":
    main()
