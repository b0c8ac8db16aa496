import re

import pytest
from pydantic import ValidationError

from deploy.options import ScaleOut
from noisevote.service.backends.replicated import Spreading
from tests.support.deploy_manifests import ROOT


def test_every_option_is_documented_with_its_default() -> None:
    """The table in docs/deploy.md has all options in their order, no other, and the defaults that the code has."""
    text = (ROOT / "docs" / "deploy.md").read_text().partition("## On Ray Serve")[2].partition("**What is split.**")[0]
    rows = re.findall(r"^\| (`.+?) \| (.+?) \|", text, re.MULTILINE)
    documented = {
        name: default
        for names, defaults in rows
        for name, default in zip(re.findall(r"`(\w+)`", names), defaults.split(", "), strict=True)
    }
    fields = ScaleOut.model_fields
    assert documented == {name: str(field.default).lower().removesuffix(".0") for name, field in fields.items()}
    assert list(documented) == list(fields)


def test_options_come_as_text_and_are_checked() -> None:
    """As `serve run` hands them over; what is unknown or contradicts itself is refused by name."""
    assert ScaleOut.model_validate({"min_replicas": "2", "pinned": "true", "silence_s": "2.5"}).silence_s == 2.5
    with pytest.raises(ValidationError, match="replica"):
        ScaleOut.model_validate({"replica": "2"})
    with pytest.raises(ValidationError, match=r"max_replicas: 4 is less than min_replicas \(5\)"):
        ScaleOut.model_validate({"min_replicas": "5"})


def test_what_the_ingress_is_told() -> None:
    """Sizes and times of parts are the options'."""
    spreading = ScaleOut(part_rows=7, timeout_s=8, silence_s=9, parts_at_once=6).spreading
    assert spreading == Spreading(part_rows=7, timeout_s=8, silence_s=9, parts_at_once=6)
