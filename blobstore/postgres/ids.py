"""The ids of runs and of their blobs."""

import time
from secrets import randbits
from uuid import UUID

HALF = 64  # bits of an id


def new_id() -> UUID:
    """Make a UUIDv7. Ids sort by time, to a quarter of a microsecond."""
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    ordered = milliseconds << 16 | 0x7000 | nanoseconds * 4096 // 1_000_000
    return UUID(int=ordered << HALF | 0b10 << 62 | randbits(62))


def new_blob_id(run_id: UUID) -> UUID:
    """Make an id from the first half of the run's id and random bits.

    So the blobs of a run are stored together, in the partition of the day the run started.
    """
    return UUID(int=run_id.int >> HALF << HALF | 0b10 << 62 | randbits(62))
