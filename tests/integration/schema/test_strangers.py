"""Schemas and roles of our names that belong to another program."""

import re

import pytest

from pgflow_events.cli.doctor.checks import examine
from pgflow_events.errors import MigrationError
from pgflow_events.schema.migrations import migrate_now

from ...parts.servers.logins import execute, login, owned_database, server_with_logins
from .test_catalog import found
from .test_migrations import check, query

SUPABASE = """
create schema pgflow;
create table pgflow.flows (flow_slug text primary key);
create table pgflow.workers (worker_id uuid primary key, queue_name text not null);
create table pgflow.worker_functions (function_name text primary key);
create function pgflow.start_flow(flow_slug text, input jsonb) returns void language sql as '';
"""
OTHER = "the schema {} of this database belongs to another program (owner "
RENAME = "use another database, or rename that schema (`alter schema {} rename to ...`)"
# What is there, and what is said of it.
FOREIGN = {
    "pgflow of Supabase": (SUPABASE, "the other pgflow, the one for Supabase (owner "),
    "a table": ("create schema pgflow create table flows (id integer)", OTHER.format("pgflow")),
    "a view": ("create schema pgflow create view runs as select 1 as n", RENAME.format("pgflow")),
    "a sequence": ("create schema pgflow create sequence ids", "it holds ids)"),
    "a function": (
        "create schema pgflow; create function pgflow.now() returns int language sql return 1",
        "it holds now)",
    ),
    "a type": ("create schema pgflow; create type pgflow.mood as enum ('glad')", "it holds mood)"),
    "many tables": (
        "create schema pgflow; "
        + "; ".join(f"create table pgflow.t{n} (n integer)" for n in range(9)),
        "it holds t0, t1, t2, t3, t4, ...)",
    ),
    "a table called as ours": (
        "create schema pgflow; create table pgflow.schema_files (id integer)",
        "it holds schema_files)",
    ),
    "pgflow_queues, empty": ("create schema pgflow_queues", "it holds nothing)"),
    "pgflow_queues": (
        "create schema pgflow_queues; create table pgflow_queues.jobs (id integer)",
        RENAME.format("pgflow_queues"),
    ),
    "pgmq": (
        "create schema pgmq; create table pgmq.jobs (id integer)",
        OTHER.format("pgmq"),
    ),
    "pgmq with such a table": (
        "create schema pgmq; create table pgmq.meta (id integer)",
        RENAME.format("pgmq"),
    ),
}
SCHEMAS = """
select n.nspname, c.relname from pg_namespace n left join pg_class c on c.relnamespace = n.oid
where n.nspname ~ '^pg(flow|mq)' order by 1, 2
"""


@pytest.mark.parametrize(("made", "said"), FOREIGN.values(), ids=FOREIGN)
def test_another_programs_schema_is_refused_by_a_message_that_says_what_to_do(
    empty_database, made, said
):
    query(empty_database, made)
    before = query(empty_database, SCHEMAS)
    with pytest.raises(MigrationError) as refused:
        migrate_now(empty_database)
    assert said in str(refused.value)
    assert "use another database" in str(refused.value)
    assert query(empty_database, SCHEMAS) == before


@pytest.mark.parametrize("name", ["pgflow", "pgmq"])
def test_an_empty_schema_that_was_made_for_us_is_used(empty_database, name):
    query(empty_database, f"create schema {name}")
    assert migrate_now(empty_database) != []


@pytest.mark.parametrize("loss", ["drop table", "truncate"])
def test_a_database_that_has_lost_the_record_of_its_tables_is_refused(database, loss):
    query(database, f"{loss} pgflow.schema_files")
    with pytest.raises(MigrationError, match=r"pgflow\.schema_files.* is lost or empty.*a backup"):
        migrate_now(database)


async def test_a_worker_says_whose_schema_it_found(empty_database):
    query(empty_database, "create schema pgflow; create table pgflow.schema_files (id integer)")
    with pytest.raises(MigrationError, match=r"belongs to another program.*use another database"):
        await check(empty_database)


