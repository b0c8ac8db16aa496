"""Ask a server for votes with Locust's own command and page; docs/loadtest.md shows how.

locust -f loadtest/locustfile.py --host http://127.0.0.1:8000 --users 8 --votes 1,20 --stop exact
"""

import math
from argparse import ArgumentParser
from random import Random
from time import perf_counter
from typing import get_args

from locust import events
from locust.env import Environment
from locust.exception import StopTest
from pydantic import ValidationError

from noisevote.loadtest.arrivals import SEED
from noisevote.loadtest.errors import LoadTestError, problems
from noisevote.loadtest.flags import add_model
from noisevote.loadtest.phase import ClosedLoop, Load, OpenLoop, Order, Phase, Rule
from noisevote.loadtest.target import Target, choose_input
from noisevote.loadtest.voter import Voter


class Client(Voter):
    """A client of a closed loop; with `--rate`, requests at that rate whatever becomes of earlier ones."""


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # Locust's events have no types
def add_flags(parser: ArgumentParser) -> None:
    """What is asked. Locust's page shows these as fields."""
    add_model(parser)
    parser.add_argument("--votes", default="20", help="votes of a request; of several, comma between, each draws one")
    parser.add_argument("--sigma", type=float, default=0.8, help="standard deviation of the noise")
    parser.add_argument("--stop", choices=get_args(Rule), default="fixed", help="stopping rule")
    parser.add_argument("--rate", type=float, help="open loop: requests per second that each user sends")


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # Locust's events have no types
def prepare(environment: Environment) -> None:
    """Ask the server what the model takes, before the users start."""
    try:
        Client.order = _order(environment)
    except (LoadTestError, ValidationError) as error:
        environment.process_exit_code = 1
        raise StopTest(problems(error)) from None
    Client.random, Client.began = Random(SEED), perf_counter()


def _order(environment: Environment) -> Order:
    options = environment.parsed_options
    assert options is not None
    load: Load = ClosedLoop(clients=1) if options.rate is None else OpenLoop.model_validate({"rate": options.rate})
    asked = {"votes": options.votes.split(","), "sigma": options.sigma, "rule": options.stop}
    phase = Phase.model_validate(asked | {"part": "mixed votes", "load": load, "seconds": math.inf})
    target = Target(str(environment.host), options.model)
    description = target.describe()
    return target.order(phase, choose_input(description.name, description.manifest.input, options.input))
