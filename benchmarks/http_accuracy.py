"""All test images of MNIST through a running server: measured accuracy beside the paper's.

    python -m benchmarks.http_accuracy --url http://127.0.0.1:8000 --out docs/results/mnist-cnn-http

Needs the MNIST test set (NOISEVOTE_DATA or a download, as for training). Every image is classified at
each sigma with the given votes by variant `auto`. The accuracy of one run is read off the same histograms:
the share of all single votes that are right, which is the mean over so many runs of the whole test set.
"""

import argparse
import asyncio
import base64
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.report import write
from benchmarks.server_process import PATH, served_model
from noisevote.training.data.files import DataSource
from noisevote.training.data.registry import load

# Qin and Vučinić, MNIST CNN, multiplicative noise, best σ_train, accuracy in %: (sigma, votes) → paper.
PAPER = {
    (0.0, 1): 99.6, (0.2, 1): 99.5, (0.4, 1): 99.3, (0.6, 1): 94.6, (0.8, 1): 86.1, (1.0, 1): 77.7,
    (0.0, 20): 99.6, (0.2, 20): 99.6, (0.4, 20): 99.6, (0.6, 20): 99.6, (0.8, 20): 99.6, (1.0, 20): 99.5,
}  # fmt: skip


TITLE = "All MNIST test images through the HTTP server, multiplicative noise, variant auto"
HEADER = "| sigma | votes | measured % | paper % | one run % | paper % | abstained | variant | votes/s |"
RULE = "|---|---|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Point:
    """Accuracy at one noise level and number of votes, as the server's clients see it."""

    sigma: float
    votes: int
    variants: list[str]
    images: int
    accuracy_percent: float
    paper_percent: float | None
    one_run_percent: float
    one_run_paper_percent: float | None
    abstained: int
    seconds: float
    votes_per_second: float


def main() -> None:
    """Measure every chosen (sigma, votes) and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http_accuracy", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    parser.add_argument("--votes", type=int, nargs="+", default=[20])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--inputs", type=int, default=20, help="images a request")
    parser.add_argument("--clients", type=int, default=8, help="requests under way at once")
    parser.add_argument("--seed", type=int, default=0, help="image i draws with seed + i")
    parser.add_argument("--out", type=Path, help="also write the points to OUT.json and the table to OUT.md")
    options = parser.parse_args()
    test = load("mnist", DataSource.from_environment()).test.first(options.images)
    images = test.inputs.astype(np.uint8, copy=False)  # bytes, as they are stored
    points = []
    print(HEADER, RULE, sep="\n")
    for votes in options.votes:
        for sigma in options.sigmas:
            points.append(asyncio.run(_measure(options, images, test.labels, sigma, votes)))
            print(_row(points[-1]), flush=True)
    points.sort(key=lambda point: (point.votes, point.sigma))
    if options.out:
        figures = [asdict(point) for point in points]
        write(options.out, figures, [HEADER, RULE, *map(_row, points)], TITLE, served_model(options.url))


def _row(point: Point) -> str:
    cells = (
        f"{point.sigma:.1f}",
        str(point.votes),
        f"{point.accuracy_percent:.2f}",
        _percent(point.paper_percent),
        f"{point.one_run_percent:.2f}",
        _percent(point.one_run_paper_percent),
        str(point.abstained),
        ", ".join(point.variants),
        f"{point.votes_per_second:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _percent(paper: float | None) -> str:
    return "–" if paper is None else f"{paper:.1f}"


async def _measure(
    options: argparse.Namespace, images: NDArray[np.uint8], labels: NDArray[np.integer[Any]], sigma: float, votes: int
) -> Point:
    starts = range(0, len(labels), options.inputs)
    gate = asyncio.Semaphore(options.clients)
    limits = httpx.Limits(max_connections=options.clients)
    began = time.perf_counter()
    async with httpx.AsyncClient(base_url=options.url, timeout=120, limits=limits) as client:
        with tqdm(total=len(labels), desc=f"sigma {sigma} votes {votes}", disable=None, leave=False) as bar:

            async def predict(start: int) -> dict[str, object]:
                body = _request(images[start : start + options.inputs], sigma, votes, options.seed + start)
                async with gate:
                    answer = await client.post(PATH, json=body)
                answer.raise_for_status()
                bar.update(len(body["inputs"]))
                return dict(answer.json())

            answers = await asyncio.gather(*(predict(start) for start in starts))
    seconds = time.perf_counter() - began
    predictions = [prediction for answer in answers for prediction in answer["predictions"]]  # type: ignore[attr-defined]  # JSON
    decided = np.array([prediction["index"] for prediction in predictions])
    histograms = np.array([prediction["histogram"] for prediction in predictions])  # [images, classes]
    right = histograms[np.arange(len(labels)), labels]
    return Point(
        sigma=sigma,
        votes=votes,
        variants=sorted({str(answer["variant"]) for answer in answers}),
        images=len(labels),
        accuracy_percent=round(100 * float((decided == labels).mean()), 4),
        paper_percent=PAPER.get((sigma, votes)),
        one_run_percent=round(100 * float(right.sum() / histograms.sum()), 4),
        one_run_paper_percent=PAPER.get((sigma, 1)),
        abstained=sum(bool(prediction["abstain"]) for prediction in predictions),
        seconds=round(seconds, 2),
        votes_per_second=round(int(histograms.sum()) / seconds, 1),
    )


def _request(images: NDArray[np.uint8], sigma: float, votes: int, seed: int) -> dict[str, list[dict[str, str]]]:
    inputs = [{"b64": base64.b64encode(image.tobytes()).decode(), "dtype": "uint8"} for image in images]
    parameters = {"sigma": sigma, "noise": "multiplicative", "votes": votes, "seed": seed, "stop": {"rule": "fixed"}}
    return {"inputs": inputs, **parameters}  # type: ignore[dict-item]  # JSON


if __name__ == "__main__":
    main()
