"""What is kept no longer goes, as a whole, and nothing else goes with it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
import trio
from psycopg.types.json import Jsonb

from blobstore import BlobForgotten, BlobMissing
from pgflow_events import Flow, Settings
from pgflow_events.postgres.connection import Connection
from pgflow_events.upkeep import retention
from pgflow_events.upkeep.retention import Pruned

from ...conftest import EmbeddedServer, new_database
from ...parts.observing import execute, rows, until
from ...parts.past import NOW, TODAY, add_days, caller, faults, fill, id_at, past, scalar

PAGE = "<p>" * 10_000
LARGE = b"\x00\xff" * 3_000_000  # in chunks
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
OFTEN = Settings(check_interval=0.03)


@pytest.fixture
def database(any_server: EmbeddedServer, any_template: str) -> Iterator[str]:
    """A database of the test's own on each server."""
    with new_database(any_server.dsn, any_template) as made:
        yield made


async def end_before(database, age, *run_ids):
    """Let runs have ended so long ago."""
    await execute_with(
        database,
        "update pgflow.runs set completed_at = completed_at - %s where run_id = any(%s)",
        age,
        list(run_ids),
    )


async def execute_with(database, statement, *parameters):
    async with await Connection.connect(database) as connection:
        await connection.execute(statement, parameters)


async def forgotten(database, run):
    """The steps of a run whose outputs were forgotten."""
    found = await rows(
        database,
        "select step_slug from pgflow.output_blobs"
        " where run_id = %s and forgotten_at is not null order by step_slug",
        run.id,
    )
    return [row.step_slug for row in found]


async def until_forgotten(database, run, *slugs):
    async def are_forgotten():
        return await forgotten(database, run) == sorted(slugs)

    await until(are_forgotten)


async def count(database, table):
    ((number,),) = await rows(database, f"select count(*) from {table}")
    return number


def ends(age=WEEK):
    return datetime.now(UTC) - age


# keep_output


@pytest.mark.parametrize("output", [PAGE, LARGE], ids=["row", "chunks"])
async def test_a_worker_forgets_an_output_by_itself_and_the_others_stay(
    client, work, database, output
):
    flow = Flow("flow")

    @flow.step(keep_output=0)
    async def page():
        return output

    @flow.step(page)
    async def text(value):
        return value[:1] * 20_000

    await work(flow, settings=OFTEN)
    run = await client.start(flow, None)
    await run.wait()
    await until_forgotten(database, run, "page")
    with pytest.raises(BlobForgotten):
        await run.output(page)
    assert await run.output(text) == output[:1] * 20_000
    assert await count(database, "pgflow.blob_chunks") == 0
    assert not await faults(database)


async def test_an_output_is_kept_until_its_run_ends_and_as_long_as_its_step_says(
    client, work, database
):
    flow = Flow("flow", keep_output=0)
    forgot = trio.Event()

    @flow.step(flow.input)
    async def page(value):
        return value

    @flow.step(page)
    async def middle(value):
        await forgot.wait()
        return value + "!"

    @flow.step(middle, keep_output=3600)
    async def last(value):
        return value + "!"

    await work(flow, settings=OFTEN)
    run = await client.start(flow, PAGE)

    async def page_is_there():
        return await rows(database, "select from pgflow.output_blobs where step_slug = 'page'")

    await until(page_is_there)
    assert (await retention_of(database)).forgotten == 0
    forgot.set()
    await run.wait()
    await until_forgotten(database, run, "run", "page", "middle")
    assert await run.output(last) == PAGE + "!!"
    ((kept,),) = await rows(
        database,
        "select extract(epoch from b.expires_at - r.completed_at) from pgflow.output_blobs b"
        " join pgflow.runs r using (run_id) where step_slug = 'last'",
    )
    assert 3599 < kept < 3601
    assert not await faults(database)


async def retention_of(database):
    pruned = Pruned()
    await retention.forget(caller(database), pruned)
    return pruned


@pytest.mark.parametrize("kept", [None, 3600])
async def test_a_blob_that_was_passed_on_stays_as_long_as_the_longest_says(
    client, work, database, kept
):
    flow = Flow("flow")

    @flow.step(keep_output=0)
    async def page():
        return PAGE

    @flow.step(page.blob, keep_output=kept)
    async def same(blob):
        return blob

    await work(flow)
    run = await client.start(flow, None)
    assert await run.result() == {"same": PAGE}
    assert (await retention_of(database)).forgotten == 0
    assert await run.output(page) == PAGE
    await execute(
        database, "update pgflow.output_blobs set expires_at = expires_at - '1 h'::interval"
    )
    assert (await retention_of(database)).forgotten == (0 if kept is None else 1)


