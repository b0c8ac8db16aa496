"""Says what the body of a request to predict asks for. Known to the process that reads long bodies: no FastAPI here."""

from noisevote.service.prediction.options import PredictionRequest
from noisevote.service.rest.json_body import JsonLimits, read_object
from noisevote.service.rest.v1.schemas import PredictRequest
from noisevote.service.settings import Settings


def parse(body: bytes, settings: Settings) -> PredictionRequest:
    """What a body asks for.

    Raises:
        ServiceError: the body cannot be used; the message names key and value.
    """
    return read_object(PredictRequest, body, JsonLimits.of(settings)).as_prediction_request()
