"""Votes of examples, cast by an engine in runs that suit it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.evaluation.engine import Engine
from noisevote.evaluation.examples import Labelled
from noisevote.evaluation.plan import Noise, Plan
from noisevote.noise_op.contract import sigma_row


def cast_votes(engine: Engine, examples: Labelled, noise: Noise, plan: Plan) -> NDArray[np.int64]:
    """The class of every single vote, int64 [examples, votes]."""
    return np.asarray(cast_logits(engine, examples, noise, plan).argmax(axis=2))


def cast_logits(engine: Engine, examples: Labelled, noise: Noise, plan: Plan) -> NDArray[np.float32]:
    """The logits of every single vote, float32 [examples, votes, classes], all in memory at once."""
    logits = np.concatenate([found for _, found in logits_by_run(engine, examples, noise, plan)])
    return logits.reshape(len(examples), plan.passes(noise[1]), -1)


def logits_by_run(
    engine: Engine, examples: Labelled, noise: Noise, plan: Plan
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Some examples and the logits of all their votes, run by run of about as many rows as suit the engine.

    Yields:
        Which examples, and float32 [examples × votes, classes], the votes of an example one after another.
    """
    passes = plan.passes(noise[1])
    per_run = max(1, engine.rows // passes)
    for start in range(0, len(examples), per_run):
        chosen = slice(start, min(start + per_run, len(examples)))
        yield chosen, engine.logits(_feeds(examples.values(chosen), start, noise, passes, plan.seed))


def _feeds(inputs: NDArray[np.float32], start: int, noise: Noise, passes: int, seed: int) -> Feeds:
    """`passes` votes for each of the inputs, the first of which is number `start` of all."""
    row = np.repeat(np.arange(len(inputs), dtype=np.int64), passes)
    sigma = np.tile(np.array(sigma_row(*noise), np.float32), (len(row), 1))
    vote = np.tile(np.arange(passes, dtype=np.int64), len(inputs))
    return Feeds(inputs, sigma, row + np.int64(start + seed), vote, row)
