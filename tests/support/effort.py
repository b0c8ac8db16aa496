"""How hard a property is tried."""

from hypothesis import settings

MORE = 30


def examples(usual: int) -> int:
    """So many examples of a property whose examples are dear, and many times as many in `make prove`."""
    return usual * MORE if settings.get_current_profile_name() == "prove" else usual
