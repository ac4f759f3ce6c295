"""What the three roles, and a login without any, try and may not do."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from ...parts.attacks.statements import ATTACKS, CLIENT, NOBODY, OBSERVER, WORKER
from ...parts.servers.logins import (
    SECRET,
    VERSIONS,
    execute,
    guarded_database,
    login,
    run_once,
    server_with_logins,
)


@pytest.fixture(scope="module", params=VERSIONS)
def owned(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of olga's with a run that was completed. Whoever changes it rolls back."""
    with server_with_logins(request.param) as server, guarded_database(server) as dsn:
        execute(server.dsn, "create role rhea login in role pgflow_worker, pgflow_client")
        run_once(dsn)
        execute(login(dsn, "postgres"), "create schema hers authorization rhea")
        execute(dsn, "select pgmq.create('payments')")
        yield dsn


@pytest.fixture(scope="module")
def sessions(owned: str) -> Iterator[Callable[[str], psycopg.Connection]]:
    """A session of each user, for statements that are rolled back."""
    with ExitStack() as stack:

        @cache
        def session(user: str) -> psycopg.Connection:
            return stack.enter_context(psycopg.connect(login(owned, user)))

        yield session


def attempt(session: psycopg.Connection, statement: str) -> psycopg.Error | None:
    """Execute a statement and roll back; the error, if there was one."""
    try:
        session.execute(statement)
    except psycopg.Error as error:
        return error
    finally:
        session.rollback()
    return None


def is_refused(error: psycopg.Error | None) -> bool:
    return isinstance(error, InsufficientPrivilege)


# A case for each of 1,100 statements would cost more than to execute them.
@pytest.mark.parametrize("user", ATTACKS)
def test_each_attack_is_refused(sessions, user):
    session = sessions(user)
    errors = {statement: attempt(session, statement) for statement in ATTACKS[user]}
    assert {tried: error for tried, error in errors.items() if not is_refused(error)} == {}
    assert [tried for tried, error in errors.items() if SECRET[:10] in str(error)] == []


def test_they_are_refused_for_the_lack_of_rights_alone(sessions):
    errors = {statement: attempt(sessions("postgres"), statement) for statement in ATTACKS[NOBODY]}
    assert [tried for tried, error in errors.items() if is_refused(error)] == []


def test_who_grants_what_was_granted_grants_nothing(owned):
    for user in (WORKER, CLIENT, OBSERVER):
        execute(login(owned, user), "grant usage on schema pgflow to paul")
        execute(login(owned, user), "grant select on pgflow.flows to paul")
    with pytest.raises(InsufficientPrivilege):
        execute(login(owned, NOBODY), "select from pgflow.flows")


FINISHED = "select id from pgflow.output_blobs where sha256 is not null limit 1"


@pytest.mark.parametrize(
    "change",
    [
        "select pgflow.finish_blob(id, 0, 1, 1, 'mine', 'mine') from ({}) b",
        "update pgflow.output_blobs set sha256 = 'mine' where id = ({})",
        "update pgflow.output_blobs set preview = 'mine' where id = ({})",
    ],
)
def test_a_finished_blob_stays_as_it_is(sessions, change):
    error = attempt(sessions(WORKER), change.format(FINISHED))
    assert isinstance(error, psycopg.errors.ObjectNotInPrerequisiteState)


@pytest.mark.parametrize("user", [WORKER, "olga", "postgres"])
@pytest.mark.parametrize(
    "define",
    [
        "select pgflow.create_flow('payments')",
        "insert into pgflow.flows (flow_slug) values ('payments')",
        "insert into pgflow.flows (flow_slug) values ('Payments')",
    ],
)
def test_nobody_gets_the_queue_of_another_application_for_a_flow(sessions, user, define):
    error = attempt(sessions(user), define)
    assert isinstance(error, psycopg.errors.DuplicateTable)
    assert "pgmq.q_payments and pgmq.a_payments, which belong to another application" in str(error)


