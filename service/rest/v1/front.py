"""What `/v1` is made of."""

from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel

from noisevote.service.prediction.inputs import ImageInput, RawInput
from noisevote.service.prediction.policy_keys import Route
from noisevote.service.rest.admission import VoteRoute
from noisevote.service.rest.v1 import admin_models, certify, models, plan, predict, stream
from noisevote.service.rest.v1.certify_schemas import CertifyBody
from noisevote.service.rest.v1.demand import PATH, demand
from noisevote.service.rest.v1.error_schemas import ErrorResponse
from noisevote.service.rest.v1.plan_schemas import PlanRequest
from noisevote.service.rest.v1.schemas import PredictRequest

ROUTERS: Final[tuple[APIRouter, ...]] = (
    predict.router,
    stream.router,
    certify.router,
    plan.router,
    models.router,
    admin_models.router,
)
# Whose requests are so many, and so short, that the way to them counts.
FREQUENT: Final = tuple(route for route in predict.router.routes if isinstance(route, APIRoute))
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

_MODEL: Final = ("/v1/models/{name}", "/v1/models/{name}/versions/{version}")
# Which route of a model's policy each path stands under, and which paths stand under none: they ask for no votes.
POLICED_ROUTES: Final[Mapping[tuple[str, str], Route]] = {
    **{("POST", f"{model}/{path}"): "predict" for model in _MODEL for path in ("predict", "predict/stream")},
    **{("POST", f"{model}/{path}"): "certify" for model in _MODEL for path in ("certify", "certify/stream")},
    **{("POST", f"{model}/plan"): "plan" for model in _MODEL},
}
OPEN_ROUTES: Final = frozenset(("GET", path) for path in ("/v1/models", *_MODEL)) | admin_models.ROUTES
