"""A database that is migrated while workers and clients use it."""

import shutil

import pytest
import trio

from pgflow_events import Worker, migrations
from pgflow_events.errors import DatabaseTooNew
from pgflow_events.migrations import migrate_now

from ..integration.load import Load
from ..integration.observing import rows
from .soundness import assert_sound

NEXT = """
alter table pgflow.runs add column weight integer not null default 1;
alter table pgflow.step_tasks add column weight integer not null default 1;
alter table pgflow.output_blobs add column weight integer;
"""


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
    database, load, client, caplog, *, tmp_path, monkeypatch
):
    newer = tmp_path / "sql"
    shutil.copytree(migrations.sql_folder(), newer)
    (newer / "migrations" / "9999_weights.sql").write_text(NEXT)
    for function in (newer / "functions").glob("*.sql"):
        function.write_text(function.read_text().replace("\nas $$\n", "\nas $$\n-- newer\n"))

    async def trouble() -> None:
        await load.reach(60)
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "sql_folder", lambda: newer)
            assert await trio.to_thread.run_sync(migrate_now, database) != []

    await load.complete(client, database, trouble)
    assert set(load.attempts.values()) == {1}
    assert "cannot" not in caplog.text
    assert await rows(database, "select from pgflow.step_tasks where weight <> 1") == []
    with pytest.raises(DatabaseTooNew):
        await Worker([load.flow], database).run()
    await assert_sound(database)
