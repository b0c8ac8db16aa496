"""The values that a request's options may have, in whatever protocol: types for the bodies that are read."""

from typing import Annotated, Final

from pydantic import Field

from noisevote.service.prediction.options import MAX_DEADLINE_MS, MAX_FIRST_VOTE, MAX_PRIORITY, MAX_SIGMA
from noisevote.service.validation import GIVEN, INT64, INTEGRAL, UINT64

# Left out where they are not given; null is refused.
Sigma = Annotated[Annotated[float, Field(ge=0, le=MAX_SIGMA, allow_inf_nan=False)] | None, GIVEN]
SnrDb = Annotated[Annotated[float, Field(ge=-20, allow_inf_nan=False)] | None, GIVEN]
NOISE_KEYS: Final = frozenset({"sigma", "snr_db"})

Votes = Annotated[int, Field(ge=1), INTEGRAL]
TopK = Annotated[int, Field(ge=1), INTEGRAL]
Reads = Annotated[int, Field(ge=1, le=2**31), INTEGRAL]
Seed = Annotated[int, Field(ge=0, lt=2**64, json_schema_extra=UINT64), INTEGRAL]
FirstVote = Annotated[int, Field(ge=0, le=MAX_FIRST_VOTE, json_schema_extra=INT64), INTEGRAL]
Probability = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
DeadlineMs = Annotated[float, Field(gt=0, le=MAX_DEADLINE_MS, allow_inf_nan=False)]
Priority = Annotated[int, Field(ge=1, le=MAX_PRIORITY), INTEGRAL]
