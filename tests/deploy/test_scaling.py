from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from deploy.scaling import METRIC, QueuedRows, replicas_wanted

QUEUED = st.lists(st.integers(0, 10**6), min_size=1, max_size=20)


@given(QUEUED, st.integers(1, 10**5))
def test_the_fewest_replicas_that_leave_each_no_more_than_its_rows(queued: list[int], rows: int) -> None:
    """That many would have at most `rows` each, one fewer would have more; there is always one."""
    wanted = replicas_wanted(queued, 1, rows)
    assert wanted * rows >= sum(queued)
    assert wanted == 1 or (wanted - 1) * rows < sum(queued)


@given(QUEUED, st.integers(1, 10**5))
def test_only_the_sum_counts(queued: list[int], rows: int) -> None:
    """Neither how rows lie on replicas nor how many replicas there are changes what is wanted."""
    wanted = replicas_wanted(queued, 3, rows)
    assert replicas_wanted([sum(queued)], 1, rows) == replicas_wanted([*queued, 0], 5, rows) == wanted


def test_without_a_report_nothing_changes() -> None:
    """Replicas that have just started have reported nothing, which does not mean that nothing waits."""
    assert replicas_wanted([], 7, 100) == 7
    for metrics in (None, {}, {"other": {"a": 9.0}}):
        context = SimpleNamespace(aggregated_metrics=metrics, target_num_replicas=7)
        assert QueuedRows(100)(context) == (7, {})


def test_the_policy_reads_what_replicas_report() -> None:
    """Rows, not requests: 250 rows at 100 a replica take three."""
    metrics = {METRIC: {"a": 200.0, "b": 50.0}, "running_requests": {"a": 1.0, "b": 1.0}}
    assert QueuedRows(100)(SimpleNamespace(aggregated_metrics=metrics, target_num_replicas=1)) == (3, {})
