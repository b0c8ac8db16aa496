"""Starts what tries files before the server is imported: both take about as long, and there are other processors."""

from noisevote.engine.trial import TrialLimits
from noisevote.engine.trial_process import TrialProcess
from noisevote.noise_op.library import load_kernel
from noisevote.service.settings import Settings


def trial_ahead(settings: Settings) -> TrialProcess | None:
    """A process that gets ready to try files; None where it may not be needed.

    That is where files are tried by their first request, and where an earlier start kept what passed.
    """
    kept = settings.timings_file is not None and settings.timings_file.exists()
    if kept or settings.lazy or settings.model_bytes is not None:
        return None
    trial = TrialProcess(load_kernel(), TrialLimits(settings.load_seconds, settings.load_bytes))
    trial.start()
    return trial
