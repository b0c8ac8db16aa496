import pytest
import torch
from torch import Tensor

from noisevote.noise_op import torch_philox

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SHAPES = [((3, 4, 5, 6), [2, 0, 0, 1, 2, 2]), ((5, 3, 8, 8), None), ((4, 33, 7, 5), None), ((2, 10), [1, 1, 0])]


@pytest.mark.parametrize(("shape", "row"), SHAPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
def test_triton_draws_and_differentiates_as_plain_torch(
    shape: tuple[int, ...], row: list[int] | None, layout: torch.memory_format, relu: bool, dtype: torch.dtype,
    tolerance: float,
) -> None:  # fmt: skip  # what varies in one line
    """Values and gradients of the Triton kernels are those of plain torch on the CPU, in any layout, to rounding."""
    from noisevote.noise_op import triton_philox

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator).to(dtype)
    x = x.to(memory_format=layout) if x.dim() == 4 else x
    rows = shape[0] if row is None else len(row)
    sigma = torch.rand(rows, 2, generator=generator) + 0.05
    seed = torch.randint(-(2**62), 2**62, (rows,), generator=generator)
    vote = torch.randint(0, 2**32, (rows,), generator=generator)
    sources = None if row is None else torch.tensor(row)
    upstream = torch.randn((rows, *shape[1:]), generator=generator).to(dtype)
    site, step = 2**32 - 3, 2**31 + 1

    expected = torch_philox.gaussian_noise(x, sigma, seed, vote, sources, step, site, relu)
    slope = torch_philox.gradient(upstream, x, expected, sigma, sources, relu)

    def there(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.cuda()

    found = triton_philox.gaussian_noise(
        x.cuda(), sigma.cuda(), seed.cuda(), vote.cuda(), there(sources), step, site, relu
    )
    gradient = triton_philox.gradient(upstream.cuda(), x.cuda(), expected.cuda(), sigma.cuda(), there(sources), relu)
    torch.testing.assert_close(found.cpu(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradient.cpu(), slope, rtol=5 * tolerance, atol=5 * tolerance)
    assert x.dim() != 4 or found.is_contiguous(memory_format=layout)
