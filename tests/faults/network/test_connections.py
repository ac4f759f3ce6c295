"""Hundreds of tasks on a pool, cancelled at random, in sessions that end at random.

`PGFLOW_STRESS_SEED` repeats a run; its order of events is the same only as far as the server's is.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from itertools import count
from random import Random, SystemRandom
from typing import Any

import psycopg
import pytest
import trio
from psycopg import errors
from psycopg.rows import TupleRow

from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.pool import Pool, is_stale

from ...parts.servers.own_server import until

SIZE = 6  # connections
TABLES = """
create table public.item (id int primary key);
create function public.refuse() returns trigger language plpgsql as
'begin raise exception ''no space left'' using errcode = ''disk_full''; end';
create trigger refuse before insert on public.item
for each row when (new.id < 0) execute function public.refuse();
create table public.held (id int primary key);
insert into public.held select generate_series(1, 20);
"""
TERMINATE_ONE = """
select pg_terminate_backend(pid, 1000) from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
order by random() limit 1
"""
# But for whoever asks.
NOT_IDLE = """
select state, query from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
and state <> 'idle'
"""
LOCKS = """
select mode, relation::regclass from pg_locks
where database = (select oid from pg_database where datname = current_database())
and pid <> pg_backend_pid() and locktype in ('relation', 'tuple', 'transactionid')
"""
REFUSED = "insert into public.item values (%s) returning id"

Conn = Connection[TupleRow]


class Stress:
    """Does anything on connections of a pool, and knows what must be true afterwards."""

    def __init__(self, pool: Pool, chance: Random) -> None:
        self.pool, self.chance = pool, chance
        self.numbers = count(1)
        self.committed: set[int] = set()
        self.undone: set[int] = set()
        self.done = dict.fromkeys(self.operations, 0)

    @property
    def operations(self) -> list[Callable[[Conn], Awaitable[None]]]:
        """All of them take a connection that is theirs alone."""
        return [
            self.query, self.write, self.write_nested, self.pipe, self.pipe_and_read,
            self.pipe_a_transaction, self.pipe_refused, self.many, self.copy_in, self.copy_out,
            self.stream, self.walk, self.share, self.alter, self.pipe, self.pipe_and_read,
        ]  # fmt: skip

    async def select(self, conn: Conn) -> None:
        number = self.chance.randrange(10**9)
        text = f"select %s::int, {self.chance.randrange(8)}, pg_sleep({self.short()})"
        cursor = await conn.execute(text, [number], prepare=self.chance.choice([None, True]))
        answer = await cursor.fetchone()
        assert answer
        assert answer[0] == number

    def short(self) -> float:
        return self.chance.choice([0, 0, 0, 0.003])

    async def query(self, conn: Conn) -> None:
        for _ in range(5):
            await self.select(conn)

    async def insert(self, conn: Conn, number: int) -> None:
        await conn.execute("insert into public.item values (%s)", [number])

    async def write(self, conn: Conn) -> None:
        await self.all_or_nothing(conn, self.insert)

    async def all_or_nothing(self, conn: Conn, insert: Callable[[Conn, int], Any]) -> None:
        """A transaction commits exactly if its block finishes, unless its session is killed."""
        number = next(self.numbers)
        try:
            async with conn.transaction():
                await insert(conn, number)
                await self.select(conn)
        except trio.Cancelled:
            self.undone.add(number)
            raise
        self.committed.add(number)

    async def write_nested(self, conn: Conn) -> None:
        async def insert(conn: Conn, number: int) -> None:
            with suppress(errors.DiskFull):
                async with conn.transaction():
                    await conn.execute(REFUSED, [-1])
            async with conn.transaction():
                await self.insert(conn, number)

        await self.all_or_nothing(conn, insert)

    async def pipe(self, conn: Conn) -> None:
        await self.in_pipeline(conn, self.insert)

    async def pipe_and_read(self, conn: Conn) -> None:
        async def insert(conn: Conn, number: int) -> None:
            await conn.execute(
                "select from public.held where id = %s for update", [number % 20 + 1]
            )
            cursor = await conn.execute(
                "insert into public.item values (%s) returning id", [number]
            )
            assert await cursor.fetchone() == (number,)

        await self.in_pipeline(conn, insert)

    async def in_pipeline(self, conn: Conn, insert: Callable[[Conn, int], Any]) -> None:
        """What is cancelled before the block has come to its end is undone."""
        number, leaving = next(self.numbers), False
        try:
            async with conn.pipeline():
                for _ in range(self.chance.randrange(5)):
                    await conn.execute("select %s::int", [1])
                await insert(conn, number)
                await trio.sleep(self.chance.choice([0, 0.01, 0.1]))
                leaving = True
        except trio.Cancelled:
            if not leaving:
                self.undone.add(number)
            raise
        self.committed.add(number)

    async def pipe_a_transaction(self, conn: Conn) -> None:
        async def insert(conn: Conn, number: int) -> None:
            async with conn.pipeline():
                await self.insert(conn, number)
                await self.select(conn)

        await self.all_or_nothing(conn, insert)

    async def pipe_refused(self, conn: Conn) -> None:
        number = next(self.numbers)

        async def insert() -> None:
            async with conn.pipeline():
                await self.insert(conn, number)
                for each in (-1, -2, number, number):
                    await conn.execute(REFUSED, [each], prepare=self.chance.choice([None, True]))

        self.undone.add(number)
        with pytest.raises(errors.DiskFull):
            await insert()

    async def many(self, conn: Conn) -> None:
        async def insert(conn: Conn, number: int) -> None:
            async with conn.cursor() as cursor:
                values = [(n,) for n in range(20)]
                await cursor.executemany("select %s::int", values, returning=True)
                answers = [await answer.fetchone() async for answer in cursor.results()]
                assert answers == values
            await self.insert(conn, number)

        await self.all_or_nothing(conn, insert)

    async def copy_in(self, conn: Conn) -> None:
        async def insert(conn: Conn, number: int) -> None:
            async with conn.cursor() as cursor, cursor.copy("copy public.item from stdin") as copy:
                await copy.write_row([number])
                await trio.sleep(self.short())

        await self.all_or_nothing(conn, insert)

    async def copy_out(self, conn: Conn) -> None:
        query = "copy (select generate_series(1, 3000)) to stdout"
        async with conn.cursor() as cursor, cursor.copy(query) as copy:
            copy.set_types(["int4"])
            assert [row async for row in copy.rows()] == [(n,) for n in range(1, 3001)]

    async def stream(self, conn: Conn) -> None:
        async with aclosing(conn.cursor().stream("select generate_series(1, 2000)")) as rows:
            assert [row async for row in rows] == [(n,) for n in range(1, 2001)]

    async def walk(self, conn: Conn) -> None:
        async with conn.transaction(), conn.cursor("walk") as cursor:
            await cursor.execute("select generate_series(1, 300)")
            assert [row async for row in cursor] == [(n,) for n in range(1, 301)]

    async def share(self, conn: Conn) -> None:
        """Several tasks on one connection, some in a pipeline; who is cancelled may close it."""

        async def one() -> None:
            with trio.move_on_after(self.patience()), suppress(psycopg.OperationalError):
                if self.chance.random() < 0.4:
                    async with conn.pipeline():
                        await self.select(conn)
                else:
                    await self.query(conn)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(one)

    async def alter(self, conn: Conn) -> None:
        await conn.execute(self.chance.choice(["discard all", "drop table if exists none"]))

    def patience(self) -> float:
        return self.chance.choice([self.chance.uniform(0, 0.02), self.chance.uniform(0, 0.2), 30])

    async def run(self) -> None:
        for _ in range(4):
            operation = self.chance.choice(self.operations)
            # Nearly all of the outer limits end while the task waits for a connection.
            with trio.move_on_after(4 * self.patience()), suppress(psycopg.OperationalError):
                async with self.pool.connection() as conn:
                    with trio.move_on_after(self.patience()):
                        await operation(conn)
                        self.done[operation] += 1
            await trio.sleep(self.chance.uniform(0, 0.02))


async def kill_sessions(conn: Conn, chance: Random) -> None:
    while True:
        await trio.sleep(chance.uniform(0.01, 0.2))
        await conn.execute(TERMINATE_ONE)


async def assert_whole(conn: Conn) -> None:
    """What libpq, psycopg and the server say of a session is the same: it is idle."""
    await conn.execute("select", prepare=False)
    assert conn.is_whole
    known = set(conn._prepared._names.values())
    cursor = await conn.execute("select name from pg_prepared_statements", prepare=False)
    assert {name.encode() for (name,) in await cursor.fetchall()} == known


@pytest.fixture
def seed() -> int:
    chosen = int(os.environ.get("PGFLOW_STRESS_SEED") or SystemRandom().randrange(10**6))
    print(f"PGFLOW_STRESS_SEED={chosen}")  # noqa: T201 - pytest shows it if the test fails
    return chosen


@pytest.mark.parametrize("prepare_threshold", [0, 5])
async def test_whatever_is_cancelled_or_killed_no_session_is_left_in_a_bad_state(
    empty_database, seed, prepare_threshold
):
    chance = Random(seed)
    options: dict[str, Any] = {"timeout": 60, "prepare_threshold": prepare_threshold}
    async with (
        await Connection.connect(empty_database, application_name="watch") as watch,
        Pool(empty_database, max_size=SIZE, **options) as pool,
    ):
        await watch.execute(TABLES)
        stress = Stress(pool, chance)
        async with trio.open_nursery() as killers:
            killers.start_soon(kill_sessions, watch, chance)
            async with trio.open_nursery() as nursery:
                for _ in range(300):
                    nursery.start_soon(stress.run)
            killers.cancel_scope.cancel()
        assert all(stress.done.values())

        async with await Connection.connect(empty_database) as conn:

            async def all_is_quiet() -> bool:
                busy = await (await conn.execute(NOT_IDLE)).fetchall()
                return not busy and not await (await conn.execute(LOCKS)).fetchall()

            await until(all_is_quiet)
            found = {number async for (number,) in await conn.execute("select id from public.item")}
        assert stress.committed <= found
        assert not stress.undone & found
        assert pool._slots.value == SIZE
        for idle in pool._idle:
            if not is_stale(idle):  # killed at the end
                await assert_whole(idle)
