"""A database that is migrated while workers and clients use it."""

import shutil
from functools import partial

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo

from pgflow_events import Worker
from pgflow_events.errors import DatabaseTooNew
from pgflow_events.schema import sql_files as files
from pgflow_events.schema.migrations import migrate_now

from ...parts.load import Load
from ...parts.observing import rows, until
from ..parts.soundness import assert_sound

WAITS = "select from pg_locks where not granted and relation = 'pgflow.output_blobs'::regclass"
NEXT = """
alter table pgflow.runs add column weight integer not null default 1;
alter table pgflow.step_tasks add column weight integer not null default 1;
alter table pgflow.output_blobs add column weight integer;
"""


@pytest.fixture
def newer(tmp_path):
    """The SQL of a release to come."""
    folder = tmp_path / "sql"
    shutil.copytree(files.sql_folder(), folder)
    (folder / "migrations" / "9999_weights.sql").write_text(NEXT)
    for function in (folder / "functions").rglob("*.sql"):
        function.write_text(function.read_text().replace("\nas $$\n", "\nas $$\n-- newer\n"))
    return folder


@pytest.fixture
async def load(database, nursery):
    """Runs, and two workers of this release."""
    load = Load("flow", 60)
    for _ in range(2):
        await nursery.start(Worker([load.flow], database, hooks=()).run)
    return load


async def test_functions_that_are_replaced_under_load_fail_and_lose_nothing(
    database, load, client, caplog
):
    async def trouble() -> None:
        for attempts in range(20, 180, 40):
            await load.reach(attempts)
            await trio.to_thread.run_sync(migrate_now, database)

    await load.complete(client, database, trouble)
    assert set(load.attempts.values()) == {1}
    assert "cannot" not in caplog.text
    await assert_sound(database)


async def test_workers_go_on_while_a_newer_release_migrates_and_none_starts_after_it(
    database, load, client, caplog, *, newer, monkeypatch
):
    async def trouble() -> None:
        await load.reach(60)
        with monkeypatch.context() as patch:
            patch.setattr(files, "sql_folder", lambda: newer)
            assert await trio.to_thread.run_sync(migrate_now, database) != []

    await load.complete(client, database, trouble)
    assert set(load.attempts.values()) == {1}
    assert "cannot" not in caplog.text
    assert await rows(database, "select from pgflow.step_tasks where weight <> 1") == []
    with pytest.raises(DatabaseTooNew):
        await Worker([load.flow], database).run()
    await assert_sound(database)


async def test_a_migration_that_a_worker_is_in_the_way_of_is_made_again(
    database, newer, monkeypatch, nursery
):
    monkeypatch.setattr(files, "sql_folder", lambda: newer)
    # The server looks for deadlocks once, when the first of them has waited for so long.
    hasty = make_conninfo(database, options="-c deadlock_timeout=2s")
    with psycopg.connect(database) as worker:
        worker.execute("set deadlock_timeout = '1h'")
        worker.execute("lock table pgflow.output_blobs in row exclusive mode")
        migrated = trio.Event()

        async def migrate() -> None:
            await trio.to_thread.run_sync(migrate_now, hasty)
            migrated.set()

        nursery.start_soon(migrate)
        await until(partial(waits, database))
        lock = "lock table pgflow.runs in row share mode"
        await trio.to_thread.run_sync(worker.execute, lock)
        assert not migrated.is_set()
    await migrated.wait()


async def waits(dsn: str) -> bool:
    """Whether somebody waits for the table of blobs."""
    return bool(await rows(dsn, WAITS))
