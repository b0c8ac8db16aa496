"""What `/metrics` exports, for those who write about it."""

from prometheus_client.parser import text_string_to_metric_families

from noisevote.engine.session_key import SessionKey
from noisevote.service.callers import Caller
from noisevote.service.metrics import Metrics

HISTOGRAM_PARTS = ("_bucket", "_sum", "_count")


def exported_metrics() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric of ours, by the name that one asks Prometheus for."""
    metrics = Metrics()
    metrics.describe("1", "kernel")
    session = SessionKey("model", "1", "variant")
    metrics.declare([session], 0)
    metrics.of_session(session)
    metrics.of_rule(session, "fixed")
    alice = Caller("alice", frozenset({"predict"}))
    metrics.refuse("forbidden", alice)
    metrics.count_votes_of(alice, 1)
    text, _ = metrics.exposition(accept="")
    return {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            set(family.samples[0].labels) - {"le"},
        )
        for family in text_string_to_metric_families(text.decode())
        if family.name.startswith("noisevote_")
    }