SPIES = """
create function {schema}.spy() returns boolean language plpgsql as
$$ begin raise notice 'a spy runs as %', current_user; return true; end $$;
create domain {schema}.text as pg_catalog.text check ({schema}.spy());
create domain {schema}.uuid as pg_catalog.uuid check ({schema}.spy());
create domain {schema}.date as pg_catalog.date check ({schema}.spy());
create domain {schema}.jsonb as pg_catalog.jsonb check ({schema}.spy());
create domain {schema}.timestamptz as pg_catalog.timestamptz check ({schema}.spy());
create function {schema}.same(pg_catalog.uuid, pg_catalog.uuid) returns boolean language sql
return {schema}.spy();
create operator {schema}.= (
  function = {schema}.same, leftarg = pg_catalog.uuid, rightarg = pg_catalog.uuid
);
create function {schema}.clock_timestamp() returns pg_catalog.timestamptz language plpgsql as
$$ begin perform {schema}.spy(); return pg_catalog.clock_timestamp(); end $$;
create function {schema}.to_regclass(pg_catalog.text) returns regclass language plpgsql as
$$ begin perform {schema}.spy(); return pg_catalog.to_regclass($1); end $$;
"""

INPUT = "'00000000-0000-0000-0000-000000000001'"
STORE_INPUT = f"""
select pgflow.store_input(
  {INPUT}, {INPUT}, 'list', null, 'none', null, null, '{{null}}', 2, 'x', null, '[]'
)
"""
STREAM_INPUT = f"""
select pgflow.open_input({INPUT}, {INPUT}, 'text', null, 'none', null, null, null, 1);
select pgflow.write_input({INPUT}, 0, 'x');
select pgflow.finish_input({INPUT}, 1, 1, 1, 'x', null);
set constraints all immediate
"""
CALLS = [
    "select from pgflow.start_flows('f', array['1', null]::pg_catalog.jsonb[])",
    "select from pgflow.ensure_blob_days(30)",
    "select pgflow.create_flow('g')",
    STORE_INPUT,
    STREAM_INPUT,
    "select pgflow.forget_blobs(1)",
    "delete from pgflow.output_blobs where step_slug <> 'run'",
]


def heard(session: psycopg.Connection, call: str) -> set[str]:
    """What spies say that come before PostgreSQL's own, in a temporary schema and another one."""
    said = set()
    session.add_notice_handler(lambda notice: said.add(notice.message_primary))
    session.execute(SPIES.format(schema="pg_temp") + SPIES.format(schema="hers"))
    session.execute("set search_path = hers, pg_temp, pg_catalog")
    try:
        session.execute(call)
    except psycopg.Error as error:
        said.add(str(error))
    session.rollback()
    return said


@pytest.mark.parametrize("call", CALLS)
def test_types_functions_and_operators_of_the_callers_own_never_run_as_the_owner(owned, call):
    with psycopg.connect(login(owned, "rhea")) as session:
        said = heard(session, call)
    assert "a spy runs as olga" not in said


def test_in_a_function_that_does_not_put_its_temporary_schema_last_they_would(owned):
    with psycopg.connect(login(owned, "olga")) as olga:
        olga.execute(
            "create function pgflow.careless() returns void language plpgsql security definer"
            " set search_path = '' as $$ declare slug text := ''; begin end $$;"
            "grant execute on function pgflow.careless to pgflow_worker"
        )
    with psycopg.connect(login(owned, "rhea")) as session:
        said = heard(session, "select pgflow.careless()")
    execute(owned, "drop function pgflow.careless")
    assert said == {"a spy runs as olga"}


# What the catalogue says


def test_only_these_functions_run_with_the_rights_of_the_owner(owned):
    definers = (
        "select proname from pg_proc where prosecdef and pronamespace = 'pgflow'::regnamespace"
    )
    names = {
        "start_flows",
        "cancel_runs",
        "store_input",
        "open_input",
        "write_input",
        "finish_input",
        "ensure_blob_days",
        "forget_blobs",
        "delete_chunks",
        "send_runs_started",
        "send_runs_ended",
        "send_steps_started",
        "send_steps_changed",
        "refuse_lone_input",
        "make_queue",
    }
    assert {row.proname for row in execute(owned, definers)} == names


