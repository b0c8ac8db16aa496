import logging

from noisevote.service.once import MOST_KINDS, OncePerMinute, RareTracebacks


def test_a_kind_is_told_once_a_period_with_what_was_left_out() -> None:
    """Kinds do not hinder each other."""
    once = OncePerMinute(60)
    assert [once.allow("a", now) for now in (0, 1, 59)] == [0, None, None]
    assert once.allow("b", 59) == 0
    assert once.allow("a", 60) == 2


def test_made_up_kinds_do_not_fill_the_memory() -> None:
    """Beyond a thousand nothing is told until some are forgotten."""
    once = OncePerMinute(60)
    told = [once.allow(str(number), 0) for number in range(MOST_KINDS + 5)]
    assert told.count(0) == MOST_KINDS
    assert once.allow("later", 60) == 0


def record(error: BaseException) -> logging.LogRecord:
    """As `logger.exception` makes it."""
    return logging.LogRecord("x", logging.ERROR, "", 0, "failed\n", (), (type(error), error, error.__traceback__))


def raised(kind: type[Exception], message: str) -> Exception:
    """An error with a traceback."""
    try:
        raise kind(message)
    except Exception as error:
        return error


def test_an_error_has_its_traceback_once_a_minute_and_one_line_else() -> None:
    """By kind and place; nothing is lost but tracebacks."""
    now = 0.0
    limit = RareTracebacks(lambda: now)
    first, second, other = (record(raised(kind, "x" * 900)) for kind in (ValueError, ValueError, KeyError))
    assert all(limit.filter(each) for each in (first, second, other))
    assert first.exc_info is not None
    assert other.exc_info is not None
    assert second.exc_info is None
    message = second.getMessage()
    assert message.startswith("failed: ValueError: 'xxx")
    assert "\n" not in message
    assert len(message) < 500
    now = 60.0
    again = record(raised(ValueError, ""))
    limit.filter(again)
    assert again.exc_info is not None
