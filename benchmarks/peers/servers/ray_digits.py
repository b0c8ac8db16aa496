"""Ray Serve: two replicas of one processor each, on a cluster of this machine alone."""

import os
import sys
from typing import Any

os.environ["RAY_AUTH_MODE"] = "disabled"  # read on import; else Ray writes a token into the home folder

import ray
from digit_votes import Voter
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=8)
class Digits:
    """One replica."""

    def __init__(self) -> None:
        self.voter = Voter()

    async def __call__(self, request: Request) -> dict[str, Any]:
        """All votes in one run."""
        asked = await request.json()
        return {"histogram": self.voter.histograms([asked["image"]], [asked["votes"]])[0]}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False}
    )
    serve.run(Digits.bind(), route_prefix="/predict", blocking=True)  # type: ignore[attr-defined]  # by the decorator
