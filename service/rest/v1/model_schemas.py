"""What is said of the models that are served, as documented."""

from typing import Any

from noisevote.model_store.manifest import Manifest
from noisevote.service.validation import Body


class Batch(Body):
    """How a variant is computed here, as measured when it was loaded."""

    rows: int
    """most votes, of any inputs, in a batch"""
    bytes: int | None
    """memory that such a batch takes while it is computed; null: it cannot be measured on this system"""


class ModelDescription(Body):
    """A served version: its manifest, and what of it is not served."""

    name: str
    version: str
    """this version; the newest one unless another was asked for"""
    versions: list[str]
    """all served versions, oldest first"""
    variants: list[str]
    """served variants"""
    refused: dict[str, str]
    """variants that are refused, and why"""
    policy: dict[str, Any] | None
    """what requests may choose, by route and key; what is not listed is forbidden. null: everything is free"""
    batches: dict[str, Batch]
    """of the variants that were loaded and measured in this process"""
    manifest: Manifest


class ModelList(Body):
    """All served models."""

    models: list[ModelDescription]
