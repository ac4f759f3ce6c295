"""PgBouncer between workers, clients and the server: mostly in transaction mode."""

from uuid import uuid4

import psycopg
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgflow_events import Settings, Worker, connect
from pgflow_events.core.summaries import summarize_runs
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.listener import Listener

from ...parts.liveness_scenes import whole
from ...parts.observing import logged, rows
from ..parts.pooler import SESSIONS, TRANSACTIONS, pooler
from ..parts.soundness import assert_sound
from ..parts.victim import PAGE, Rescuer, pages, printed

CONFIGURATIONS = {
    "as it comes": TRANSACTIONS,
    "with options ignored": f"{TRANSACTIONS}ignore_startup_parameters = options",
}
# Of the sessions that the pooler lends: none may keep anything for its next client.
LEFT_BEHIND = """
select l.locktype from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.database = (
  select oid from pg_database where datname = current_database()
)
"""
HOUR = 3600
WRONG = {
    "database": {"dbname": "nowhere"},
    "user": {"user": "nobody_at_all"},
    "password": {"password": "wrong"},
}


@pytest.fixture(params=list(CONFIGURATIONS))
def pooled(own_database, request):
    """The way to the test's database through PgBouncer."""
    with pooler(own_database, CONFIGURATIONS[request.param]) as dsn:
        yield dsn


async def note(_):
    pass


async def complete(client, runs: int = 40, rounds: int = 5) -> None:
    """Start runs, several times, and see them complete."""
    for _ in range(rounds):
        started = await client.start_many("pages", [None] * runs)
        for run in started:
            assert await run.result() == {"length": len(PAGE)}


async def test_with_a_dsn_to_listen_at_all_is_as_without_a_pooler(
    pooled, own_database, nursery, caplog
):
    settings = Settings(listen_dsn=own_database, check_interval=HOUR, grace=HOUR, cache_budget=0)
    workers = [Worker([pages(note)], pooled, settings=settings) for _ in range(3)]
    for worker in workers:
        await nursery.start(worker.run)
    await whole(own_database, *workers)
    async with connect(pooled, listen_dsn=own_database) as client:
        with trio.fail_after(40):
            await complete(client)
    assert caplog.text == ""
    await assert_sound(own_database)


async def test_without_it_worker_and_client_say_so_poll_and_do_all(
    pooled, own_database, nursery, caplog
):
    settings = Settings(poll_interval=0.2, check_interval=HOUR, grace=HOUR, cache_budget=0)
    for _ in range(3):
        await nursery.start(Worker([pages(note)], pooled, settings=settings).run)
    await logged(caplog, "notifications do not arrive: claiming every 0.2 s")
    async with connect(pooled) as client:
        await complete(client, rounds=2)
    assert caplog.text.count("will not notice each other's deaths") == 3
    assert caplog.text.count("notifications do not arrive") <= 3
    assert await rows(own_database, LEFT_BEHIND) == []
    await assert_sound(own_database)


async def test_a_worker_that_is_killed_behind_it_is_noticed(pooled, own_database, victim, nursery):
    await kill_and_rescue(pooled, own_database, victim, nursery)


async def test_one_that_lends_sessions_will_do_to_listen_at(own_database, victim, nursery):
    with pooler(own_database, SESSIONS) as pooled:
        await kill_and_rescue(pooled, pooled, victim, nursery)


async def kill_and_rescue(pooled: str, listen_dsn: str, victim, nursery: trio.Nursery) -> None:
    """Kill a worker, and see that another one notices."""
    rescuer = Rescuer(pooled, listen_dsn=listen_dsn)
    await rescuer.define()
    async with connect(pooled, listen_dsn=listen_dsn) as client:
        run = await client.start("pages", None)
        process = victim(pooled, "hang page", "600", listen_dsn)
        await printed(process, "page 1")
        await nursery.start(rescuer.run)
        await whole(pooled)
        process.kill()
        with trio.fail_after(20):
            assert await run.result() == {"length": len(PAGE)}
    assert rescuer.begun == ["page 2", "length 1"]
    await assert_sound(pooled)


@pytest.mark.parametrize("auth", ["md5", "scram-sha-256", "plain"])
@pytest.mark.parametrize("wrong", list(WRONG))
async def test_what_it_refuses_for_good_ends_the_start(own_database, wrong, auth):
    settings = f"{TRANSACTIONS}auth_type = {auth}\n"
    with pooler(own_database, settings, password="right") as pooled:
        await ends(make_conninfo(pooled, **WRONG[wrong]))


async def test_a_database_that_it_knows_and_the_server_does_not_ends_the_start(own_database):
    with pooler(own_database, f"{TRANSACTIONS}server_login_retry = 1\n") as pooled:
        await ends(make_conninfo(pooled, dbname="gone"))


async def test_a_setting_that_it_does_not_take_ends_the_start(own_database, monkeypatch):
    with pooler(own_database) as pooled:
        monkeypatch.setenv("PGGEQO", "off")
        await ends(pooled)


async def ends(dsn: str) -> None:
    """A worker, a client and a listener give up, and say why."""
    with trio.fail_after(20):
        with pytest.raises(psycopg.OperationalError):
            await Worker([pages(note)], dsn).run()
        with pytest.raises(psycopg.OperationalError):
            async with connect(dsn) as client:
                await client.find(uuid4())
        with pytest.raises(psycopg.OperationalError):
            await Listener(dsn, [], print, print).run()


async def set_for(own_database: str, name: str, value: str) -> None:
    """Set it for the database."""
    database = conninfo_to_dict(own_database)["dbname"]
    with psycopg.connect(own_database, autocommit=True) as connection:
        connection.execute(f"alter database {database} set {name} = {value}")


async def test_a_style_that_its_sessions_have_is_ours_for_us_and_theirs_for_others(
    own_database, nursery
):
    await set_for(own_database, "datestyle", "'SQL, DMY'")
    await set_for(own_database, "standard_conforming_strings", "off")
    with pooler(own_database) as pooled:
        async with await Connection.connect(pooled) as connection:
            await nursery.start(Worker([pages(note)], pooled).run)
            async with connect(pooled) as client:
                await complete(client, rounds=1)
            assert len(await summarize_runs(connection)) == 20
            with psycopg.connect(pooled, autocommit=True) as other:
                styles = {other.execute("show datestyle").fetchone() for _ in range(10)}
        assert styles == {("SQL, DMY",)}
    await assert_sound(own_database)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("array_nulls", "off"),
        ("default_transaction_isolation", "serializable"),
        ("exit_on_error", "on"),
        ("restrict_nonsystem_relation_kind", "view"),
    ],
)
async def test_what_cannot_be_set_through_it_is_asked_for(own_database, name, value):
    await set_for(own_database, name, f"'{value}'")
    with pooler(own_database) as pooled:
        with pytest.raises(psycopg.OperationalError, match=f"{name} = '?[a-z ]*'?.*alter role"):
            async with await Connection.connect(pooled):
                pass
        await ends(pooled)


async def test_options_of_the_environment_are_kept_from_it(own_database, monkeypatch):
    with pooler(own_database) as pooled:
        monkeypatch.setenv("PGOPTIONS", "-c work_mem=8MB")
        async with await Connection.connect(pooled) as connection:
            assert connection.is_pooled
