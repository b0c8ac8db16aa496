"""What HTTP costs: votes per second through a server beside those of the same code in one process without HTTP.

`python -m benchmarks.http_overhead` measures it, by turns, and a load test's report shows it beside its own figures.
"""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from noisevote.loadtest.errors import RecordError, problems
from noisevote.loadtest.phase import Frozen, Votes

Positive = Annotated[float, Field(gt=0)]


class OverheadPoint(Frozen):
    """Medians over the rounds for requests of so many votes."""

    votes: Votes
    http_votes_per_second: Positive
    in_process_votes_per_second: Positive
    kept: Positive
    """HTTP ÷ in process, round by round"""
    client_processors: Annotated[float, Field(ge=0)]
    """processors that asking over HTTP kept busy, on the machine of the server"""


class Overhead(Frozen):
    """The same clients ask over HTTP and in process, in turns."""

    clients: int
    sigma: float
    lanes: int
    rounds: int
    turn_seconds: float
    points: Annotated[tuple[OverheadPoint, ...], Field(min_length=1)]


def read_overhead(path: Path) -> Overhead:
    """What `benchmarks.http_overhead --out` wrote.

    Raises:
        RecordError: it cannot be read, or is something else.
    """
    try:
        return Overhead.model_validate(json.loads(path.read_bytes())["figures"])
    except OSError as error:
        raise RecordError(path, error.strerror or str(error)) from error
    except ValidationError as error:
        raise RecordError(path, f"no record of benchmarks.http_overhead: {problems(error)}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise RecordError(path, "no record of benchmarks.http_overhead") from error