async def test_the_elements_of_a_list_are_forgotten_with_it(client, work, database):
    flow = Flow("flow", keep_output=0)

    @flow.step(by_element=True)
    async def pages():
        return [PAGE, 1, PAGE + "!"]

    await work(flow)
    run = await client.start(flow, None)
    await run.wait()
    await retention_of(database)  # or the worker has done so, which has just begun to keep house
    gone = "select from pgflow.output_blobs where forgotten_at is not null and content is null"
    assert len(await rows(database, gone)) == 3
    assert await retention_of(database) == Pruned()
    with pytest.raises(BlobForgotten):
        await run.result()
    assert not await faults(database)


async def test_what_a_failed_run_put_out_is_forgotten_too(client, work, database):
    flow = Flow("flow", keep_output=0, max_attempts=1)

    @flow.step()
    async def page():
        return PAGE

    @flow.step(page)
    async def bad(value):
        raise ValueError

    await work(flow, settings=OFTEN)
    run = await client.start(flow, None)
    await run.wait()
    await until_forgotten(database, run, "page")


# Whole days


async def wal(connection):
    return await scalar(connection, "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")


async def test_dropping_a_day_of_blobs_writes_next_to_no_wal(database):
    add_days(database, 30, 29)
    fill(database, 30, 1000, 50_000)
    fill(database, 29, 1000, 50_000)
    async with await Connection.connect(database) as connection:
        await connection.execute("checkpoint")
        before = await wal(connection)
        await connection.execute(
            "delete from pgflow.output_blobs where id < pgflow.first_id(%s)", [past(29)]
        )
        between = await wal(connection)
        outcome, blobs, stored = (
            await (
                await connection.execute(
                    "select * from pgflow.drop_blob_day(%s, %s)", [past(29), ends()]
                )
            ).fetchall()
        )[0]
        after = await wal(connection)
    assert (outcome, blobs) == ("dropped", 1000)
    assert stored >= 50_000_000
    assert after - between < (between - before) / 20


async def test_the_runs_of_a_dropped_day_may_outlive_it_for_a_moment(client, database):
    add_days(database, 30)
    fill(database, 30, 10)
    assert not await faults(database)
    await execute_with(database, "select pgflow.drop_blob_day(%s, %s)", past(30), ends())
    assert not await faults(database)
    (task, *_) = await rows(
        database, "select run_id, step_slug, output_blob_id from pgflow.step_tasks"
    )
    with pytest.raises(BlobMissing):
        await client._reader.values(task.run_id, {task.step_slug: task.output_blob_id})
    pruned = await retention.prune(caller(database), ends())
    assert (pruned.runs, pruned.tasks, pruned.blobs) == (10, 10, 0)


async def test_a_day_that_somebody_reads_is_busy_and_goes_the_next_time(database):
    add_days(database, 30, 20)
    fill(database, 30, 10)
    fill(database, 20, 10)
    make = caller(database)
    async with await Connection.connect(database) as reader, reader.transaction():
        await reader.execute(
            "select from pgflow.output_blobs where id < pgflow.first_id(%s)", [past(28)]
        )
        with trio.fail_after(20):
            busy = await retention.prune(make, ends())
        assert past(30) in busy.busy_days
        assert past(30) not in busy.days
        assert not await faults(database)
        assert await scalar(reader, "select count(*) from pgflow.output_blobs") == 20
    then = await retention.prune(make, ends())
    assert then.days == [past(30), past(20)]
    assert (then.runs, then.busy_days) == (20, [])
    assert await count(database, "pgflow.output_blobs") == 0


