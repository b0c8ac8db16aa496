"""What /metrics shows, as numbers; and requests and answers to be counted."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from noisevote.engine.session_key import SessionKey
from noisevote.service.metrics import Metrics
from noisevote.service.prediction.answer import Answer
from noisevote.service.scheduling.request import VoteRequest
from noisevote.service.scheduling.ticket import CountedVotes
from noisevote.voting.decision import decide
from noisevote.voting.stopping import Fixed, StopRule
from noisevote.voting.tally import Tally

KEY = SessionKey("m", "1", "v")


class Scrape:
    """Samples of one exposition."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in parse_text(text) for sample in family.samples]

    def of(self, name: str, **labels: str) -> Iterator[Sample]:
        """Samples of a name that have these labels, among others."""
        return (s for s in self.samples if s.name == f"noisevote_{name}" and labels.items() <= s.labels.items())

    def total(self, name: str, **labels: str) -> float:
        """Their sum; 0 where there is none."""
        return sum(sample.value for sample in self.of(name, **labels))

    def sum(self, name: str, **labels: str) -> float:
        """Their sum; there must be one."""
        values = [sample.value for sample in self.of(name, **labels)]
        assert values, f"no {name} {labels}"
        return sum(values)


def shown(metrics: Metrics) -> Scrape:
    """What these would say."""
    return Scrape(metrics.exposition("")[0].decode())


def request(inputs: int, votes: int, rule: StopRule | None = None) -> VoteRequest:
    """A request of so many inputs."""
    return VoteRequest(KEY, np.zeros((inputs, 1), np.float32), 2, (0.5, 0.0), 0, votes, rule or Fixed())


def answered(used: list[int], complete: list[bool], *, abstain: bool = False, queue_s: float = 0.0) -> Answer:
    """An answer with so many votes on each input, all for the first class."""
    histogram = np.array([[votes, 0] for votes in used])
    tally, inputs = Tally(histogram, histogram), len(used)
    decisions = replace(decide(tally, 0.5), abstain=np.full(inputs, abstain))
    return Answer(CountedVotes(tally, np.array(complete), queue_s, compute_s=0.0), decisions, np.zeros(inputs, bool))
