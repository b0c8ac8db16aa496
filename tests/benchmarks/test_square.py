import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.square import Kept
from noisevote.training.attack.square import Tried

TOLD = json.dumps({"sigma": 0.3})


def test_an_attack_is_kept_whole(tmp_path: Path) -> None:
    """Images, margins, curve and the generator's state come back as they were; of another attack they are refused."""
    kept, generator = Kept(tmp_path / "state.npz", TOLD), np.random.default_rng(0)
    assert kept.read()[:2] == (None, [])
    generator.random(5)
    found = Tried(7, generator.random((2, 1, 4, 4), np.float32), generator.random(2))
    kept.write(found, [(0, 1.0), (1, 0.5)], generator)
    begun, curve, again = kept.read()
    assert begun is not None
    assert (begun.query, curve) == (7, [(0, 1.0), (1, 0.5)])
    assert np.array_equal(begun.images, found.images)
    assert np.array_equal(begun.margins, found.margins)
    assert again.random() == generator.random()
    with pytest.raises(SystemExit, match="is of another attack"):
        Kept(tmp_path / "state.npz", "{}").read()


def test_nothing_is_kept_without_a_file() -> None:
    """An attack without a state file begins at the beginning."""
    kept = Kept(None, TOLD)
    kept.write(Tried(1, np.zeros((1, 1, 4, 4), np.float32), np.zeros(1)), [], np.random.default_rng(0))
    assert kept.read()[:2] == (None, [])
