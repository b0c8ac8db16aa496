from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisevote.training.runs import checkpoint
from noisevote.training.runs.checkpoint import Checkpoint, CheckpointError


@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_state_keeps_every_bit_of_its_floats(numbers: list[float], tmp_path_factory: pytest.TempPathFactory) -> None:
    """The schedule's floats come back as the same doubles, or a run that goes on would differ."""
    path = tmp_path_factory.mktemp("state") / "checkpoint"
    checkpoint.write(path, Checkpoint({"x": torch.zeros(1)}, {"numbers": numbers}))
    assert [number.hex() for number in checkpoint.read(path).state["numbers"]] == [number.hex() for number in numbers]


def test_parts_come_back_under_their_own_names(tmp_path: Path) -> None:
    """Tensors of any layout and type come back equal, each part without its prefix and without its neighbours."""
    image = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensors = {"model.a": image, "model.b.c": torch.tensor(3), "models.a": torch.ones(2, dtype=torch.bfloat16)}
    checkpoint.write(tmp_path / "c", Checkpoint(tensors, {}))
    part = checkpoint.read(tmp_path / "c").part("model")
    assert part.keys() == {"a", "b.c"}
    assert torch.equal(part["a"], image)
    assert int(part["b.c"]) == 3


def test_writing_leaves_one_file(tmp_path: Path) -> None:
    """A second write takes the first one's place and leaves no temporary file."""
    for epoch in range(2):
        checkpoint.write(tmp_path / "c", Checkpoint({"x": torch.zeros(1)}, {"epoch": epoch}))
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert checkpoint.read(tmp_path / "c").state == {"epoch": 1}


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint"])
def test_unreadable_checkpoint_is_refused_by_name(content: bytes | None, tmp_path: Path) -> None:
    """A missing or damaged file is an error that names it."""
    path = tmp_path / "damaged"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.read(path)


def test_optimizer_goes_on_as_if_never_packed(tmp_path: Path) -> None:
    """AdamW makes the same next step after its state went through a file, and keeps its moments channels-last."""

    def step(weights: torch.nn.Parameter, optimizer: torch.optim.Optimizer, scale: float) -> None:
        optimizer.zero_grad()
        (weights * scale).square().sum().backward()  # type: ignore[no-untyped-call]  # untyped in torch
        optimizer.step()

    torch.manual_seed(0)
    weights = torch.nn.Parameter(torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last))
    optimizer = torch.optim.AdamW([weights], lr=0.1, betas=(0.85, 0.99))
    step(weights, optimizer, 1.0)
    tensors, groups = checkpoint.pack_optimizer(optimizer)
    checkpoint.write(tmp_path / "c", Checkpoint(tensors, {"groups": groups}))
    copy = torch.nn.Parameter(weights.detach().clone(memory_format=torch.preserve_format))
    restored = torch.optim.AdamW([copy], lr=0.5)
    saved = checkpoint.read(tmp_path / "c")
    checkpoint.unpack_optimizer(restored, saved.tensors, saved.state["groups"])
    step(weights, optimizer, 2.0)
    step(copy, restored, 2.0)
    assert torch.equal(copy, weights)
    assert restored.state[copy]["exp_avg"].is_contiguous(memory_format=torch.channels_last)
