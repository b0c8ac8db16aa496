"""Triton by pytriton: two instances, batches of up to four requests."""

import os
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytriton
from digit_votes import CLASSES, Voter
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from tritonclient.utils import InferenceServerException

# Its second instance waits a second for its first, which takes longer to start where two processors are shared.
HANDSHAKE: Final = Path(pytriton.__file__).parent / "proxy" / "communication.py"
IMPATIENT, PATIENT = "timeout_s: float = 1.0", "timeout_s: float = 30.0"
MOST_STARTS: Final = 4


class Digits:
    """One instance."""

    def __init__(self) -> None:
        self.voter = Voter()

    def __call__(self, requests: list[Any]) -> list[dict[str, Any]]:
        """A histogram for each image of each request."""
        images = [image for request in requests for image in request["image"]]
        votes = [int(each[0]) for request in requests for each in request["votes"]]
        found = iter(self.voter.histograms(images, votes))
        return [{"histogram": np.array([next(found) for _ in request["image"]])} for request in requests]


def serve(port: int) -> None:
    """Serve until ended."""
    with Triton(config=TritonConfig(http_port=port, grpc_port=port + 1, metrics_port=port + 2)) as triton:
        triton.bind(
            model_name="digits",
            infer_func=[Digits(), Digits()],
            inputs=[
                Tensor(name="image", dtype=np.uint8, shape=(1, 28, 28)),
                Tensor(name="votes", dtype=np.int64, shape=(1,)),
            ],
            outputs=[Tensor(name="histogram", dtype=np.int64, shape=(CLASSES,))],
            config=ModelConfig(max_batch_size=4, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()


if __name__ == "__main__":
    HANDSHAKE.write_text(HANDSHAKE.read_text().replace(IMPATIENT, PATIENT))
    try:
        serve(int(sys.argv[1]))
    except InferenceServerException:  # the instances met too early, which a new start may mend
        if len(sys.argv) > MOST_STARTS:
            raise
        os.execv(sys.executable, [sys.executable, *sys.argv, "again"])
