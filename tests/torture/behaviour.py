"""How handlers behave in a run, as a pure function of its input: what they do can be replayed.

Who knows the input knows how the run has to end; see `expected.py`.
"""

import time
from dataclasses import dataclass
from random import Random
from typing import TypedDict

import trio

from pgflow_events import Context
from pgflow_events.postgres.pool import Pool
from tests.torture.journal import Journal

RECORD = """
insert into torture.effects (run_id, step_slug, task_index, attempt) values (%s, %s, %s, %s)
"""
HANGS = 0.002  # of the steps
SLOW, HANG = 2.5, 60.0  # seconds; the timeouts are 1 or 2


class Given(TypedDict):
    """The input of a run."""

    seed: int
    n: int


class MeantError(Exception):
    """A failure that the plan has."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a step does besides its work."""

    pause: float
    failures: int
    """How many attempts fail, from the first."""
    hangs: bool
    """Whether the first attempt goes on past its timeout."""
    again: float
    """Seconds that later attempts take at least: enough for a zombie to find one at work."""

    def seconds(self, attempt: int, longest: float) -> float:
        """How long this attempt takes."""
        if attempt == 1:
            return longest if self.hangs else self.pause
        return max(self.pause, self.again)


def chance(given: Given, *what: object) -> Random:
    """What this run has by chance, the same each time."""
    return Random(f"{given['seed']} {given['n']} {' '.join(map(str, what))}")


def behaviour(given: Given, step: str, index: int = 0) -> Behaviour:
    """Most steps are quick; some take longer, fail at first, or hang once."""
    luck = chance(given, step, *([index] if index else []))
    # Well within the timeouts, on a slow machine too, or a task would use up its attempts.
    pause = luck.choices([0.0, 0.02, 0.2, 0.4], [60, 30, 9, 1])[0] * luck.random()
    failures = luck.choices([0, 1, 2], [92, 6, 2])[0]
    hangs = luck.random() < HANGS
    return Behaviour(pause, failures, hangs, luck.choice([0.0, 0.4 * luck.random()]))


async def attend(context: Context, given: Given, index: int = 0) -> None:
    """Note the attempt at an element, by a commit of its own too, and behave."""
    journal: Journal = context.resources["journal"]
    pool: Pool = context.resources["pool"]
    journal.note(context.run_id, context.step, context.attempt, index)
    async with pool.connection() as connection:
        await connection.execute(RECORD, [context.run_id, context.step, index, context.attempt])
    planned = behaviour(given, context.step, index)
    await trio.sleep(planned.seconds(context.attempt, HANG))
    _fail(context, planned)


def attend_in_thread(context: Context, given: Given) -> None:
    """Note the attempt in the journal alone, and behave."""
    context.resources["journal"].note(context.run_id, context.step, context.attempt)
    planned = behaviour(given, context.step)
    time.sleep(planned.seconds(context.attempt, SLOW))
    _fail(context, planned)


def _fail(context: Context, planned: Behaviour) -> None:
    if context.attempt <= planned.failures:
        raise MeantError(f"attempt {context.attempt} was meant to fail")