def test_every_function_looks_into_temporary_schemas_last(owned):
    careless = """
      select proname from pg_proc where pronamespace = 'pgflow'::regnamespace
      and not coalesce('search_path=pg_catalog, pg_temp' = any(proconfig), false)
    """
    assert execute(owned, careless) == []


def test_everybody_else_has_no_rights(owned):
    public = """
      select p.proname as name
      from pg_proc p cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
      where p.pronamespace = 'pgflow'::regnamespace and a.grantee = 0
      union all
      select c.relname from pg_class c cross join aclexplode(c.relacl) a
      where a.grantee = 0 and (
        c.relnamespace = 'pgflow'::regnamespace
        or c.relnamespace = 'pgmq'::regnamespace and c.relname ~ '^[qa]_'
      )
    """
    assert execute(owned, public) == []


def test_an_observer_reads_no_column_that_could_hold_a_value(owned):
    readable = """
      select format('%s.%s', c.relname, a.attname) as name
      from pg_class c join pg_attribute a on a.attrelid = c.oid
      where
        a.attnum > 0 and not a.attisdropped
        and c.relnamespace = 'pgflow'::regnamespace and c.relkind in ('r', 'p', 'v')
        and (a.atttypid in ('jsonb'::regtype, 'bytea'::regtype) or a.attname = 'preview')
        and has_column_privilege('pgflow_observer', c.oid, a.attnum, 'select')
    """
    assert {row.name for row in execute(owned, readable)} == {
        "runs.output_blobs_refs",  # ids
        "output_blobs.sha256",
        "live_workers.doing",  # counts
        "steps.forbidden_input_pattern",  # as the flow's author wrote it
        "steps.required_input_pattern",
    }


RIGHTS = """
blob_chunks pgflow_client r
blob_chunks pgflow_observer r
blob_chunks pgflow_worker ri
blob_dictionaries pgflow_client r
blob_dictionaries pgflow_observer r
blob_dictionaries pgflow_worker r
blobs pgflow_client r
blobs pgflow_observer r
blobs pgflow_worker r
deps pgflow_client r
deps pgflow_observer r
deps pgflow_worker ri
dropped_days pgflow_observer r
flows pgflow_client r
flows pgflow_observer r
flows pgflow_worker riu
live_workers pgflow_client r
live_workers pgflow_observer r
live_workers pgflow_worker r
map_elements pgflow_worker ri
output_blobs pgflow_client r
output_blobs pgflow_observer r
output_blobs pgflow_worker riud
runs pgflow_client r
runs pgflow_observer r
runs pgflow_worker ru
schema_files pgflow_client r
schema_files pgflow_observer r
schema_files pgflow_worker r
step_states pgflow_client r
step_states pgflow_observer r
step_states pgflow_worker ru
step_tasks pgflow_client r
step_tasks pgflow_observer r
step_tasks pgflow_worker riu
steps pgflow_client r
steps pgflow_observer r
steps pgflow_worker riu
worker_seats pgflow_observer r
worker_seats pgflow_worker riud
worker_functions pgflow_observer r
workers pgflow_observer r
workers pgflow_worker r
"""


def test_each_role_has_these_rights_to_tables_and_no_other(owned):
    rights = """
      select c.relname, r.rolname, concat(
        case when has_any_column_privilege(r.oid, c.oid, 'select') then 'r' end,
        case when has_any_column_privilege(r.oid, c.oid, 'insert') then 'i' end,
        case when has_any_column_privilege(r.oid, c.oid, 'update') then 'u' end,
        case when has_table_privilege(r.oid, c.oid, 'delete') then 'd' end,
        case when has_table_privilege(r.oid, c.oid, 'truncate, trigger, references') then 'more' end
      ) as rights
      from pg_class c cross join pg_roles r
      where c.relnamespace = 'pgflow'::regnamespace and c.relkind in ('r', 'p', 'v')
        and r.rolname ~ '^pgflow_'
    """
    found = {" ".join(row) for row in execute(owned, rights) if row.rights}
    assert found == set(RIGHTS.strip().splitlines())
