import pytest

from noisevote.service.models.choice import Choice, NoSuchModelError

THERE = [("a", "1"), ("a", "2"), ("a", "10"), ("b", "1"), ("c", "3")]


@pytest.mark.parametrize(
    ("choice", "versions"),
    [
        (Choice(), THERE),
        (Choice(("a",)), THERE[:3]),
        (Choice(("c", "a:2")), [("a", "2"), ("c", "3")]),
        (Choice(newest=1), [("a", "10"), ("b", "1"), ("c", "3")]),
        (Choice(("a", "a:1"), newest=1), [("a", "1"), ("a", "10")]),
    ],
)
def test_what_settings_name_is_served(choice: Choice, versions: list[tuple[str, str]]) -> None:
    """A model by all of its versions or by its newest ones, or single versions; without names everything."""
    assert choice.of(THERE) == versions


def test_what_was_done_by_hand_last_counts() -> None:
    """For a version more than for its model; loading a model also lifts what was unloaded of it."""
    choice = Choice(("a",))
    choice.load("b", None)
    choice.unload("a", "2")
    assert choice.of(THERE) == [("a", "1"), ("a", "10"), ("b", "1")]
    choice.unload("a", None)
    choice.load("a", "1")
    assert choice.of(THERE) == [("a", "1"), ("b", "1")]
    assert choice.unloaded(("a", "2"))
    assert not choice.unloaded(("a", "1"))
    choice.load("a", None)
    assert choice.of(THERE) == [*THERE[:3], ("b", "1")]


def test_a_name_that_the_store_does_not_have_is_told() -> None:
    """With those that it has: misspelt, it would otherwise leave a model out in silence."""
    Choice(("a", "c:3")).check(THERE)
    with pytest.raises(NoSuchModelError, match="models: d, a:3 is not in the store, which has a, b, c"):
        Choice(("d", "a:3", "b")).check(THERE)
