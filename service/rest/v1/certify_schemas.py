"""Bodies of a certificate's request and answer."""

from functools import partial
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from noisevote.service.prediction.certify_options import CertifyRequest
from noisevote.service.prediction.inputs import decode_inputs
from noisevote.service.prediction.options import MAX_DEADLINE_MS
from noisevote.service.rest.v1.answer_schemas import Timing
from noisevote.service.rest.v1.schemas import DIGIT_7, Inputs
from noisevote.service.validation import INTEGRAL, UINT64, Body, RequestBody


class CertifyBody(RequestBody):
    """Inputs, and how many votes certify each."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": [{"image": DIGIT_7}], "radius": 0.5, "rule": "anytime"}]}
    )

    inputs: Inputs
    """each is nested numbers of the model's input shape, raw bytes, or an image file"""
    n0: Annotated[int, Field(ge=1, le=10**6), INTEGRAL] = 100
    """votes that select the class: each input's votes 0 … n0 − 1"""
    n: Annotated[int, Field(ge=1, le=10**6), INTEGRAL] = 100_000
    """further votes that estimate its probability, at most"""
    alpha: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.001
    """error probability of each certificate"""
    radius: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    """the L2 radius wanted, in units of the input; a smaller one is no certificate. Without it, as large as it gets"""
    rule: Literal["fixed", "anytime"] = "fixed"
    """`fixed`: all n votes (Cohen et al. 2019). `anytime`: until the radius is certified, refuted or out of reach; what
    it certifies holds wherever the voting ends"""
    deadline_ms: Annotated[float, Field(gt=0, le=MAX_DEADLINE_MS, allow_inf_nan=False)] | None = None
    """answer so long after acceptance with the votes counted so far, of which `fixed` certifies nothing"""
    variant: str | None = None
    """name of a variant that certifies; needed where several do"""

    def as_certify_request(self) -> CertifyRequest:
        """The same for all protocols."""
        return CertifyRequest(
            inputs=len(self.inputs),
            decode=partial(decode_inputs, self.inputs),
            n0=self.n0,
            n=self.n,
            alpha=self.alpha,
            radius=self.radius,
            rule=self.rule,
            deadline_ms=self.deadline_ms,
            variant=self.variant,
            given=frozenset(self.model_fields_set),
        )


class CertificateBody(Body):
    """What the votes on one input certify."""

    index: int | None
    """the selected class; null where the deadline came before it was selected"""
    label: str | None
    """its name"""
    radius: float
    """no input within this L2 distance has another smoothed decision, with confidence 1 − alpha; rounded down"""
    abstain: bool
    """no radius is certified, or not the one that was asked for; `radius` is 0"""
    lower_bound: float
    """lower bound at confidence 1 − alpha of the probability of a vote for the class"""
    count: int
    """estimating votes for the class"""
    votes_used: int
    """estimating votes; the selecting ones come before them"""
    first_vote: int
    """number of the first estimating vote: n0"""
    seed: Annotated[int, Field(json_schema_extra=UINT64)]
    """first 64 bits, big-endian, of SHA-256(sha256 of the file ‖ the input's float32 bytes ‖ nonce)"""
    stopped_by: Literal["radius", "refuted", "unreachable", "budget", "deadline"]
    """what ended the voting: `radius`, it is certified; `refuted`, an upper bound lies below what it needs;
    `unreachable`, not even votes of one accord would do; `budget`, n votes are cast; `deadline`, it passed before, or
    the server ended"""


class CertifyResponse(Body):
    """One certificate per input, and everything that is needed to recompute them from the file."""

    model: str
    version: str
    variant: str
    sha256: str
    """of the ONNX file"""
    operator: int
    """version of the noise operator"""
    sigma: float
    """standard deviation of the additive noise on the input"""
    alpha: float
    n0: int
    n: int
    rule: Literal["fixed", "anytime"]
    radius_asked: float | None
    nonce: str
    """16 bytes in hexadecimal digits, drawn by the server once the inputs were fixed"""
    certificates: list[CertificateBody]
    timing_ms: Timing
