"""When a process that tries files is started before the server is imported."""

from pathlib import Path

import pytest

from noisevote.engine.trial import TrialLimits
from noisevote.service.models.ahead import trial_ahead
from noisevote.service.settings import Settings


def test_a_first_start_has_one_within_its_limits(tmp_path: Path) -> None:
    """Where nothing is kept of earlier starts, or never is."""
    for file in (tmp_path / "timings.json", None):
        settings = Settings(timings_file=file)
        trial = trial_ahead(settings)
        assert trial is not None
        assert trial.limits == TrialLimits(settings.load_seconds, settings.load_bytes)
        trial.close()


@pytest.mark.parametrize("lazy", [{"lazy": True}, {"model_bytes": 2**20}, {}])
def test_where_none_may_be_needed_there_is_none(lazy: dict[str, int], tmp_path: Path) -> None:
    """Files that a request loads are tried then, and those of a later start passed before."""
    kept = tmp_path / "timings.json"
    if not lazy:
        kept.touch()
    assert trial_ahead(Settings(timings_file=kept, **lazy)) is None  # type: ignore[arg-type]  # its settings
