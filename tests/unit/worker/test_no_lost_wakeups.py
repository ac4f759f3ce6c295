"""No message is left behind: the dispatcher on a model of the queues, whatever comes when.

A message is notified once, when it is sent or queued again. What another worker does with it is
not: it may claim it and roll back, or claim it and die, so that the message is visible again when
its lease ends. Nothing polls here.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import cycle
from math import inf
from uuid import uuid4

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from pgflow_events.core.tasks import Claim, ClaimedTask
from pgflow_events.worker.claiming.dispatcher import Dispatcher
from pgflow_events.worker.claiming.turns import Turns

FLOWS = ["f", "g", "h"]
BUDGET = 100
LEASE = 3.0  # seconds: no message is hidden for less
NOTHING = Claim([], next_due=None, refused=[], owed_tasks=[], owed_runs=[])
END = 1000.0  # seconds: by then all is done that is done without polling


@dataclass(eq=False)
class Message:
    """A message, and what happens to its task."""

    slug: str
    size: int
    seconds: int
    retries: int
    """How often its handler fails; each time it is queued again after a second."""
    visible_at: float = -inf
    locked_until: float = -inf
    attempts: int = 3
    id: str = field(default_factory=lambda: str(uuid4()))


class Queues:
    """Answers as the functions of the queues do."""

    def __init__(self) -> None:
        self.messages: dict[str, list[Message]] = {slug: [] for slug in FLOWS}
        self.known: dict[str, Message] = {}
        self.calls = 0

    def answer(self, slug: str, qty: int, max_bytes: int) -> Claim:
        self.calls += 1
        now = trio.current_time()
        visible = [each for each in self.messages[slug] if each.visible_at <= now]
        seen = [each for each in visible if each.locked_until <= now][: max(qty, 0)]
        taken, total = [], 0
        for each in seen:
            total += each.size if each.attempts else 0
            if each.attempts and (not each.size or total <= max_bytes):
                taken.append(each)
        for each in taken:
            each.visible_at, each.attempts = now + LEASE + each.seconds, each.attempts - 1
        claim = replace(NOTHING, tasks=[task(each) for each in taken])
        if taken and len(taken) == qty:
            return replace(claim, next_due=0)
        if taken and len(taken) == len(seen):
            return replace(claim, next_due=0.5)
        return self._look(claim, slug, now)

    def _look(self, claim: Claim, slug: str, now: float) -> Claim:
        visible = [each for each in self.messages[slug] if each.visible_at <= now]
        later = [each.visible_at - now for each in self.messages[slug] if each.visible_at > now]
        if not visible:
            return replace(claim, next_due=min(later, default=None))
        size = visible[0].size
        return replace(
            claim,
            next_due=min(later, default=None) if size else 0,
            next_bytes=size,
            lapsed=any(not each.attempts for each in visible),
        )


def task(message: Message) -> ClaimedTask:
    attempt = message.attempts
    return ClaimedTask(message.slug, uuid4(), message.id, 0, attempt, 60, "{}", {}, message.size)


class World:
    """A dispatcher at work, and those who send messages or take them away."""

    def __init__(self, slots: int, crowd: int, delays: Iterator[float], fails: Iterator[bool]):
        self.queues = Queues()
        self.delays, self.fails = delays, fails
        self.running: list[Message] = []
        self.dispatcher = Dispatcher(
            Turns(FLOWS, lambda _: crowd), self.claim, self.start, slots, BUDGET
        )
        self._slots = slots

    async def run(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        nursery.start_soon(self.fail_lapsed)
        await self.dispatcher.run()

    async def claim(self, slug: str | None, qty: int, max_bytes: int) -> Claim:
        await trio.sleep(next(self.delays))
        claim = self.queues.answer(slug, qty, max_bytes) if slug and qty else NOTHING
        await trio.sleep(next(self.delays))
        return claim

    def start(self, tasks: list[ClaimedTask]) -> None:
        for each in tasks:
            message = self.queues.known[each.step_slug]
            self.running.append(message)
            self.nursery.start_soon(self.execute, each, message)
        loaded = [message.size for message in self.running if message.size]
        assert sum(loaded) <= BUDGET or len(loaded) == 1
        assert len(self.running) <= self._slots

    async def execute(self, each: ClaimedTask, message: Message) -> None:
        await trio.sleep(message.seconds)
        self.running.remove(message)
        self.dispatcher.free([each])
        with suppress(ZeroDivisionError), self.dispatcher.reserve(1) as reserved:
            if next(self.fails):
                raise ZeroDivisionError  # a commit that claims nothing follows
            await trio.sleep(next(self.delays))
            self.settle(each, message)
            reserved.claim = await self.claim(reserved.slug, reserved.qty, reserved.max_bytes)
        self.settle(each, message)

    def settle(self, each: ClaimedTask, message: Message) -> None:
        if message not in self.queues.messages[message.slug] or each.attempt != message.attempts:
            return  # too late, or done
        if message.retries:
            message.retries -= 1
            message.attempts = 3
            message.visible_at = trio.current_time() + 1
            self.dispatcher.notify(message.slug)
        else:
            self.queues.messages[message.slug].remove(message)

    async def fail_lapsed(self) -> None:
        async for _ in self.dispatcher.lapses:
            for slug in self.dispatcher.take_lapsed():
                await trio.sleep(next(self.delays))
                now = trio.current_time()
                self.queues.messages[slug] = [
                    each
                    for each in self.queues.messages[slug]
                    if each.attempts or each.visible_at > now
                ]
                self.dispatcher.wake(slug)

    async def send(self, message: Message, at: float, other: str) -> None:
        await trio.sleep(at)
        now = trio.current_time()
        if other == "rolls back":  # it holds the message while the notification arrives
            message.locked_until = now + 2
        elif other in {"dies", "dies at the last attempt"}:
            message.visible_at = now + LEASE
            message.attempts = 0 if other == "dies at the last attempt" else 1
        self.queues.messages[message.slug].append(message)
        self.queues.known[message.id] = message
        self.dispatcher.notify(message.slug)
        if other == "is done":
            await trio.sleep(0.003)
            if message.visible_at <= trio.current_time():
                self.queues.messages[message.slug].remove(message)


messages = st.lists(
    st.tuples(
        st.sampled_from(FLOWS),
        st.sampled_from([0, 0, 0, 10, 60, BUDGET, 300]),  # bytes
        st.integers(0, 5),  # seconds that its handler takes
        st.sampled_from([0, 0, 1, 2]),  # retries
        st.integers(0, 10),  # when it is sent
        st.sampled_from(
            ["", "", "rolls back", "dies", "dies at the last attempt", "is done"]
        ),  # what another worker does
    ),
    max_size=12,
)
delays = st.lists(st.sampled_from([0, 0.001, 0.01, 0.4, 2]), min_size=1, max_size=20)
fails = st.lists(st.booleans(), min_size=1, max_size=5)


@settings(deadline=None)
@given(messages, delays, fails, st.integers(1, 4), st.sampled_from([1, 2, 50]))
def test_whatever_happens_to_messages_none_is_left_behind(sent, delays, fails, slots, crowd):
    world: World

    async def main() -> None:
        nonlocal world
        world = World(slots, crowd, cycle(delays), cycle(fails))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run, nursery)
            for slug, size, seconds, retries, at, other in sent:
                message = Message(slug, size, seconds, retries)
                nursery.start_soon(world.send, message, at, other)
            await trio.sleep(END)
            assert world.running == []
            assert world.queues.messages == {slug: [] for slug in FLOWS}
            assert world.queues.calls < 100 + 600 * len(sent)  # a locked one each 5 ms for 2 s
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
