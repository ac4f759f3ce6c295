"""A server with logins that are no superusers, and databases whose owner is none either."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import namedtuple_row
from psycopg.sql import SQL, Identifier

from pgflow_events.schema.migrations import migrate_now

from ...conftest import POSTGRES_15, absent
from .own_server import OwnServer, own_server

LOGINS = """
create role olga login createrole; -- the owner of the databases
create role wanda login;
create role clio login;
create role otto login;
create role paul login; -- nobody
create role pgflow_worker;
create role pgflow_client;
create role pgflow_observer;
grant pgflow_worker to wanda;
grant pgflow_client to clio;
grant pgflow_observer to otto;
"""


VERSIONS = ["15", "18"]


@contextmanager
def server_with_logins(version: str = "18") -> Iterator[OwnServer]:
    """A server where olga may own databases, and each role has a login of its own."""
    if version == "15" and not POSTGRES_15.exists():
        absent("15")
    with own_server(binaries=POSTGRES_15 if version == "15" else None) as server:
        execute(server.dsn, LOGINS)
        yield server


SECRET = "the payload of somebody else"
RUN_ID = "00000000-0000-7000-8000-000000000001"
ONE_RUN = f"""
select pgflow.create_flow('f');
select pgflow.add_step('f', 'a');
select pgflow.start_flows('f', array[to_jsonb('{SECRET}'::text)], array['{RUN_ID}'::uuid]);
select pgflow.poll_for_tasks('f', 1, 1, 0);
select pgflow.complete_task('{RUN_ID}', 'a', 0, to_jsonb(repeat('{SECRET}', 1000)));
insert into pgflow.blob_chunks (blob_id, seq, content) values ('{RUN_ID}', 0, '{SECRET}');
insert into pgflow.blob_dictionaries (flow_slug, step_slug, content, samples)
values ('f', 'a', '{SECRET}', 1);
insert into pgflow.worker_seats (worker_id, seat, flow_slugs, host, pid)
values ('{RUN_ID}', 0, array['f'], 'localhost', 1);
"""


@contextmanager
def owned_database(server: OwnServer) -> Iterator[str]:
    """The dsn of an empty database of olga's, dropped afterwards."""
    name = Identifier(f"test_{uuid.uuid4().hex}")
    create = SQL("create database {} owner olga template template0 encoding 'UTF8'")
    execute(server.dsn, create.format(name))
    try:
        yield make_conninfo(server.dsn, dbname=name.as_string()[1:-1], user="olga")
    finally:
        execute(server.dsn, SQL("drop database {} with (force)").format(name))


@contextmanager
def guarded_database(server: OwnServer) -> Iterator[str]:
    """The same, migrated with roles."""
    with owned_database(server) as dsn:
        migrate_now(dsn, roles=True)
        yield dsn


def run_once(dsn: str) -> None:
    """Complete a run of a flow `f` whose input and output are secret; its output is a blob."""
    execute(dsn, ONE_RUN)


def login(dsn: str, user: str) -> str:
    """The same database, as somebody else."""
    return make_conninfo(dsn, user=user)


def execute(dsn: str, statement: Any, *parameters: object) -> list[Any]:
    """Execute a statement on a connection of its own; the rows, if there are any."""
    with psycopg.connect(dsn, autocommit=True, row_factory=namedtuple_row) as connection:
        cursor = connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []
