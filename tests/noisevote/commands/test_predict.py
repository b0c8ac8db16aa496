"""Flags of `noisevote predict`."""

from noisevote.client.options import PredictOptions
from noisevote.commands.predict import parser
from noisevote.service.prediction.policy_keys import KEYS


def test_what_a_request_may_choose_the_client_and_the_command_may() -> None:
    """Each key of predictions is an option and a flag."""
    keys = set(KEYS["predict"]) - {"inputs", "rows", "stream", "delta", "return"}
    options = set(PredictOptions.__annotations__)
    assert options == keys | {"snr_db", "returns", "also"}
    flags = {action.dest for action in parser()._actions}
    assert flags >= (options - {"version", "also"}) | {"model_version", "delta"}
