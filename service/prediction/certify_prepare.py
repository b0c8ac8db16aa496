"""What can be voted on, from what a request for certificates asks for. Beside `prepare`."""

import math
import secrets
from dataclasses import dataclass
from typing import Final

import numpy as np

from noisevote.engine.certificate_seed import NONCE_BYTES
from noisevote.model_store.manifest import Variant
from noisevote.noise_op.contract import sigma_row
from noisevote.service.errors import InvalidValueError, UncertifiableError
from noisevote.service.models.registry import ServedVersion
from noisevote.service.prediction.certify_options import CertifyRequest
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.settings import Settings
from noisevote.voting.certification import CertificateRule
from noisevote.voting.stopping import Fixed

# Its tails reach 6.7 sigma; what another version draws was not judged for this.
OPERATORS: Final = frozenset({1})


@dataclass(frozen=True)
class PreparedCertificates:
    """A request that can be voted on. `whole` asks for all its votes, and is never queued itself."""

    asked: CertifyRequest
    served: ServedVersion
    variant: Variant
    sigma: float
    nonce: str
    rule: CertificateRule
    whole: VoteRequest


def prepare_certificates(asked: CertifyRequest, served: ServedVersion, settings: Settings) -> PreparedCertificates:
    """Choose the variant, decode the inputs, and only then draw the nonce.

    Raises:
        ServiceError: the request cannot be used; the message names key and value.
    """
    _refuse_too_much(asked, settings)
    variant, sigma = certifying(served, asked.variant)
    if asked.radius is not None and not 0 < asked.radius / sigma < math.inf:
        raise InvalidValueError("radius", f"{asked.radius} is no radius at sigma {sigma}")
    whole = VoteRequest(
        session=served.key(variant),
        inputs=asked.decode(served.manifest.input),
        classes=len(served.manifest.classes),
        sigma=sigma_row("additive", sigma),
        seed=0,
        votes=asked.n0 + asked.n,
        rule=Fixed(),
    )
    nonce = secrets.token_hex(NONCE_BYTES)
    return PreparedCertificates(asked, served, variant, sigma, nonce, asked.rule_at(sigma), whole)


def certifying(served: ServedVersion, name: str | None) -> tuple[Variant, float]:
    """The variant of that name, or the only one that certifies, and the sigma that its rows meet, a float32.

    Raises:
        UnknownVariantError: it does not exist or is not served.
        UncertifiableError: it certifies nothing, or several do and none is named.
    """
    manifest = served.manifest
    what = f"{manifest.name} {manifest.version}"
    able = [variant for variant in served.variants if variant.certifies is not None]
    if name is not None:
        able = [variant for variant in (served.named(name),) if variant.certifies is not None]
    for variant in able:
        if (version := manifest.operator_version(variant)) not in OPERATORS:
            raise UncertifiableError(f"model: {what}: {variant.name} draws with operator version {version}, not 1")
    if not able:
        whose = "no variant of it" if name is None else f"its variant {name!r}"
        raise UncertifiableError(f"model: {what}: {whose} certifies: that takes additive noise at the input alone")
    if len(able) > 1:
        names = ", ".join(f"{variant.name} (sigma {variant.certifies})" for variant in able)
        raise InvalidValueError("variant", f"is missing; {what} certifies with each of {names}")
    return able[0], float(np.float32(able[0].certifies))


def _refuse_too_much(asked: CertifyRequest, settings: Settings) -> None:
    if asked.inputs > settings.max_inputs:
        problem = f"{asked.inputs} inputs are more than {settings.max_inputs}, the most allowed here"
        raise InvalidValueError("inputs", problem)
    votes, most = asked.inputs * (asked.n0 + asked.n), settings.max_certify_votes
    if votes > most:
        problem = f"{asked.n}, with n0 {asked.n0} on each of {asked.inputs} inputs {votes} votes, more than {most} here"
        raise InvalidValueError("n", problem)