async def test_a_run_that_still_goes_on_keeps_its_day_and_not_its_neighbours(
    client, work, database
):
    flow = Flow("flow")
    go_on = trio.Event()

    @flow.step(flow.input)
    async def page(value):
        return value * 10_000

    @flow.step(page)
    async def waits(value):
        if value[0] == "b":
            await go_on.wait()
        return value

    add_days(database, 30)
    fill(database, 30, 10)
    await work(flow)
    noon = datetime.combine(past(30), datetime.min.time(), UTC) + DAY / 2
    ended, going = [
        await client.start(flow, text, run_id=id_at(noon + n * DAY / 10))
        for n, text in enumerate("ab")
    ]
    await ended.wait()
    await end_before(database, 30 * DAY, ended.id)
    make = caller(database)
    pruned = await retention.prune(make, ends())
    assert (pruned.days, pruned.runs) == ([], 11)
    go_on.set()
    assert await going.result() == {"waits": "b" * 10_000}
    assert not await faults(database)
    await end_before(database, 30 * DAY, going.id)
    pruned = await retention.prune(make, ends())
    assert (pruned.days, pruned.runs, pruned.blobs) == ([past(30)], 1, 2)
    assert not await faults(database)


async def test_a_run_that_commits_while_its_day_is_about_to_go_keeps_it(client, database):
    add_days(database, 30)
    fill(database, 30, 10)
    noon = datetime.combine(past(30), datetime.min.time(), UTC) + DAY / 2
    run_id, pruned = id_at(noon), Pruned()

    async def waits():
        return await rows(
            database,
            "select from pg_stat_activity where wait_event_type = 'Lock' and query like %s",
            "%drop_blob_day%",
        )

    async with (
        trio.open_nursery() as nursery,
        await Connection.connect(database) as connection,
        connection.transaction(),
    ):
        await connection.execute(START, {"run_id": run_id, "page": Jsonb(PAGE)})
        nursery.start_soon(retention.prune, caller(database), ends(), pruned)
        await until(waits)
    assert (pruned.days, pruned.runs) == ([], 10)
    assert await count(database, "pgflow.output_blobs") == 1
    assert not await faults(database)


START = """
select from pgflow.start_flows('past', array[%(page)s::jsonb], array[%(run_id)s::uuid])
"""


async def test_a_run_whose_id_was_not_made_of_a_time_goes_as_well(client, work, database):
    flow = Flow("flow")

    @flow.step(flow.input)
    async def page(value):
        return value

    await work(flow)
    old, young = [await client.start(flow, PAGE, run_id=uuid4()) for _ in range(2)]
    unset = await client.start(flow, PAGE, run_id=id_at(NOW - 100 * DAY))  # of no partition
    for run in (old, young, unset):
        await run.wait()
    await end_before(database, 30 * DAY, old.id, unset.id)
    pruned = await retention.prune(caller(database), ends())
    assert (pruned.runs, pruned.blobs, pruned.days) == (2, 4, [])
    assert await young.result() == {"page": PAGE}
    assert await count(database, "pgflow.output_blobs_default") == 2
    assert not await faults(database)


async def test_runs_on_both_sides_of_midnight_lie_in_adjacent_days(client, work, database):
    flow = Flow("flow")

    @flow.step(flow.input)
    async def page(value):
        return value

    await execute(database, f"alter database {database_name(database)} set timezone = 'Asia/Tokyo'")
    await work(flow)
    midnight = datetime.combine(TODAY + DAY, datetime.min.time(), UTC)
    for moment in (midnight - timedelta(milliseconds=1), midnight):
        run = await client.start(flow, PAGE, run_id=id_at(moment))
        await run.wait()
    found = await rows(
        database,
        "select tableoid::regclass::text as day, count(*) from pgflow.output_blobs"
        " group by 1 order by 1",
    )
    assert [tuple(row) for row in found] == [
        (f"pgflow.output_blobs_{day:%Y%m%d}", 2) for day in (TODAY, TODAY + DAY)
    ]
    days = await rows(database, "select * from pgflow.blob_days()")
    assert [row.day for row in days] == [TODAY + n * DAY for n in range(4)]
    assert [row.upper for row in days[:-1]] == [row.lower for row in days[1:]]


def database_name(database):
    return psycopg.conninfo.conninfo_to_dict(database)["dbname"]


async def test_new_days_do_not_wait_for_a_reader_and_come_with_the_next_call(database):
    make = caller(database)
    await execute(database, *(f"drop table pgflow.{name}" for name in await tables(database, 2)))
    async with await Connection.connect(database) as reader, reader.transaction():
        await reader.execute("select from pgflow.output_blobs")
        with trio.fail_after(5):
            await retention.ensure_days(make)
        assert len(await tables(database, 2)) == 0
    await retention.ensure_days(make)
    assert len(await tables(database, 2)) == 2


async def tables(database, ahead):
    """The partitions of a day to come."""
    day = f"{TODAY + ahead * DAY:%Y%m%d}"
    found = await rows(
        database,
        "select relname from pg_class where relkind = 'r' and relname ~ %s order by relname",
        f"^(output_blobs|blob_chunks)_{day}$",
    )
    return [row.relname for row in found]


