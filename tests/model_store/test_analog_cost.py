import numpy as np
import pytest

from noisevote.model_store.analog_cost import Execution, latency, products


def test_twenty_votes_of_six_layers() -> None:
    """The paper's example: 120 products, 120 or 25 or 6 layer times."""
    assert products(20, 1, 6) == 120
    executions: list[Execution] = ["sequential", "pipelined", "parallel"]
    assert [latency(execution, 20, 1, 6) for execution in executions] == [120, 25, 6]


@pytest.mark.parametrize("execution", ["sequential", "pipelined", "parallel"])
def test_arrays_cost_what_their_numbers_cost(execution: Execution) -> None:
    """The planner's arrays and the answer's numbers go through one formula."""
    votes, reads, layers = (np.array(values) for values in ([1, 7, 20], [1, 3, 2], [6, 6, 40]))
    each = [latency(execution, int(v), int(r), int(n)) for v, r, n in zip(votes, reads, layers, strict=True)]
    assert latency(execution, votes, reads, layers).tolist() == each
