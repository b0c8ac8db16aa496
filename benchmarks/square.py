"""Square attack on a running server, through nothing but its answers: `python -m benchmarks.square --help`.

Every query asks for so many votes on each image, with seeds that the server draws; between queries the images are
judged by further votes, which the attacker does not see.
"""

import argparse
import io
import json
import time
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from numpy.typing import NDArray

from noisevote.model_store.files import replace_file
from noisevote.training.attack.square import Images, Tried, square
from noisevote.training.data.files import DataSource
from noisevote.training.data.registry import load

OUT: Final = Path(__file__).resolve().parents[1] / "docs" / "results" / "defence" / "square.json"
JUDGES: Final = 20
JUDGED_AT: Final = (1, 10, 50, 100, 200, 300, 500, 750, 1000, 2000)
LEAST: Final = 1e-9  # probability, so that its logarithm is one
AT_ONCE: Final = 50  # images a request
WRITE_EVERY_S: Final = 20.0
Curve = list[tuple[int, float]]  # queries and accuracy


class Server:
    """One variant under one noise, as its clients see it."""

    def __init__(self, url: str, model: str, variant: str, sigma: float) -> None:
        self.client = httpx.Client(base_url=url, timeout=120)
        self.path = f"/v1/models/{model}/predict"
        self.options = {"variant": variant, "sigma": sigma, "noise": "multiplicative"}

    def ask(self, images: Images, votes: int) -> list[dict[str, Any]]:
        """The predictions about the images."""
        found: list[dict[str, Any]] = []
        for start in range(0, len(images), AT_ONCE):
            some = images[start : start + AT_ONCE]
            inputs = [{"b64": b64encode(image.tobytes()).decode(), "dtype": "float32"} for image in some]
            answer = self.client.post(self.path, json={"inputs": inputs, "votes": votes, **self.options})
            answer.raise_for_status()
            found += answer.json()["predictions"]
        return found

    def margins(self, images: Images, labels: NDArray[np.int64], votes: int) -> NDArray[np.float64]:
        """Logarithm of the label's mean probability, less that of the most probable other class."""
        told = np.array([prediction["mean_probabilities"] for prediction in self.ask(images, votes)])
        told = np.log(np.maximum(told, LEAST))
        own = told[np.arange(len(told)), labels].copy()
        told[np.arange(len(told)), labels] = -np.inf
        return np.asarray(own - told.max(axis=1))

    def accuracy(self, images: Images, labels: NDArray[np.int64]) -> float:
        """Share of the images that further votes decide rightly."""
        decided = np.array([prediction["index"] for prediction in self.ask(images, JUDGES)])
        return float((decided == labels).mean())


def main() -> None:
    """Attack once, and add the curve to the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.square", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="mnist-cnn-robust")
    parser.add_argument("--variant", default="robust-mul-0.3")
    parser.add_argument("--sigma", type=float, default=0.0)
    parser.add_argument("--votes", type=int, default=1, help="answers that the attacker averages in each query")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--every", type=int, default=50, help="every so many test images one")
    parser.add_argument("--out", type=Path, default=OUT, help="the record")
    parser.add_argument("--state", type=Path, help="file that the attack is kept in, to go on from when stopped")
    options = parser.parse_args()
    test = load("mnist", DataSource.from_environment()).test
    chosen = np.arange(0, len(test), options.every)
    images, labels = test.values(chosen), test.labels[chosen].astype(np.int64)
    server = Server(options.url, options.model, options.variant, options.sigma)
    told = {name: getattr(options, name) for name in ("model", "variant", "sigma", "votes", "eps", "every", "queries")}
    state = Kept(options.state, json.dumps(told))
    begun, curve, generator = state.read()
    if not curve:
        curve.append((0, server.accuracy(images, labels)))
    last = time.monotonic()
    for found in square(
        lambda x: server.margins(x, labels, options.votes), images, options.eps, options.queries, generator, begun
    ):
        judged = found.query in JUDGED_AT or found.query == options.queries
        if judged:
            curve.append((found.query, round(server.accuracy(found.images, labels), 5)))
            _keep(options.out, {**told, "images": len(images), "judges": JUDGES, "curve": curve})
            print(found.query, curve[-1][1], flush=True)
        if judged or time.monotonic() - last > WRITE_EVERY_S:
            state.write(found, curve, generator)
            last = time.monotonic()


class Kept:
    """The state of an attack in a file, so that a measurement of hours can be stopped; None: it is not kept.

    `told` says which attack it is of.
    """

    def __init__(self, path: Path | None, told: str) -> None:
        self.path = path
        self.told = told

    def read(self) -> tuple[Tried | None, Curve, np.random.Generator]:
        """What to go on from: nothing where there is no such file."""
        generator = np.random.default_rng(0)
        if self.path is None or not self.path.exists():
            return None, [], generator
        with np.load(self.path, allow_pickle=False) as stored:
            if str(stored["told"]) != self.told:
                raise SystemExit(f"{self.path}: is of another attack, {stored['told']}")
            generator.bit_generator.state = json.loads(str(stored["generator"]))
            begun = Tried(int(stored["query"]), stored["images"], stored["margins"])
            return begun, [(int(q), float(a)) for q, a in json.loads(str(stored["curve"]))], generator

    def write(self, found: Tried, curve: Curve, generator: np.random.Generator) -> None:
        """Replace the file."""
        if self.path is None:
            return
        content = io.BytesIO()
        np.savez_compressed(
            content, told=self.told, query=found.query, images=found.images, margins=found.margins,
            curve=json.dumps(curve), generator=json.dumps(generator.bit_generator.state),
        )  # fmt: skip
        replace_file(self.path, content.getvalue())


def _keep(out: Path, row: dict[str, Any]) -> None:
    kept = json.loads(out.read_text()) if out.exists() else []
    keys = ("model", "variant", "sigma", "votes", "eps", "every", "queries")
    kept = [old for old in kept if any(old[key] != row[key] for key in keys)]
    out.write_text(json.dumps([*kept, row], indent=1) + "\n")


if __name__ == "__main__":
    main()
