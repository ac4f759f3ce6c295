"""What a connection believes to be prepared is prepared, whatever has failed on it.

`tests/psycopg_matrix.sh` runs this file with each release and implementation of psycopg.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from random import Random
from typing import Any

import psycopg
import pytest
from psycopg import errors

from pgflow_events.postgres.connection import Connection

# Refuses negative numbers as a server does for a moment while its disk is full.
REFUSE = """
create table public.item (id int);
create function public.refuse() returns trigger language plpgsql as
'begin raise exception ''no space left'' using errcode = ''disk_full''; end';
create trigger refuse before insert on public.item
for each row when (new.id < 0) execute function public.refuse();
"""
INSERT = "insert into public.item values (%s)"


@pytest.fixture
async def conn(empty_database) -> AsyncIterator[Connection[Any]]:
    async with await Connection.connect(empty_database) as conn:
        await conn.execute(REFUSE)
        yield conn


async def prepared(conn: Connection[Any]) -> set[bytes]:
    cursor = await conn.execute("select name from pg_prepared_statements", prepare=False)
    return {name.encode() for (name,) in await cursor.fetchall()}


async def assert_known(conn: Connection[Any]) -> None:
    """What we believe and what there is are the same."""
    await conn.execute("select", prepare=False)  # and what is left to be deallocated
    assert await prepared(conn) == set(conn._prepared._names.values())


async def refused(conn: Connection[Any], *numbers: int, prepare: bool | None = None) -> None:
    async with conn.pipeline():
        for number in numbers:
            await conn.execute(INSERT, [number], prepare=prepare)


@pytest.mark.parametrize("prepare", [None, True])
@pytest.mark.parametrize("before", range(7))
async def test_an_error_in_a_pipeline_leaves_its_statements_usable(conn, prepare, before):
    for number in range(before):
        await conn.execute(INSERT, [number])
    with pytest.raises(errors.DiskFull):
        await refused(conn, -1, 1, 2, 3, 4, 5, 6, prepare=prepare)
    for number in range(7):
        await conn.execute(INSERT, [number], prepare=prepare)
        await refused(conn, number, number, prepare=prepare)
    await assert_known(conn)


async def test_a_pipeline_goes_on_after_an_error_in_one_of_its_transactions(conn):
    conn.prepare_threshold = 0

    async def three_transactions() -> None:
        async with conn.pipeline():
            for first in (1, -1, 2):
                await conn.execute(INSERT, [first])
                await conn.execute("select %s::int", [first])
                conn.end_transaction()

    for _ in range(20):
        with pytest.raises(errors.DiskFull):
            await three_transactions()
        assert await (await conn.execute("select %s::int", [7])).fetchone() == (7,)
    await assert_known(conn)


async def test_a_transaction_of_a_pipeline_does_not_fail_with_the_one_before(conn):
    """Its statement was prepared in that one, which nobody has heard of while this one is sent."""

    async def two_transactions() -> None:
        async with conn.pipeline():
            await conn.execute("select pg_sleep(0.05)")
            await conn.execute(INSERT, [-1])
            await conn.execute("insert into public.item values (%s) returning 1", [1], prepare=True)
            conn.end_transaction()
            await conn.execute("insert into public.item values (%s) returning 1", [2], prepare=True)

    with pytest.raises(errors.DiskFull):
        await two_transactions()
    assert await (await conn.execute("select id from public.item")).fetchall() == [(2,)]
    await assert_known(conn)


async def test_a_statement_that_fails_leaves_nothing_behind_on_the_server(conn):
    for _ in range(5):
        with pytest.raises(errors.DiskFull):
            await conn.execute(INSERT, [-1], prepare=True)
    await assert_known(conn)


@pytest.mark.parametrize(
    "query", ["discard all", "deallocate all", "drop table if exists none", "begin; rollback"]
)
async def test_what_ends_all_statements_does_so_each_time(conn, query):
    """The answer is looked at by psycopg the first time only."""
    for _ in range(8):
        await conn.execute(query)
        for _ in range(2):
            await conn.execute("select 1", prepare=True)
    await assert_known(conn)


async def test_what_is_prepared_next_is_not_deallocated_with_the_rest(conn):
    """All are about to be deallocated, which psycopg does once it has prepared the next."""
    await conn.execute("select 1", prepare=True)
    async with conn.pipeline():
        await conn.execute("drop table if exists none")
    for _ in range(3):
        await conn.execute("select 2", prepare=True)
        async with conn.cursor() as cursor:
            await cursor.executemany(INSERT, [(1,), (2,)])
    await assert_known(conn)


async def test_what_another_deallocated_behind_our_back_fails_once(conn):
    await conn.execute("select 1", prepare=True)
    await conn.execute("do $$ begin execute 'deallocate all'; end $$")
    with pytest.raises(errors.InvalidSqlStatementName):
        await conn.execute("select 1")
    await conn.execute("select 1", prepare=True)
    await assert_known(conn)


async def test_a_statement_whose_table_was_changed_by_another_fails_once(conn, empty_database):
    await conn.execute("select * from public.item", prepare=True)
    async with await Connection.connect(empty_database) as other:
        await other.execute("alter table public.item add column new int")
    with pytest.raises(errors.FeatureNotSupported, match="cached plan"):
        await conn.execute("select * from public.item")
    await conn.execute("select * from public.item")
    await assert_known(conn)


async def test_a_connection_that_never_prepared_has_nothing_to_deallocate(conn):
    conn.prepare_threshold = None
    with pytest.raises(errors.DiskFull):
        await conn.execute(INSERT, [-1], prepare=True)
    assert not conn._prepared._to_flush


class Fuzzed:
    """A connection on which anything is done, in any order, in pipelines and out of them."""

    def __init__(self, conn: Connection[Any], chance: Random) -> None:
        self.conn, self.chance = conn, chance
        self.steps = [self.insert] * 4 + [self.select] * 3
        self.steps += [self.refused, self.divide, self.refresh, self.many]

    async def insert(self) -> None:
        table = self.chance.choice(["item", "item as a", "item as b"])
        await self.conn.execute(f"insert into {table} values (%s)", [1], prepare=self.prepare())

    async def select(self) -> None:
        number = self.chance.randrange(1000)
        query = f"select %s::int + {self.chance.randrange(4)} * 0"
        cursor = await self.conn.execute(query, [number], prepare=self.prepare())
        if self.chance.random() < 0.5:
            assert await cursor.fetchone() == (number,)

    async def refused(self) -> None:
        await self.conn.execute(INSERT, [-1], prepare=self.prepare())

    async def divide(self) -> None:
        await self.conn.execute("select 1 / %s::int", [0], prepare=self.prepare())

    async def refresh(self) -> None:
        query = self.chance.choice(["deallocate all", "drop table if exists none"])
        await self.conn.execute(query, prepare=self.prepare())

    async def many(self) -> None:
        async with self.conn.cursor() as cursor:
            last = self.chance.choice([1, 1, -1])
            await cursor.executemany(INSERT, [(1,), (2,), (last,)], returning=False)

    def prepare(self) -> bool | None:
        return self.chance.choice([None, None, True, False])

    async def some(self) -> None:
        for _ in range(self.chance.randrange(12)):
            step = self.chance.choice(self.steps)
            if self.chance.random() < 0.5:
                with suppress(psycopg.Error):
                    await step()
            else:
                await step()
            if self.conn._pipeline and self.chance.random() < 0.1:
                self.conn.end_transaction()

    async def piped(self) -> None:
        async with self.conn.pipeline():
            await self.some()

    async def in_transaction(self) -> None:
        async with self.conn.transaction():
            await self.chance.choice([self.some, self.piped, self.nested])()

    async def nested(self) -> None:
        with suppress(psycopg.Error):
            await self.in_transaction()
        await self.some()

    async def piped_transaction(self) -> None:
        async with self.conn.pipeline():
            await self.in_transaction()

    async def round(self) -> None:
        blocks = [self.some, self.piped, self.piped, self.in_transaction, self.piped_transaction]
        try:
            await self.chance.choice(blocks)()
        except (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement):
            raise
        except psycopg.Error:
            pass


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_fails_we_know_what_is_prepared(conn, seed):
    chance = Random(seed)
    conn.prepare_threshold = chance.choice([0, 1, 3])
    conn.prepared_max = chance.choice([3, 100])
    fuzzed = Fuzzed(conn, chance)
    for _ in range(60):
        await fuzzed.round()
        await assert_known(conn)
