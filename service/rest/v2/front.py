"""What `/v2` is made of."""

from collections.abc import Mapping
from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel

from noisevote.service.prediction.policy_keys import Route
from noisevote.service.rest.admission import VoteRoute
from noisevote.service.rest.v2 import infer, models, repository, server
from noisevote.service.rest.v2.demand import PATH, demand
from noisevote.service.rest.v2.schemas import IndexRequest, InferParameters, InferRequest, LoadRequest, UnloadRequest

ROUTERS: Final[tuple[APIRouter, ...]] = (infer.router, server.router, models.router, repository.router)
# Whose requests are so many, and so short, that the way to them counts.
FREQUENT: Final = (*(route for route in infer.router.routes if isinstance(route, APIRoute)), *server.FREQUENT)
VOTE_ROUTE: Final = VoteRoute(PATH, demand)
# Bodies that routes read and answer themselves, so that FastAPI does not see them.
BODIES: Final[tuple[type[BaseModel], ...]] = (InferRequest, InferParameters, IndexRequest, LoadRequest, UnloadRequest)

_MODEL: Final = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
# Which route of a model's policy each path stands under, and which paths stand under none: they ask for no votes.
POLICED_ROUTES: Final[Mapping[tuple[str, str], Route]] = {("POST", f"{model}/infer"): "predict" for model in _MODEL}
OPEN_ROUTES: Final = frozenset(
    {
        *(("GET", f"{model}{path}") for model in _MODEL for path in ("", "/ready", "/config", "/stats")),
        *(("GET", path) for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats")),
        *(("POST", f"/v2/repository/{path}") for path in ("index", "models/{name}/load", "models/{name}/unload")),
    }
)
