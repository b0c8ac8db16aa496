"""The README's example, as written there."""

from tests.support.process import server, start_line
from tests.support.readme import assert_answers_the_example


def test_the_first_request_gives_the_documented_answer() -> None:
    """The README's line, against the repository's models."""
    with server("--port", "0") as process:
        assert_answers_the_example(start_line(process)[1])
