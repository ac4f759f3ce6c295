"""Blobs lie in the partition of the day on which their run started."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from ...conftest import new_database
from ...parts.models.core import Core, Outcome

PARENTS = ("output_blobs", "blob_chunks")
FAR = UUID("7fffffff-ffff-7000-8000-000000000000")  # of a day long after ours


def partitions(core: Core, parent: str = "output_blobs") -> set[str]:
    """What is left of the names of a table's partitions without its own."""
    found = core.rows(
        "select relname from pg_inherits join pg_class c on c.oid = inhrelid"
        " where inhparent = %s::regclass",
        f"pgflow.{parent}",
    )
    return {row.relname.removeprefix(f"{parent}_") for row in found}


def places(core: Core, parent: str = "output_blobs") -> set[str]:
    """The partitions that rows lie in."""
    found = core.rows(
        f"select distinct relname from pgflow.{parent} b join pg_class c on c.oid = b.tableoid"
    )
    return {row.relname.removeprefix(f"{parent}_") for row in found}


def days(count: int) -> set[str]:
    """The names of so many days from today on."""
    today = datetime.now(UTC).date()
    return {f"{today + timedelta(days=n):%Y%m%d}" for n in range(count)}


def forget_days(core: Core) -> None:
    """Leave the default partitions only."""
    for parent in PARENTS:
        for name in partitions(core, parent) - {"default"}:
            core.db.execute(f"drop table pgflow.{parent}_{name}")


def run_of(core: Core, run_id: UUID) -> UUID:
    core.rows("select from pgflow.start_flows('f', array['1'::jsonb], %s)", [run_id])
    core.claim()
    return run_id


@pytest.mark.parametrize("parent", PARENTS)
def test_a_new_database_has_partitions_for_today_and_three_days(core, parent):
    forget_days(core)
    core.rows("select pgflow.ensure_blob_days()")
    assert partitions(core, parent) == {"default"} | days(4)


def test_to_ask_again_changes_nothing_and_to_ask_for_more_adds(core):
    forget_days(core)
    for ahead, expected in ((0, 1), (1, 2), (1, 2), (0, 2), (5, 6), (-1, 6)):
        core.rows("select pgflow.ensure_blob_days(%s)", ahead)
        for parent in PARENTS:
            assert partitions(core, parent) == {"default"} | days(expected)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "UTC"])
def test_a_day_is_one_of_utc_wherever_the_session_is(core, zone):
    forget_days(core)
    core.db.execute(f"set local timezone = '{zone}'")
    core.rows("select pgflow.ensure_blob_days(1)")
    assert partitions(core) == {"default"} | days(2)
    core.flow("a")
    core.complete(core.start(), "a", "x" * 10_000)
    assert places(core) <= days(2)


def test_a_partition_begins_and_ends_with_its_day(core):
    forget_days(core)
    core.rows("select pgflow.ensure_blob_days(0)")
    core.flow("a")
    midnight = datetime.combine(datetime.now(UTC).date(), datetime.min.time(), UTC)
    first, last = (
        core.value("select pgflow.first_id(%s)", moment)
        for moment in (midnight, midnight + timedelta(days=1))
    )
    inside = (first, UUID(int=last.int - 1))
    outside = (UUID(int=first.int - 1), last)
    for run_id in (*inside, *outside):
        core.blob(run_id, "a")
    found = dict(
        core.rows(
            "select run_id, c.relname from pgflow.output_blobs b join pg_class c"
            " on c.oid = b.tableoid"
        )
    )
    (today,) = days(1)
    assert {found[run_id] for run_id in inside} == {f"output_blobs_{today}"}
    assert {found[run_id] for run_id in outside} == {"output_blobs_default"}


@pytest.mark.parametrize(
    "moment",
    [datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 3, 29, 1, 59, 59, 999000, tzinfo=UTC)],
)
def test_the_first_id_of_a_moment_is_its_milliseconds(core, moment):
    milliseconds = round(moment.timestamp() * 1000)
    assert core.value("select pgflow.first_id(%s)", moment) == UUID(int=milliseconds << 80)


@pytest.mark.parametrize("run_id", [UUID(int=0), UUID(int=5), FAR, UUID(int=2**128 - 1)], ids=str)
def test_runs_of_no_day_use_the_default_partition_and_work_the_same(core, run_id):
    core.flow("a", "b<a", base_delay=0)
    run_of(core, run_id)
    core.write(core.open(run_id, "a"), 0)
    core.settle(Outcome(run_id, "a", error="again"))
    core.lapse()
    core.claim()
    blob = core.upload(run_id, "a", attempt=2)
    (task,) = core.settle(Outcome(run_id, "a", attempt=2, blob=blob), qty=1).tasks
    assert task.blobs_refs == {"a": str(blob)}
    assert core.chunks() == [(blob, 0), (blob, 1)]
    assert places(core) == places(core, "blob_chunks") == {"default"}
    core.complete(run_id, "b", "x" * 10_000)
    core.db.execute("delete from pgflow.runs")
    assert (core.blobs(), core.chunks()) == (set(), [])


