"""A client of a noisevote server: `Client`, or `AsyncClient` under asyncio. Needs httpx, NumPy and pydantic alone.

from noisevote.client import Client

with Client("http://127.0.0.1:8000") as client:
    answer = client.predict("mnist-cnn", "digit.png", sigma=0.8, votes=50)
print(answer.predictions[0].label, answer.predictions[0].histogram)
"""

from noisevote.client.answers import (
    AnalogCost,
    Answer,
    CastVote,
    Certificate,
    Certificates,
    LeadingClass,
    Model,
    Plan,
    Planning,
    Prediction,
    Standing,
    Stop,
)
from noisevote.client.asynchronous import AsyncClient
from noisevote.client.blocking import Client
from noisevote.client.errors import (
    AnswerError,
    BusyError,
    ClientError,
    InputError,
    RefusedError,
    UnreachableError,
    UnrepeatableError,
)
from noisevote.client.replay import Replay

__all__ = [
    "AnalogCost",
    "Answer",
    "AnswerError",
    "AsyncClient",
    "BusyError",
    "CastVote",
    "Certificate",
    "Certificates",
    "Client",
    "ClientError",
    "InputError",
    "LeadingClass",
    "Model",
    "Plan",
    "Planning",
    "Prediction",
    "RefusedError",
    "Replay",
    "Standing",
    "Stop",
    "UnreachableError",
    "UnrepeatableError",
]
