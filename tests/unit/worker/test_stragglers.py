"""Outcomes that the database does not take, with functions in its place."""

from collections.abc import Sequence
from uuid import uuid4

import psycopg
import pytest
import trio
import trio.testing
from psycopg import errors

from blobstore import Inline, Stored
from pgflow_events.core.tasks import ClaimedTask, Outcome
from pgflow_events.worker.settling.stragglers import Stragglers

from .test_completer import upload

TIMEOUT, LEASE = 10, 12.0
ONE = Inline(b"1")


def outcome(output: Inline | Stored | None = ONE, error: str | None = None) -> Outcome:
    task = ClaimedTask("flow", uuid4(), "step", 0, 1, TIMEOUT, "{}", {})
    return Outcome(task, output, error, until=trio.current_time() + LEASE)


class Database:
    """Refuses outputs, and failures too if it is told so; notes what it takes and when."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.refusal = refusal
        self.refuses_failures: Exception | None = None
        self.taken: list[tuple[float, Outcome]] = []
        self.factors: list[float] = []
        self.tries = 0

    async def commit(self, outcome: Outcome, factor: float) -> None:
        await trio.lowlevel.checkpoint()
        self.tries += 1
        self.factors.append(factor)
        refusal = self.refusal if outcome.output else self.refuses_failures
        if refusal:
            raise refusal
        self.taken.append((trio.current_time(), outcome))

    async def rehearse(self, outcomes: Sequence[Outcome]) -> bool:
        await trio.lowlevel.checkpoint()
        (failure,) = outcomes
        assert failure.error
        assert failure.output is None
        return self.refuses_failures is None


PASSING = [
    errors.OutOfMemory("no memory for this"),
    errors.SerializationFailure("again and again"),
    errors.QueryCanceled("statement timeout"),
    errors.FeatureNotSupported("whatever"),
    psycopg.OperationalError("the connection was lost"),
    trio.TooSlowError("no answer within 30 s"),
]


@pytest.mark.parametrize("refusal", PASSING, ids=lambda error: type(error).__name__)
async def test_what_never_passes_ends_with_the_lease_and_not_before(autojump_clock, refusal):
    database = Database(refusal)
    await Stragglers(database.commit, database.rehearse).settle(outcome())
    ((when, failed),) = database.taken
    assert LEASE <= when < LEASE + 1
    assert failed.error == f"the output could not be stored within {TIMEOUT} s: {refusal}"
    assert not failed.permanent
    assert database.tries > 5


@pytest.mark.parametrize("refusal", PASSING, ids=lambda error: type(error).__name__)
async def test_a_server_that_takes_nothing_costs_no_attempt_however_long(autojump_clock, refusal):
    database = Database(refusal)
    database.refuses_failures = refusal
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Stragglers(database.commit, database.rehearse).settle, outcome())
        await trio.sleep(3600)
        database.refusal = database.refuses_failures = None
    ((_, taken),) = database.taken
    assert taken.output == ONE


@pytest.mark.parametrize(
    ("refusal", "permanent"),
    [
        (errors.ProgramLimitExceeded("larger than jsonb"), True),
        (psycopg.DataError("no \0"), True),
        (errors.IndexCorrupted("a page is damaged"), False),
        (errors.InsufficientPrivilege("permission denied"), False),
        (MemoryError(), False),
        (RuntimeError("a bug"), False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_does_not_pass_fails_its_attempt_at_once(autojump_clock, refusal, permanent):
    database = Database(refusal)
    await Stragglers(database.commit, database.rehearse).settle(outcome())
    ((when, failed),) = database.taken
    assert when < 1
    assert failed.error.startswith("the output cannot be stored: ")
    assert failed.permanent is permanent


@pytest.mark.parametrize("error", [errors.UndefinedTable, errors.InsufficientPrivilege])
async def test_an_output_is_kept_while_not_even_a_failure_is_taken(autojump_clock, error):
    """As where the queue of its flow is lost, or a right of the worker is, until it is mended."""
    database = Database(error("whatever"))
    database.refuses_failures = database.refusal
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Stragglers(database.commit, database.rehearse).settle, outcome())
        await trio.sleep(3600)
        database.refusal = database.refuses_failures = None
    ((_, taken),) = database.taken
    assert taken.output == ONE


async def test_chunks_that_may_have_been_undone_are_written_again(autojump_clock):
    database = Database(errors.RaiseException("some chunks are missing"))
    await Stragglers(database.commit, database.rehearse).settle(outcome(upload(100)))
    ((_, failed),) = database.taken
    assert not failed.permanent


async def test_a_failure_that_is_not_taken_is_left_to_its_timeout(autojump_clock, caplog):
    database = Database()
    database.refuses_failures = errors.UndefinedTable("there is no queue")
    await Stragglers(database.commit, database.rehearse).settle(outcome(None, "boom"))
    assert "its timeout will: there is no queue" in caplog.text
    assert trio.current_time() < 1


async def test_a_failure_that_always_meets_what_should_pass_is_left_to_its_timeout(
    autojump_clock, caplog
):
    database = Database()
    database.refuses_failures = errors.SerializationFailure("again and again")
    await Stragglers(database.commit, database.rehearse).settle(outcome(None, "boom"))
    assert "its timeout will: again and again" in caplog.text
    assert LEASE <= trio.current_time() < 2 * LEASE


async def test_each_has_a_try_before_any_has_two(autojump_clock):
    database = Database()
    one = outcome()

    async def commit(each: Outcome, factor: float) -> None:
        if each is one:
            await trio.sleep(30)
            raise trio.TooSlowError("no answer within 30 s")
        await database.commit(each, factor)

    stragglers = Stragglers(commit, database.rehearse)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stragglers.settle, one)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            nursery.start_soon(stragglers.settle, outcome())
        await trio.sleep(31)
        assert len(database.taken) == 5
        nursery.cancel_scope.cancel()


async def test_what_takes_long_is_given_longer_up_to_a_limit(autojump_clock):
    database = Database(trio.TooSlowError("no answer within 30 s"))
    database.refuses_failures = database.refusal
    with trio.move_on_after(200):
        await Stragglers(database.commit, database.rehearse).settle(outcome())
    assert database.factors[:6] == [1, 2, 4, 8, 8, 8]
