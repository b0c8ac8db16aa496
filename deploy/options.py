"""What can be said about the scale-out when it is deployed: arguments of `serve run`."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from noisevote.service.backends.replicated import Spreading


class ScaleOut(BaseModel):
    """What can be said about replicas, beside the settings of the service."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    min_replicas: Annotated[int, Field(ge=1)] = 1
    """fewest replicas"""
    max_replicas: Annotated[int, Field(ge=1)] = 4
    """most replicas"""
    cpus: Annotated[int, Field(ge=1)] = 1
    """processors of a replica, one thread each"""
    pinned: bool = False
    """each replica keeps to cores that no other on its machine has"""
    rows_per_replica: Annotated[int, Field(ge=1)] = 5000
    """queued votes for which there is another replica"""
    upscale_delay_s: Annotated[float, Field(ge=0)] = 5
    """for so long more replicas must be wanted before they are added"""
    downscale_delay_s: Annotated[float, Field(ge=0)] = 120
    """for so long fewer must be wanted before some end"""
    part_rows: Annotated[int, Field(ge=1)] = 1000
    """requests of more votes than this are split over replicas, in parts of at most so many"""
    parts_at_once: Annotated[int, Field(ge=1)] = 16
    """most parts of a request that replicas have at a time: each has a share there, and others must have theirs"""
    timeout_s: Annotated[float, Field(gt=0)] = 300
    """within this time a request without a deadline is answered, or refused with 504"""
    silence_s: Annotated[float, Field(gt=0)] = 5
    """a replica that gives no sign of life for so long is taken for lost, and another is asked"""
    most_requests: Annotated[int, Field(ge=1)] = 1000
    """requests that the ingress has under way at once"""
    most_waiting: Annotated[int, Field(ge=0)] = 100
    """requests that wait for that in each proxy; more are answered with 429"""
    ingress_on_head: bool = True
    """the ingress runs on the head node, which has to outlive the others"""

    @model_validator(mode="after")
    def _bounds_are_bounds(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas: {self.max_replicas} is less than min_replicas ({self.min_replicas})")
        return self

    @property
    def spreading(self) -> Spreading:
        """For the ingress."""
        return Spreading(self.part_rows, self.timeout_s, self.silence_s, self.parts_at_once)