@pytest.mark.parametrize("made_of", ["a small blob", "chunks"])
def test_a_few_blobs_in_the_default_partition_move_to_the_one_of_their_day(core, made_of):
    forget_days(core)
    core.flow("a")
    run = core.start()
    core.claim()
    if made_of == "chunks":
        core.upload(run, "a")
    else:
        core.blob(run, "a")
    core.rows("select pgflow.ensure_blob_days(2)")
    for parent in PARENTS:
        assert partitions(core, parent) == {"default"} | days(3)
    before = core.blobs()
    core.blob(run, "a")
    assert places(core) == days(1)
    assert len(core.blobs()) == len(before) + 1
    if made_of == "chunks":
        assert places(core, "blob_chunks") == days(1)
        assert len(core.chunks()) == 2


MUCH = {
    "rows": "insert into pgflow.blob_chunks_default"
    " select id, n, '' from b, generate_series(1, 1001) n",
    "bytes": "insert into pgflow.blob_chunks_default"
    " select id, n, convert_to(repeat('x', 8100000), 'UTF8') from b, generate_series(1, 4) n",
}


@pytest.mark.parametrize("much", MUCH)
def test_a_day_of_which_much_lies_in_the_default_partition_stays_there_and_others_do_not(
    core, much
):
    forget_days(core)
    core.db.execute(
        "with b as (select pgflow.new_blob_id(pgflow.first_id(now() + interval '1 day')) as id) "
        + MUCH[much]
    )
    core.rows("select pgflow.ensure_blob_days(2)")
    for parent in PARENTS:
        assert partitions(core, parent) == {"default"} | days(3) - (days(2) - days(1))


@pytest.mark.parametrize("parent", PARENTS)
def test_each_partition_stores_content_as_it_comes(core, parent):
    stored = core.rows(
        """
        select distinct a.attstorage::text from pg_attribute a
        join pg_inherits i on i.inhrelid = a.attrelid
        where i.inhparent = %s::regclass and a.attname = 'content'
        """,
        f"pgflow.{parent}",
    )
    assert stored == [("e",)]


@pytest.mark.parametrize("parent", PARENTS)
def test_each_partition_has_the_indexes_defaults_and_checks_of_its_parent(core, parent):
    described = core.rows(
        """
        select
          (select count(*) from pg_index x where x.indrelid = c.oid) as indexes,
          (select count(*) from pg_attrdef d where d.adrelid = c.oid) as defaults,
          (select count(*) from pg_constraint where conrelid = c.oid and contype = 'c') as checks
        from pg_class c
        where c.oid = %s::regclass
          or c.oid in (select inhrelid from pg_inherits where inhparent = %s::regclass)
        """,
        f"pgflow.{parent}",
        f"pgflow.{parent}",
    )
    assert len(described) > 4
    assert len(set(described)) == 1


# What a call locks, and so must plan for and wait for

MANY_DAYS = 30


def locked(core: Core) -> set[str]:
    """The partitions that this transaction has locked so far."""
    names = core.rows(
        "select relname from pg_locks join pg_class c on c.oid = relation"
        " where pid = pg_backend_pid() and relkind = 'r'"
        " and relname ~ '^(output_blobs|blob_chunks)_'"
    )
    return {row.relname.rpartition("_")[2] for row in names}


@pytest.fixture(scope="module")
def crowded(any_server: Any, any_template: str) -> Iterator[Core]:
    """A session on a database with partitions of many days, where two steps are under way."""
    with (
        new_database(any_server.dsn, any_template) as dsn,
        psycopg.connect(dsn, autocommit=True, row_factory=namedtuple_row) as connection,
    ):
        made = Core(connection)
        made.rows("select pgflow.ensure_blob_days(%s)", MANY_DAYS)
        made.flow("a", "b<a", base_delay=0, max_attempts=99)
        yield made


def refuse(core: Core, run: UUID) -> None:
    core.settle(
        Outcome(run, "a", attempt=9, blob=core.blob(run, "a", elements=[core.blob(run, "a")]))
    )


def complete(core: Core, run: UUID) -> None:
    core.settle(Outcome(run, "a", blob=core.upload(run, "a")), qty=1)


def fail(core: Core, run: UUID) -> None:
    core.write(core.open(run, "a"), 0)
    core.settle(Outcome(run, "a", error="again"))


def delete(core: Core, run: UUID) -> None:
    core.upload(run, "a")
    core.rows("delete from pgflow.runs where run_id = %s returning 1", run)


def read(core: Core, run: UUID) -> None:
    core.rows("select pgflow.blob_json(%s)", core.blob(run, "a"))


CALLS = [complete, fail, refuse, delete, read]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_no_call_locks_another_day_than_that_of_its_run(crowded, call):
    runs = crowded.start_many(8)
    crowded.claim(99)  # with those of other tests
    for run in runs:  # from the sixth on, plans may be kept
        with crowded.db.transaction():
            call(crowded, run)
            assert locked(crowded) <= days(1)
