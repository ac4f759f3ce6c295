"""Whatever the server, the database, the role or the environment sets for our sessions."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL

from pgflow_events.cli.doctor.checks import examine
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.session import FIXED

from ...conftest import POSTGRES_15, absent, migrated_database, new_database
from ...parts.observing import until
from ...parts.servers.own_server import OwnServer, own_server
from ..parts.matrix import (
    BY_USERS,
    Values,
    by_database,
    by_environment,
    culprits,
    escaped,
    named,
    rounds,
    settable,
    written,
)
from ..parts.sql_calls import do_all

pytestmark = pytest.mark.timeout(300)  # each of them makes some dozen databases

FEW = 20
# What a SQL caller says by these is meant: how long it will wait, and that triggers shall not fire.
CALLERS_OWN = {
    "statement_timeout",
    "lock_timeout",
    "transaction_timeout",
    "idle_session_timeout",
    "session_replication_role",
}


def test_with_every_setting_changed_at_once_all_works(any_server):
    settings = settable(any_server.dsn)
    assert len(settings) > 150
    for values in rounds(settings):
        assert culprits(any_server.dsn, values) == {}


def test_with_every_setting_changed_by_the_environment_all_works(
    any_server,
):
    settings = settable(any_server.dsn, BY_USERS)
    assert {"work_mem", "ignore_system_indexes"} <= {setting.name for setting in settings}
    for values in rounds(settings):
        assert culprits(any_server.dsn, values, by_environment) == {}


@pytest.mark.slow_fault
def test_with_each_few_settings_changed_in_turn_all_works(any_server):
    settings = settable(any_server.dsn)
    for first in range(0, len(settings), FEW):
        for values in rounds(settings[first : first + FEW]):
            assert culprits(any_server.dsn, values, by_database) == {}


# Where else somebody may set them, and how that is undone.
PLACES = {
    "server": ("alter system set {} = {}", "alter system reset all"),
    "database": ("alter database postgres set {} = {}", "alter database postgres reset all"),
    "role": ("alter role postgres set {} = {}", "alter role postgres reset all"),
    "role in the database": (
        "alter role postgres in database postgres set {} = {}",
        "alter role postgres in database postgres reset all",
    ),
}
VALUES = """
select array_agg(current_setting(name, true) order by place)
from unnest(%s::text[]) with ordinality as asked (name, place)
"""


@pytest.fixture(scope="module", params=["18", "15"])
def lone_server(request) -> Iterator[OwnServer]:
    """One of this version that no other test uses."""
    if request.param == "15" and not POSTGRES_15.exists():
        absent("15")
    with own_server(binaries=POSTGRES_15 if request.param == "15" else None) as server:
        yield server


def others(dsn: str) -> Values:
    """Another value for each of the settings that are fixed, as far as the server knows them."""
    known = {setting.name: setting for setting in settable(dsn)}
    values = {f.name: known[f.name].others()[0] for f in FIXED if f.name in known}
    assert len(values) >= len(FIXED) - 1
    # A statement of the test itself must end.
    return values | {name: "1h" for name in values if name.endswith("_timeout")}


async def assert_fixed(dsn: str) -> None:
    """All that is fixed has its value, where the server knows it."""
    async with await Connection.connect(dsn) as connection:
        cursor = await connection.execute(VALUES, [[fixed.name for fixed in FIXED]])
        ((found,),) = await cursor.fetchall()
    assert connection.strange == {}
    wanted = [fixed.value for fixed in FIXED]
    values = zip(found, wanted, strict=True)
    assert [right if value is None else value for value, right in values] == wanted


@pytest.mark.parametrize("place", PLACES)
async def test_wherever_a_setting_comes_from_ours_holds(lone_server, place):
    dsn = lone_server.dsn
    write, undo = PLACES[place]
    values = others(dsn)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("load 'plpgsql'")
        try:
            for name, value in values.items():
                admin.execute(SQL(write).format(named(name), written(name, value)))
            admin.execute("select pg_reload_conf()")
            await until_seen(dsn)
            await assert_fixed(dsn)
        finally:
            admin.execute(undo)
            admin.execute("select pg_reload_conf()")


async def until_seen(dsn: str) -> None:
    """Return when a new session begins with another style of dates."""

    async def seen() -> bool:
        with psycopg.connect(dsn) as connection:
            return connection.info.parameter_status("DateStyle") != "ISO, MDY"

    await until(seen)


async def test_what_the_environment_and_the_dsn_set_does_not_change_ours(lone_server, monkeypatch):
    values = others(lone_server.dsn)
    options = " ".join(f"-c {name}={escaped(value)}" for name, value in values.items())
    await assert_fixed(make_conninfo(lone_server.dsn, options=options))
    monkeypatch.setenv("PGOPTIONS", options)
    await assert_fixed(lone_server.dsn)


async def test_what_changes_no_meaning_is_left_to_whoever_sets_it(lone_server):
    options = "-c work_mem=7MB -c synchronous_commit=off -c idle_in_transaction_session_timeout=7s"
    dsn = make_conninfo(lone_server.dsn, options=options)
    names = ["work_mem", "synchronous_commit", "idle_in_transaction_session_timeout"]
    async with await Connection.connect(dsn) as connection:
        cursor = await connection.execute(VALUES, [names])
        assert await cursor.fetchall() == [(["7MB", "off", "7s"],)]


async def test_a_setting_that_a_role_may_not_change_is_told_by_doctor(lone_server):
    with psycopg.connect(lone_server.dsn, autocommit=True) as admin:
        admin.execute("create role plain login")
        admin.execute("alter role plain set session_replication_role = 'replica'")
    dsn = make_conninfo(lone_server.dsn, user="plain")
    findings = {finding.check: finding for finding in await examine(dsn, dsn)}
    assert findings["settings"].status == "failed"
    assert findings["settings"].found == (
        "session_replication_role is replica, and triggers would not fire: let a superuser run"
        " `alter role plain in database postgres set session_replication_role = 'origin'`"
    )


def test_whatever_a_sql_caller_has_set_its_calls_answer_the_same(any_server):
    settings = [s for s in settable(any_server.dsn) if s.name not in CALLERS_OWN]
    with migrated_database(any_server.dsn) as migrated:
        template = conninfo_to_dict(migrated)["dbname"]
        with new_database(any_server.dsn, template) as database:
            right = do_all(database)
        for values in rounds(settings):
            made = new_database(any_server.dsn, template)
            with made as database, by_database(database, values):
                assert do_all(database) == right, values
