from noisevote.engine.session_key import SessionKey
from noisevote.service.models.residents import Residents

A, B, C = (SessionKey("m", "1", name) for name in "abc")


def test_what_was_used_longest_ago_comes_first() -> None:
    """Being loaded is being used."""
    residents = Residents(100)
    for key in (A, B, C):
        residents.add(key, 30)
    assert residents.use(A)
    assert residents.by_use() == [B, C, A]
    residents.remove(C)
    assert residents.by_use() == [B, A]
    assert not residents.use(C)
    assert C not in residents


def test_the_bound_is_on_bytes_of_files() -> None:
    """What lacks for another one; without a bound nothing does."""
    residents = Residents(100)
    residents.add(A, 60)
    assert (residents.lacking(40), residents.lacking(50), residents.bytes) == (0, 10, 60)
    assert Residents().lacking(10**12) == 0
