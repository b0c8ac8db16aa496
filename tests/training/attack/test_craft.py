import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisevote.evaluation.examples import Examples
from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.attack.craft import accuracy_under, craft, craft_all
from noisevote.training.attack.diversity import diverse
from noisevote.training.attack.steps import Steps, fgsm, for_transfer, pgd
from noisevote.training.attack.target import Noise, Target
from noisevote.training.networks.network import Network
from noisevote.training.noise.draws import CPU, constant_draws
from noisevote.training.runs.run_folder import RunFolder


@pytest.fixture(scope="module")
def network(trained: RunFolder) -> Network:
    """Trained without any defence on the same 64 digits."""
    return trained.read_network()


def images(digits: Examples, count: int) -> tuple[Tensor, Tensor]:
    """The first digits and their labels."""
    return torch.from_numpy(digits.values(slice(count))), torch.from_numpy(digits.labels[:count]).long()


def test_pgd_breaks_an_undefended_network(network: Network, digits: Examples) -> None:
    """PGD at eps 0.3 leaves next to nothing right of what the network reads without an attack; FGSM leaves more."""
    target = Target(network)
    nothing = accuracy_under(target, Steps(1e-6, 1e-6, 1), digits, CPU)
    one_step = accuracy_under(target, fgsm(0.3), digits, CPU)
    many = accuracy_under(target, pgd(0.3, 0.05, 20), digits, CPU)
    assert nothing >= 0.9
    assert many <= 0.02
    assert many <= one_step


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_more_restarts_never_lower_success(network: Network, digits: Examples, sigma: float) -> None:
    """With every further restart each image's share of wrong votes stays or grows, with and without noise."""
    inputs, labels = images(digits, 8)  # each image is a case of its own
    before: Tensor | None = None
    for restarts in (1, 2, 4):
        target = Target(network, Noise(sigma=sigma, seed=5), draws=4 if sigma else None)
        crafted = craft(target, pgd(0.08, 0.03, 3), inputs, labels, restarts=restarts)
        assert before is None or bool((crafted.wrong >= before).all())
        before = crafted.wrong


def test_votes_of_a_target_are_those_of_the_service(network: Network, digits: Examples) -> None:
    """Vote v of input i draws with key seed + i and vote number v, as a request's votes do."""
    inputs, _ = images(digits, 3)
    found = Target(network, Noise(sigma=0.4, seed=9)).logits(inputs, 2, first_vote=5, first_input=10)
    sigma, vote = torch.tensor([[0.4, 0.0]] * 6), torch.tensor([5, 6] * 3)
    row = torch.tensor([0, 0, 1, 1, 2, 2])
    with drawing(Draws(sigma, 19 + row, vote, row)):
        expected = network(inputs)
    torch.testing.assert_close(found.reshape(6, -1), expected)


def test_gradient_is_the_mean_over_fresh_votes(network: Network, digits: Examples) -> None:
    """EOT's gradient of 8 draws is the mean of the gradients of votes 0 … 7; the next one is of votes 8 … 15."""
    inputs, labels = images(digits, 2)
    generator = torch.Generator()
    gradient = Target(network, Noise(sigma=0.4, seed=3), draws=8).gradient(labels, generator)
    first, second = gradient(inputs), gradient(inputs)
    single = Target(network, Noise(sigma=0.4, seed=3), draws=1).gradient(labels, generator)
    each = [single(inputs) for _ in range(16)]
    torch.testing.assert_close(first, torch.stack(each[:8]).mean(dim=0), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(second, torch.stack(each[8:]).mean(dim=0), rtol=1e-3, atol=1e-6)


def test_known_noise_is_one_network(network: Network, digits: Examples) -> None:
    """An attacker who knows the seed sees the same gradient each time."""
    inputs, labels = images(digits, 2)
    gradient = Target(network, Noise(sigma=0.4, seed=3), draws=2, known=True).gradient(labels, torch.Generator())
    assert torch.equal(gradient(inputs), gradient(inputs))


def test_silent_network_answers_as_noise_of_sigma_0(network: Network, digits: Examples) -> None:
    """At sigma 0 a target skips the draws, and its logits are bit for bit those with them."""
    inputs, _ = images(digits, 4)
    with drawing(constant_draws("multiplicative", 0.0, 1, 4, 0)), torch.no_grad():
        expected = network(inputs)
        assert torch.equal(Target(network).logits(inputs, 1)[:, 0], expected)


def test_any_module_can_be_attacked(digits: Examples) -> None:
    """A plain torch module without a single noise site works as a target, also where several votes are asked for."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    inputs, labels = images(digits, 5)
    assert Target(plain).logits(inputs, 3).shape == (5, 3, 10)
    found = craft(Target(plain), for_transfer(pgd(0.3, 0.1, 5)), inputs, labels)
    assert bool((found.loss > Target.losses(Target(plain).logits(inputs, 1), labels)).all())


def test_crafting_goes_on_with_the_same_examples(network: Network, digits: Examples) -> None:
    """Images from the 32nd on come out the same whether or not those before were crafted in the same run."""
    whole = [crafted.inputs for crafted in craft_all(Target(network), pgd(0.3, 0.1, 3), digits, CPU, rows=32)]
    (rest,) = [c.inputs for c in craft_all(Target(network), pgd(0.3, 0.1, 3), digits, CPU, rows=32, first=32)]
    assert torch.equal(rest, whole[1])


def test_diverse_images_are_shrunk_inside_the_frame() -> None:
    """A shrunk image has less ink, and none outside of the pixel range; at probability 0 nothing changes."""
    ones = torch.ones(16, 1, 28, 28)
    shown = diverse(ones, 1.0, torch.Generator().manual_seed(0))
    ink = shown.mean(dim=(1, 2, 3)).numpy()
    assert float(shown.max()) <= 1 + 1e-6
    assert np.all((ink > 0.75) & (ink <= 1 + 1e-6))
    assert ink.min() < 0.95
    torch.testing.assert_close(
        diverse(ones, 0.0, torch.Generator().manual_seed(0))[..., 1:-1, 1:-1], ones[..., 1:-1, 1:-1]
    )