# What prune says and does


async def test_a_dry_run_deletes_nothing_and_says_what_prune_then_says(client, work, database):
    flow = Flow("flow", keep_output=0)

    @flow.step(flow.input, by_element=True)
    async def page(value):
        return [value, value + "!"]

    add_days(database, 30, 29)
    fill(database, 30, 20)
    fill(database, 15, 20)  # in the default partition
    await work(flow)
    runs = await client.start_many(flow, [PAGE] * 3)
    for run in runs:
        await run.wait()
    await end_before(database, 30 * DAY, runs[0].id)
    older_than = ends()
    make = caller(database)
    said = await retention.prunable(make, older_than)
    assert said == await retention.prunable(make, older_than)
    assert await count(database, "pgflow.runs") == 43
    assert said.forgotten == 3 * 4
    assert said == await retention.prune(make, older_than)
    assert (said.days, said.runs, said.messages) == ([past(30), past(29)], 40, 40)
    assert await retention.prune(make, older_than) == Pruned()


async def test_two_prunes_at_once_delete_everything_once(database):
    add_days(database, 30, 29)
    for day in (30, 29, 28):
        fill(database, day, 1500)
    whole = await retention.prunable(caller(database), ends())
    halves = [Pruned(), Pruned()]
    with trio.fail_after(50):
        async with trio.open_nursery() as nursery:
            for half in halves:
                nursery.start_soon(retention.prune, caller(database), ends(), half)
    assert sum(half.runs for half in halves) == 4500
    assert sum(half.blobs for half in halves) == 4500
    assert sum(half.bytes for half in halves) == whole.bytes
    assert sum(half.messages for half in halves) == 4500
    assert sorted(halves[0].days + halves[1].days) == [past(30), past(29)]
    assert not await faults(database)


async def test_an_age_of_days_is_counted_from_midnight_for_those_who_prune_all_the_time(database):
    make = caller(database)
    midnight = datetime.combine(datetime.now(UTC), datetime.min.time(), UTC)
    assert await retention.cutoff(make, WEEK, whole_days=True) == midnight - WEEK
    for age, whole_days in ((WEEK, False), (timedelta(hours=1), True)):
        found = await retention.cutoff(make, age, whole_days=whole_days)
        assert abs(found - ends(age)) < timedelta(seconds=10)


@pytest.mark.parametrize("years", [60, 99, 5000])
async def test_an_age_that_began_before_1970_takes_nothing(database, years):
    make = caller(database)
    add_days(database, 30)
    fill(database, 30, 10)
    older_than = await retention.cutoff(make, timedelta(days=365 * years))
    for pruned in (
        await retention.prunable(make, older_than),
        await retention.prune(make, older_than),
    ):
        assert (pruned.days, pruned.runs) == ([], 0)


async def test_a_worker_deletes_old_runs_by_itself(work, database):
    add_days(database, 30)
    fill(database, 30, 10)
    flow = Flow("flow")
    flow.step()(idle)
    await work(flow, settings=Settings(check_interval=0.03, keep_runs=WEEK))

    async def are_gone():
        return not await count(database, "pgflow.runs")

    await until(are_gone)


async def idle():
    return None


async def test_a_day_in_use_keeps_a_worker_from_nothing_else(client, work, database):
    add_days(database, 30)
    fill(database, 30, 10)
    flow = Flow("flow", keep_output=0)

    @flow.step()
    async def page():
        return PAGE

    async with await Connection.connect(database) as reader, reader.transaction():
        await reader.execute("select from pgflow.output_blobs")
        await work(flow, settings=Settings(check_interval=0.03, keep_runs=WEEK))
        for _ in range(2):
            run = await client.start(flow, None)
            await run.wait()
            await until_forgotten(database, run, "page")
        assert await count(database, "pgflow.runs") == 12

    async def are_gone():
        return await count(database, "pgflow.runs") == 2

    await until(are_gone)


async def test_to_make_room_changes_no_setting_of_the_transaction_it_is_part_of(database):
    async with await Connection.connect(database) as connection, connection.transaction():
        await connection.execute("set local lock_timeout = '7s'")
        await connection.execute("select pgflow.ensure_blob_days(10)")
        assert await scalar(connection, "select current_setting('lock_timeout')") == "7s"
