"""What all flows of the torture have in common."""

from functools import partial
from typing import Any, TypedDict

from pgflow_events import Flow
from tests.torture.behaviour import Given

MANY = 50  # attempts: no number of faults uses them up
make = partial(Flow[Given], max_attempts=MANY, base_delay=0)


class Told(TypedDict):
    """An output that tells of which attempt it is."""

    attempt: int
    value: Any
