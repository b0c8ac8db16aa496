from pathlib import Path

import pytest

from noisevote.model_store.store import ModelStore
from tests.support.versions import one_version


@pytest.fixture
def growing(tmp_path: Path) -> ModelStore:
    """A store with version 1 of a model, to which tests publish others."""
    return one_version(tmp_path)
