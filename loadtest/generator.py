"""The process that makes the load: `python -m loadtest.generator URL` reads orders and answers turns, JSON lines both.

It is a process of its own because importing Locust replaces sockets and threads of the whole process (gevent).
"""

import sys
from time import process_time

from locust.env import Environment

from noisevote.loadtest.phase import Order
from noisevote.loadtest.sample import Sample, Turn
from noisevote.loadtest.voter import ordered


def main() -> int:
    """Run orders from standard input, one after another, until it ends."""
    url = sys.argv[1]
    for line in sys.stdin:
        print(_run(url, Order.model_validate_json(line)).model_dump_json(), flush=True)
    return 0


def _run(url: str, order: Order) -> Turn:
    samples: list[Sample] = []
    clients = order.phase.load.clients if order.phase.load.kind == "closed" else 1
    own_began = process_time()
    users = ordered(url, order, samples.append)
    runner = Environment(user_classes=[users], host=url).create_local_runner()
    runner.start(clients, spawn_rate=clients)
    if runner.spawning_greenlet is not None:
        runner.spawning_greenlet.join()
    runner.user_greenlets.join()
    runner.quit()
    return Turn(samples=tuple(samples), processor_seconds=process_time() - own_began)


if __name__ == "__main__":
    sys.exit(main())
