"""The completer, with functions in the place of the database."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import psycopg
import pytest
import trio
import trio.testing
from psycopg import errors

from blobstore import Inline, Stored
from blobstore.postgres.rows import BlobRow, Upload
from pgflow_events.core.tasks import Claim, ClaimedTask, Outcome
from pgflow_events.worker.claiming.dispatcher import Dispatcher
from pgflow_events.worker.claiming.turns import Turns
from pgflow_events.worker.settling import completer as module
from pgflow_events.worker.settling.completer import Completer

NOTHING = Claim([], next_due=None, refused=[], owed_tasks=[], owed_runs=[])
MIB = 1024 * 1024


ONE = Inline(b"1")


def outcome(
    step: str,
    output: Inline | Stored | None = ONE,
    error: str | None = None,
    input_bytes: int = 0,
) -> Outcome:
    task = ClaimedTask("flow", uuid4(), step, 0, 1, 60, "{}", {}, input_bytes)
    return Outcome(task, output, error)


BLOB_ID = UUID(int=0)


def blob(size: int) -> Stored:
    return Stored(BLOB_ID, (BlobRow(BLOB_ID, BLOB_ID, "a", 0, "bytes", content=bytes(size)),))


def upload(size: int) -> Stored:
    return Stored(BLOB_ID, upload=Upload(BLOB_ID, BLOB_ID, 9, size, size, b"", None))


def steps(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.task.step_slug for outcome in outcomes]


class Database:
    """Notes what is committed and notified; lets a commit wait, and refuses what is `poisonous`."""

    def __init__(self) -> None:
        self.commits: list[list[Outcome]] = []
        self.claims: list[int] = []
        self.max_bytes: list[int] = []
        self.notified: list[tuple[list[str], list[str]]] = []
        self.answer = NOTHING
        self.open = trio.Event()
        self.open.set()
        self.committing = trio.Event()
        self.under_way: list[int] = []
        self.poisonous: list[str] = []
        self.is_serving = True
        self.stuck = ""
        self.refusals: dict[str, Exception] = {}
        self.poisonous_claims = False

    async def complete(
        self,
        outcomes: Sequence[Outcome],
        slug: str | None,
        qty: int,
        max_bytes: int,
        time_factor: float,
    ) -> Claim:
        self.committing.set()
        self.under_way.append(len(outcomes))
        await self.open.wait()
        if self.stuck in steps(outcomes):
            await trio.sleep_forever()
        for each in outcomes:
            if each.output and each.task.step_slug in self.refusals:
                raise self.refusals[each.task.step_slug]
        if self.poisonous_claims and qty:
            raise errors.ProgramLimitExceeded("larger than jsonb can hold")
        if any(o.task.step_slug in self.poisonous and not o.error for o in outcomes):
            raise psycopg.DataError("invalid \0 byte")
        if "cursed" in steps(outcomes):
            raise psycopg.DataError("whatever it is")
        self.commits.append(list(outcomes))
        self.claims.append(qty)
        self.max_bytes.append(max_bytes)
        return self.answer

    async def rehearse(self, outcomes: Sequence[Outcome]) -> bool:
        return self.is_serving

    async def notify(self, owed_tasks: list[str], owed_runs: list[str]) -> None:
        self.notified.append((owed_tasks, owed_runs))

    async def claim(self, slug: str, qty: int, max_bytes: int) -> Claim:
        self.claims.append(qty)
        return NOTHING


class Rig:
    """A completer, and a dispatcher with no slots but those of the outcomes."""

    def __init__(self, slots: int = 50) -> None:
        self.database, self.started = Database(), []
        self.dispatcher = Dispatcher(
            Turns(["flow"]), self.database.claim, self.started.extend, 0, budget=100
        )
        self.completer = Completer(
            self.dispatcher,
            slots,
            self.database.complete,
            self.database.rehearse,
            self.database.notify,
        )

    async def settle(self, *outcomes: Outcome) -> None:
        for each in outcomes:
            await self.completer.settle(each)

    async def commit(self, *outcomes: Outcome) -> list[list[str]]:
        """Run until all these have gone through; what went together, by the slugs of the steps."""
        await self.settle(*outcomes)
        self.completer.close()
        await self.completer.run()
        return [steps(commit) for commit in self.database.commits]


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_an_outcome_is_committed_at_once(rig, nursery):
    nursery.start_soon(rig.completer.run)
    await rig.settle(outcome("a"))
    await trio.testing.wait_all_tasks_blocked()
    assert [steps(commit) for commit in rig.database.commits] == [["a"]]


async def test_what_gathers_during_a_commit_goes_into_the_next_one_together(rig, nursery):
    nursery.start_soon(rig.completer.run)
    rig.database.open = trio.Event()
    await rig.settle(outcome("a"))
    await rig.database.committing.wait()
    await rig.settle(*map(outcome, "bcd"))
    rig.database.open.set()
    await trio.testing.wait_all_tasks_blocked()
    assert [steps(commit) for commit in rig.database.commits] == [["a"], ["b", "c", "d"]]


async def test_where_there_is_enough_for_two_commits_they_are_under_way_together(nursery):
    rig = Rig(slots=200)
    rig.database.open = trio.Event()
    await rig.settle(*[outcome("a") for _ in range(210)])
    nursery.start_soon(rig.completer.run)
    await trio.testing.wait_all_tasks_blocked()
    assert rig.database.under_way == [100, 100]
    rig.database.open.set()
    await trio.testing.wait_all_tasks_blocked()
    assert [len(commit) for commit in rig.database.commits] == [100, 100, 10]


async def test_each_commit_claims_for_the_slots_of_its_outcomes(rig):
    claimed = [outcome(step).task for step in "xy"]
    rig.database.answer = replace(NOTHING, tasks=claimed)
    await rig.commit(*map(outcome, "abc"))
    assert rig.database.claims == [3]
    assert rig.started == claimed
    assert rig.completer.handed_over == 2


async def test_each_commit_may_claim_what_its_outcomes_had_loaded(rig):
    claimed = [outcome("x", input_bytes=70).task, outcome("y", input_bytes=20).task]
    with rig.dispatcher.reserve() as reserved:
        reserved.claim = replace(NOTHING, tasks=claimed)
    await rig.commit(Outcome(claimed[0], ONE))
    assert rig.database.max_bytes == [80]


@pytest.mark.parametrize("output", [blob(MIB), Inline(bytes(MIB))], ids=["blobs", "inline"])
async def test_a_commit_stays_below_what_the_protocol_can_carry(rig, output, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 3 * MIB)
    committed = await rig.commit(*(outcome(step, output) for step in "abcdefg"))
    assert committed == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


async def test_what_is_stored_already_takes_no_room_in_a_commit(rig, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 3 * MIB)
    kept = [upload(100 * MIB), Stored(BLOB_ID)]
    assert await rig.commit(*(outcome("a", output) for output in kept * 3)) == [["a"] * 6]


async def test_what_a_commit_leaves_owed_is_notified(rig):
    rig.database.answer = replace(NOTHING, owed_tasks=["one"], owed_runs=["two"])
    await rig.commit(outcome("a"))
    assert rig.database.notified == [(["one"], ["two"])]


async def test_nothing_owed_is_not_notified(rig):
    await rig.commit(outcome("a"))
    assert rig.database.notified == []


async def test_an_outcome_that_came_too_late_is_logged(rig, caplog):
    rig.database.answer = replace(NOTHING, refused=[1])
    late = outcome("b")
    await rig.commit(outcome("a"), late)
    (message,) = caplog.messages
    assert message.startswith(f"too late: flow.b of run {late.task.run_id}, attempt 1: ")


async def test_of_a_batch_the_database_will_not_take_only_the_poisonous_task_fails(rig):
    rig.database.poisonous = ["b"]
    assert sorted(await rig.commit(*map(outcome, "abc"))) == [["a"], ["b"], ["c"]]
    (failed,) = [each for (each,) in rig.database.commits if each.error]
    assert failed.output is None
    assert failed.permanent
    assert failed.error == "the output cannot be stored: invalid  byte"


async def test_chunks_that_a_crash_of_the_server_has_undone_are_written_again(rig):
    rig.database.poisonous = ["b"]
    await rig.commit(outcome("b", upload(100)))
    ((failed,),) = rig.database.commits
    assert failed.error.startswith("the output cannot be stored: ")
    assert not failed.permanent


async def test_a_task_that_cannot_even_fail_is_left_to_its_timeout_and_others_are_not(rig, caplog):
    cursed = outcome("cursed", None, "an error")
    committed = await rig.commit(outcome("a"), outcome("cursed"), cursed, outcome("b"))
    assert sorted(committed) == [["a"], ["b"]]
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert sorted("its timeout will" in error for error in errors) == [False, True, True]


async def test_after_a_commit_that_failed_the_dispatcher_claims_for_its_slots(rig, nursery):
    nursery.start_soon(rig.dispatcher.run)
    await rig.commit(outcome("cursed", None, "an error"))
    await trio.testing.wait_all_tasks_blocked()
    assert rig.database.claims == [1]


async def test_a_commit_that_gets_no_answer_keeps_neither_the_other_lane_nor_the_slots(
    nursery, autojump_clock
):
    rig = Rig(slots=4)
    rig.database.stuck = "a"
    rig.dispatcher.free([outcome("x").task for _ in range(3)])
    nursery.start_soon(rig.completer.run)
    nursery.start_soon(rig.dispatcher.run)
    await rig.settle(outcome("a"))
    await trio.testing.wait_all_tasks_blocked()
    await rig.settle(*map(outcome, "bcd"))
    await trio.sleep(module.GATHER + 0.1)
    assert [steps(commit) for commit in rig.database.commits] == [["b", "c", "d"]]
    # Of four free slots the commit that is stuck was to claim for three; the other one took none.
    rig.dispatcher.wake()
    await trio.sleep(1)
    assert rig.database.claims[-1] == 4


@pytest.mark.parametrize(
    "error",
    [errors.DiskFull("for this one"), trio.TooSlowError("no answer"), RuntimeError("a bug")],
    ids=lambda error: type(error).__name__,
)
async def test_one_that_is_never_taken_keeps_no_other_of_its_batch_waiting(
    nursery, autojump_clock, error
):
    rig = Rig()
    rig.database.refusals["b"] = error
    nursery.start_soon(rig.completer.run)
    await rig.settle(*map(outcome, "abcd"))
    await trio.sleep(5)
    taken = sorted(step for commit in rig.database.commits for step in steps(commit))
    assert taken in (["a", "c", "d"], ["a", "b", "c", "d"])  # failed, where it does not pass


async def test_a_batch_stays_together_while_the_server_takes_nothing(nursery, autojump_clock):
    rig = Rig()
    rig.database.is_serving = False
    rig.database.refusals.update(dict.fromkeys("abc", psycopg.OperationalError("gone")))
    nursery.start_soon(rig.completer.run)
    await rig.settle(*map(outcome, "abc"))
    await trio.sleep(3600)
    rig.database.is_serving = True
    rig.database.refusals.clear()
    await trio.sleep(20)
    assert [steps(commit) for commit in rig.database.commits] == [["a", "b", "c"]]


async def test_a_commit_that_fails_for_what_it_claims_is_made_without(rig):
    """A task that nobody can read, which this one made ready and would have been handed."""
    rig.database.poisonous_claims = True
    assert await rig.commit(outcome("a")) == [["a"]]
    assert rig.database.claims == [0]
    ((accepted,),) = rig.database.commits
    assert accepted.output == ONE
