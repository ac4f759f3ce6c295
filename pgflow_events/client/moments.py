"""When a run that is started later begins."""

from datetime import datetime

from pgflow_events.core.runs import Moment
from pgflow_events.errors import Misuse
from pgflow_events.flow.option_faults import quoted
from pgflow_events.settings import LONGEST

MOST = LONGEST.total_seconds()
EXAMPLE = "datetime(2026, 12, 24, 18, tzinfo=UTC)"


def moment(delay: float | None, at: datetime | None) -> Moment:
    """Check when the runs are to begin: after these seconds, or at this time. None is at once.

    Raises:
        Misuse: Both are given, or one of them is no such number or no time with a zone.
    """
    if delay is not None and at is not None:
        raise Misuse("a start takes delay or at, not both")
    if at is not None:
        return _with_zone(at)
    return None if delay is None else _seconds(delay)


def _with_zone(at: object) -> datetime:
    if not isinstance(at, datetime):
        raise Misuse(f"at is a datetime with a time zone such as {EXAMPLE}, not {quoted(at)}")
    if at.utcoffset() is None:
        raise Misuse(f"at has no time zone: give one, as in {EXAMPLE}")
    if at > datetime.now(at.tzinfo) + LONGEST:  # the later of both would be an overflow
        raise Misuse(f"at is within {LONGEST.days:,} days from now, not {quoted(at)}")
    return at


def _seconds(delay: object) -> float | None:
    # In Python, True is a number. Here it is a mistake.
    if isinstance(delay, int | float) and not isinstance(delay, bool) and 0 <= delay <= MOST:
        return float(delay) or None
    raise Misuse(f"delay is 0 to {MOST:,.0f} seconds, not {quoted(delay)}")