@pytest.mark.parametrize("loss", ["drop table", "truncate"])
async def test_where_a_migration_would_refuse_a_database_nobody_advises_it(database, loss):
    query(database, f"{loss} pgflow.schema_files")
    with pytest.raises(MigrationError, match=r"pgflow\.schema_files.* is lost or empty"):
        await check(database)


def test_after_a_dump_without_data_the_advice_leads_to_a_whole_database(database):
    query(database, "select pgflow.create_flow('f'), pgflow.add_step('f', 'a')")
    tables = query(
        database,
        "select string_agg(relid::regclass::text, ', ') from pg_stat_user_tables"
        " where schemaname in ('pgflow', 'pgmq')",
    )
    query(database, f"truncate {tables[0][0]} cascade")
    with pytest.raises(MigrationError) as refused:
        migrate_now(database)
    (drop,) = re.findall("`(drop .*?)`", str(refused.value))
    query(database, drop)
    assert migrate_now(database) != []
    query(database, "select pgflow.create_flow('f'), pgflow.add_step('f', 'a')")
    query(database, "select pgflow.start_flow('f', '1')")
    assert len(query(database, "select 1 from pgflow.poll_for_tasks('f', 1, 1, 0)")) == 1


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("drop table pgmq.meta cascade", "pgmq.meta is lost: restore it from a backup"),
        (
            "drop schema pgmq cascade; create schema pgmq; create table pgmq.jobs (id integer)",
            "the schema pgmq of this database belongs to another program",
        ),
    ],
)
async def test_the_doctor_advises_no_migration_that_would_refuse_this_pgmq(database, made, said):
    query(database, made)
    (found,) = [f for f in await examine(database, database) if f.check == "pgmq"]
    assert found.status == "failed"
    assert found.found.startswith(said)


def test_a_pgmq_that_has_lost_its_list_of_queues_is_not_called_another_programs(database):
    query(database, "drop table pgmq.meta cascade")
    with pytest.raises(MigrationError, match=r"pgmq\.meta is lost: restore it from a backup"):
        migrate_now(database)


@pytest.fixture(scope="module")
def cluster():
    with server_with_logins() as server:
        yield server


@pytest.mark.parametrize(
    "attribute", ["login", "superuser", "createrole", "createdb", "replication", "bypassrls"]
)
@pytest.mark.parametrize("role", ["pgflow_worker", "pgflow_client", "pgflow_observer"])
def test_a_role_that_may_more_than_a_group_is_not_taken_for_ours(cluster, role, attribute):
    with owned_database(cluster) as dsn:
        execute(cluster.dsn, f"alter role {role} {attribute}")
        try:
            with pytest.raises(MigrationError) as refused:
                migrate_now(dsn, roles=True)
        finally:
            execute(cluster.dsn, f"alter role {role} no{attribute}")
        assert f"the role {role} exists already, and has more than it needs ({attribute})" in str(
            refused.value
        )
        assert f"`alter role {role} no{attribute}`" in str(refused.value)
        assert execute(dsn, "select to_regnamespace('pgflow') as schema") == [(None,)]


def test_who_lets_a_role_of_ours_log_in_later_can_go_on_migrating(cluster):
    with owned_database(cluster) as dsn:
        migrate_now(dsn, roles=True)
        execute(cluster.dsn, "alter role pgflow_worker login")
        try:
            assert migrate_now(dsn) == []
            assert execute(login(dsn, "pgflow_worker"), "select 1 as one") == [(1,)]
        finally:
            execute(cluster.dsn, "alter role pgflow_worker nologin")


def test_nothing_is_missing_where_the_roles_are(cluster):
    with owned_database(cluster) as dsn:
        migrate_now(dsn, roles=True)
        assert found(dsn) == []
        execute(dsn, "drop trigger make_queue on pgflow.flows")
        assert found(dsn) == [
            "the trigger make_queue on flows is lost or disabled: run `pgflow-events migrate`"
        ]
