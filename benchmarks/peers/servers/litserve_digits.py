"""LitServe: two workers, batches of up to four requests."""

import sys
from typing import Any

import litserve
from digit_votes import Voter


class Digits(litserve.LitAPI):
    """One worker."""

    def setup(self, device: str) -> None:  # noqa: ARG002  # LitServe names it
        """Load."""
        self.voter = Voter()

    def decode_request(self, request: dict[str, Any]) -> tuple[str, int]:
        """Image and votes."""
        return request["image"], request["votes"]

    def batch(self, inputs: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """As they are."""
        return inputs

    def predict(self, x: list[tuple[str, int]]) -> list[list[int]]:
        """A histogram for each request."""
        found: list[list[int]] = self.voter.histograms([image for image, _ in x], [votes for _, votes in x])
        return found

    def unbatch(self, output: list[list[int]]) -> list[list[int]]:
        """As they are."""
        return output

    def encode_response(self, output: list[int]) -> dict[str, list[int]]:
        """As JSON."""
        return {"histogram": output}


if __name__ == "__main__":
    server = litserve.LitServer(
        Digits(max_batch_size=4, batch_timeout=0.001), accelerator="cpu", devices=1, workers_per_device=2
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
