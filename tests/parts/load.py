"""Runs that go on while there is trouble."""

from collections import Counter

import trio

from pgflow_events import Flow

from .observing import rows

PAGE = "<p>" * 10_000


class Load:
    """Runs of three steps each, that note every attempt."""

    def __init__(self, slug: str, runs: int) -> None:
        # Whatever a lost answer had claimed runs at its timeout.
        self.flow = Flow(slug, base_delay=0, timeout=1, max_attempts=50)
        self.attempts: Counter[tuple[object, ...]] = Counter()
        self.expected = runs
        self._reached: dict[int, trio.Event] = {}
        flow = self.flow
        one = flow.step(flow.context, slug="one")(self._run)
        two = flow.step(flow.context, one, slug="two")(self._run)
        flow.step(flow.context, two, slug="three")(self._run)

    async def _run(self, context, *_):
        self.attempts[context.run_id, context.step, context.attempt] += 1
        if (total := self.attempts.total()) in self._reached:
            self._reached.pop(total).set()
        await trio.sleep(0.02)
        return PAGE if context.step == "one" else context.step

    async def reach(self, attempts: int) -> None:
        """Return when so many attempts have been made."""
        if self.attempts.total() < attempts:
            await self._reached.setdefault(attempts, trio.Event()).wait()

    async def complete(self, client, dsn: str, *troubles) -> None:
        """Start all runs, make trouble, and see that all complete."""
        runs = await client.start_many(self.flow, [None] * self.expected)
        async with trio.open_nursery() as nursery:
            for trouble in troubles:
                nursery.start_soon(trouble)
            for run in runs:
                assert await run.result() == {"three": "three"}
        states = await rows(
            dsn,
            "select status, attempts_count >= 1, count(*) from pgflow.step_tasks"
            " where flow_slug = %s group by 1, 2",
            self.flow.slug,
        )
        assert states == [("completed", True, 3 * self.expected)]
        left = await rows(dsn, f"select from pgmq.q_{self.flow.slug}")
        assert left == []
