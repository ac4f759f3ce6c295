"""Supabase's Realtime beside our schema: each migration and each new flow connects the two."""

from psycopg import connect
from psycopg.rows import namedtuple_row

from pgflow_events.schema.migrations import migrate_now

from ...parts.realtime import SENT, STAND_IN, TRIGGERS
from ...parts.servers.logins import execute, guarded_database, login, server_with_logins
from .test_catalog import found


def test_a_migration_connects_realtime_where_it_is(database):
    def triggers():
        with connect(database) as session:
            return [row[0] for row in session.execute(TRIGGERS)]

    migrate_now(database)
    assert triggers() == []
    with connect(database) as session:
        session.execute(STAND_IN)
    for _ in range(2):
        migrate_now(database)
        assert len(triggers()) == 4
    assert found(database) == []


def test_workers_and_clients_need_no_right_to_realtime():
    with server_with_logins() as server, guarded_database(server) as dsn:
        execute(login(dsn, "postgres"), STAND_IN)
        execute(login(dsn, "postgres"), "grant usage on schema realtime to olga")
        execute(login(dsn, "postgres"), "grant insert on realtime.messages to olga")
        execute(login(dsn, "wanda"), "select pgflow.create_flow('f'), pgflow.add_step('f', 'a')")
        assert execute(login(dsn, "postgres"), TRIGGERS) == []
        execute(dsn, "select pgflow.create_flow('f')")
        with connect(login(dsn, "clio"), row_factory=namedtuple_row) as clio:
            run = clio.execute("select run_id from pgflow.start_flow('f', '1')").fetchone()
        assert run
        execute(login(dsn, "wanda"), "select pgflow.complete_task(%s, 'a', 0, '2')", run.run_id)
        sent = execute(login(dsn, "postgres"), SENT)
        assert [row.event for row in sent] == [
            "run:started",
            "step:a:started",
            "step:a:completed",
            "run:completed",
        ]
