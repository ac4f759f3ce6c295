"""What is noticed of a loop that stands still."""

import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import trio
import trio.lowlevel

from pgflow_events.handlers import loop_watch
from pgflow_events.handlers.loop_watch import LoopWatch, Standstill

STOPPABLE = """
import trio
from pgflow_events.handlers.loop_watch import LoopWatch

async def main():
    with LoopWatch(lambda still: print(f"{still.seconds:.1f}", len(still.sights), flush=True),
                   lambda: True):
        while True:
            await trio.sleep(0.05)
            print("alive", flush=True)

trio.run(main)
"""


@contextmanager
def watched(matters=lambda: True):
    found: list[Standstill] = []
    with LoopWatch(found.append, matters) as watch:
        yield found, watch


async def block(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - that is what it is about


async def until(condition) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - the thread sets no event of trio
            await trio.sleep(0.01)


async def test_a_round_that_takes_long_is_reported_with_what_ran_in_it():
    with watched() as (found, _):
        await trio.sleep(0.01)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(block, 0.25, name="the blocker")
        await until(lambda: found)
    (still,) = (each for each in found if each.seconds >= 0.25)
    assert {sight.task.name for sight in still.sights} == {"the blocker"}
    assert still.sights[0].stack[-1].name == "block"
    assert still.over


async def test_two_that_block_in_one_round_are_seen_as_long_as_each_of_them_took():
    with watched() as (found, _):
        await trio.sleep(0.01)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(block, 0.6, name="long")
            nursery.start_soon(block, 0.2, name="short")
        await until(lambda: found)
    names = [sight.task.name for still in found for sight in still.sights]
    assert names.count("long") > names.count("short") > 0


async def test_short_rounds_are_not_reported():
    with watched() as (found, _):
        for _ in range(5):
            await trio.lowlevel.checkpoint()
    assert not [still for still in found if still.sights]


async def test_one_that_goes_on_is_reported_before_its_end(monkeypatch):
    monkeypatch.setattr(loop_watch, "LONG", 0.2)
    with watched() as (found, _):
        await trio.sleep(0.01)
        await block(0.5)
        await until(lambda: len(found) > 1)
    assert [still.over for still in found] == [False, True]


async def test_the_thread_sleeps_while_nothing_happens_or_matters():
    matters = False
    with watched(lambda: matters) as (_, watch):
        await until(lambda: watch._asleep)
        await trio.lowlevel.checkpoint()
        assert watch._asleep
        matters = True
        await trio.lowlevel.checkpoint()
        await until(lambda: not watch._asleep)
    watch._thread.join(5)
    assert not watch._thread.is_alive()


async def test_the_watch_leaves_nothing_behind():
    with watched():
        pass
    assert not [call for call in loop_watch.gc.callbacks if "LoopWatch" in repr(call)]


def test_a_process_that_was_stopped_stood_still_for_nobody():
    command = [sys.executable, "-c", STOPPABLE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "alive\n"
            process.send_signal(signal.SIGSTOP)
            time.sleep(1)
            process.send_signal(signal.SIGCONT)
            reported = next(line for line in process.stdout if float_of(line) >= 0.8)
        finally:
            process.kill()
    assert reported.split()[1] == "0"


def float_of(line: str) -> float:
    return float(line.split(maxsplit=1)[0]) if line[0].isdigit() else 0.0


@pytest.mark.parametrize("seconds", [0.0, 0.3])
async def test_a_loop_that_wakes_late_stood_still_for_nobody(monkeypatch, seconds):
    with watched() as (found, watch):
        await trio.sleep(0.01)
        watch._expected = loop_watch.perf_counter() - seconds
        watch.after_io_wait(0)
    assert [still.sights for still in found if still.seconds >= 0.3] == ([[]] if seconds else [])
