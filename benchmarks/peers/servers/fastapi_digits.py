"""FastAPI: `tiled` runs all votes of a request as rows of one run on the event loop, `loop` runs one after another."""

from digit_votes import Voter
from fastapi import FastAPI
from pydantic import BaseModel

tiled, loop = FastAPI(), FastAPI()
voter = Voter()


class Digit(BaseModel):
    """A PNG in base64, and how often it is run."""

    image: str
    votes: int


@tiled.post("/predict")
async def predict_tiled(digit: Digit) -> dict[str, list[int]]:
    """All votes in one run."""
    return {"histogram": voter.histograms([digit.image], [digit.votes])[0]}


@loop.post("/predict")
def predict_by_loop(digit: Digit) -> dict[str, list[int]]:
    """On a thread of the request's own."""
    return {"histogram": voter.histogram_by_loop(digit.image, digit.votes)}
