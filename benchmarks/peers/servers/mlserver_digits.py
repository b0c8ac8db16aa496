"""MLServer: two parallel workers."""

from digit_votes import CLASSES, Voter
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Digits(MLModel):
    """One worker."""

    async def load(self) -> bool:
        """Load."""
        self.voter = Voter()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The image is a PNG in base64, the votes a number."""
        image, votes = (each.data.root[0] for each in payload.inputs)
        text = image if isinstance(image, str) else image.decode()
        (histogram,) = self.voter.histograms([text], [int(votes)])
        output = ResponseOutput(name="histogram", shape=[1, CLASSES], datatype="INT64", data=histogram)
        return InferenceResponse(model_name=self.name, outputs=[output])
