"""What is said of a loop that stood still, and whom it counts against."""

import sysconfig
from contextvars import ContextVar
from dataclasses import dataclass
from traceback import FrameSummary
from uuid import UUID

import psycopg
import pytest
import trio

from pgflow_events.core.tasks import ClaimedTask
from pgflow_events.handlers import blocking
from pgflow_events.handlers.blocking import Standstills, attempt_here
from pgflow_events.handlers.loop_watch import Sight, Standstill

USER = FrameSummary("/srv/flows.py", 7, "go", line="time.sleep(7)")
ENGINE = FrameSummary(blocking.__file__, 1, "execute", line="await handler()")
PSYCOPG = FrameSummary(psycopg.__file__, 1, "fetch", line="...")
STDLIB = FrameSummary(f"{sysconfig.get_path('stdlib')}/contextlib.py", 210, "__aenter__", line="")


def claimed(step: str = "step", timeout: int = 5) -> ClaimedTask:
    return ClaimedTask("flow", UUID(int=1), step, 0, 1, timeout, "{}", {})


class Bench:
    """Standstills of two attempts."""

    def __init__(self) -> None:
        self.one, self.two = claimed("one"), claimed("two")
        past = trio.current_time() - 10
        self.attempts = {id(task): (task, past) for task in (self.one, self.two)}
        self.holds = 0
        self.standstills = Standstills(self.attempts, self._hold)

    def _hold(self) -> None:
        self.holds += 1

    def stand(self, seconds: float, *seen: Sight, **options) -> None:
        self.standstills._note(Standstill(seconds, seen, **options))


@dataclass(eq=False)
class Task:
    """What of a task of trio is looked at."""

    context: dict[ContextVar, ClaimedTask]


def sight(attempt: ClaimedTask | None, *stack: FrameSummary) -> Sight:
    return Sight(Task({attempt_here: attempt} if attempt else {}), stack)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_it_counts_for_those_who_blocked_as_long_as_each_of_them_did(bench):
    ones, twos = [sight(bench.one)] * 3, [sight(bench.two)]
    bench.stand(4, *ones, *twos)
    assert (bench.standstills.of(bench.one), bench.standstills.of(bench.two)) == (1, 3)
    bench.stand(2)
    assert (bench.standstills.of(bench.one), bench.standstills.of(bench.two)) == (3, 5)


async def test_what_was_claimed_later_gets_nothing_back(bench):
    bench.stand(4)
    late = claimed("late")
    bench.attempts[id(late)] = (late, trio.current_time())
    assert bench.standstills.of(late) == 0
    assert bench.standstills.of(claimed()) == 0  # it has an outcome


async def test_a_deadline_moves_while_its_block_runs_and_before(bench):
    bench.stand(4)
    start = trio.current_time()
    with bench.standstills.limit(bench.one, start + 1) as scope:
        assert scope.deadline == start + 1 + 4
        bench.stand(2)
        assert scope.deadline == start + 1 + 4 + 2
        scope.deadline = start  # as the handler may wish
        await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_claims_are_held_where_attempts_are_past_their_timeout(bench):
    bench.stand(4)
    assert bench.holds == 1
    for address, (task, _) in bench.attempts.items():
        bench.attempts[address] = task, trio.current_time()
    bench.stand(4)
    assert bench.holds == 1


@pytest.mark.parametrize(
    ("seconds", "attempt", "stack", "said"),
    [
        (0.1, True, [ENGINE, USER], "flow.one of run"),
        (0.1, False, [ENGINE, USER], "the event loop stood still for 0.1 s. It was here"),
        (0.5, False, [ENGINE, STDLIB, PSYCOPG], ""),
        (1.5, False, [ENGINE, STDLIB, PSYCOPG], "in fetch"),
        (0.5, None, [], ""),
        (1.5, None, [], "the process was stopped"),
    ],
)
def test_what_can_be_named_is_named_soon(caplog, seconds, attempt, stack, said):
    async def main() -> None:
        bench = Bench()
        seen = [] if attempt is None else [sight(bench.one if attempt else None, *stack)]
        bench.stand(seconds, *seen)
        bench.stand(seconds, *seen)

    trio.run(main)
    records = [record for record in caplog.records if record.name == "pgflow_events.handlers"]
    assert len(records) == bool(said)  # once
    assert said in caplog.text


async def test_garbage_that_was_collected_is_named_rather_than_a_handler(bench, caplog):
    bench.stand(1.5, sight(bench.one, USER), collecting=1.45)
    assert "Python collected garbage for 1.4 s" in caplog.text
    assert bench.standstills.of(bench.one) == 1.5


async def test_one_that_goes_on_is_named_and_counted_once_it_has_ended(bench, caplog):
    bench.stand(5, sight(bench.one, USER), over=False)
    assert "held up the event loop for 5.0 s, and goes on" in caplog.text
    assert bench.standstills.of(bench.two) == 0


async def test_a_handler_of_another_worker_in_this_process_is_left_to_that_one(bench, caplog):
    bench.stand(5, sight(claimed("other"), USER))
    assert not caplog.records
    assert bench.standstills.of(bench.one) == 5
