"""The README's example, as written there."""

from tests.support.readme import assert_answers_the_example


def test_the_first_request_gives_the_documented_answer(published: str) -> None:
    """The README's line, against the repository's models."""
    assert_answers_the_example(published)
