"""What `/v1` is made of."""

from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel

from noisevote.service.prediction.inputs import ImageInput, RawInput
from noisevote.service.rest.admission import VoteRoute
from noisevote.service.rest.v1 import certify, models, plan, predict, stream
from noisevote.service.rest.v1.certify_schemas import CertifyBody
from noisevote.service.rest.v1.demand import PATH, demand
from noisevote.service.rest.v1.plan_schemas import PlanRequest
from noisevote.service.rest.v1.schemas import ErrorResponse, PredictRequest

ROUTERS: Final[tuple[APIRouter, ...]] = (predict.router, stream.router, certify.router, plan.router, models.router)
VOTE_ROUTE: Final = VoteRoute(PATH, demand)
# Bodies that routes read and answer themselves, so that FastAPI does not see them.
BODIES: Final[tuple[type[BaseModel], ...]] = (
    PredictRequest,
    RawInput,
    ImageInput,
    CertifyBody,
    PlanRequest,
    ErrorResponse,
)
