"""What the catalogue says of our functions, and what plpgsql_check says of their bodies."""

import os
import re
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import namedtuple_row

from pgflow_events.schema.migrations import sql_files

from ..parts.models.core import Core

CREATES = re.compile(r"^create or replace function (\S+?)\(", re.MULTILINE)
CHECK = """
select format('%s, line %s: %s', p.proname, c.lineno, c.message)
from pg_proc p
join pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
left join pg_trigger t on t.tgfoid = p.oid
cross join lateral plpgsql_check_function_tb(
  p.oid, coalesce(t.tgrelid, 0), newtable => t.tgnewtable, oldtable => t.tgoldtable,
  performance_warnings => true, fatal_errors => false
) c
where p.pronamespace in ('pgflow'::regnamespace, 'pgflow_queues'::regnamespace)
-- The functions of queues are called by names that it cannot know.
and c.message <> 'cannot determinate a result of dynamic SQL'
"""


def functions(core, condition):
    """The functions of our schema of which a condition holds."""
    query = f"""
      select proname from pg_proc
      where pronamespace = 'pgflow'::regnamespace and ({condition})
    """
    return [row.proname for row in core.rows(query)]


@pytest.fixture
def lone(any_database: str) -> Iterator[Core]:
    """The core on a session of its own: the extension harms what its session has called before."""
    with psycopg.connect(any_database, row_factory=namedtuple_row) as connection:
        yield Core(connection)
        connection.rollback()


# The extension comes with Debian's server only.
@pytest.mark.parametrize("server_name", ["server15"], indirect=True)
def test_plpgsql_check_finds_nothing_but_what_is_meant(lone):
    if not lone.rows("select from pg_available_extensions where name = 'plpgsql_check'"):
        required = os.environ.get("PGFLOW_TEST_REQUIRE")
        (pytest.fail if required else pytest.skip)("the extension plpgsql_check is not installed")
    lone.db.execute("create extension plpgsql_check schema public")
    # Some functions are for triggers that exist beside Realtime only, or call pg_cron.
    lone.db.execute(
        """
        create schema realtime;
        create function realtime.send(jsonb, text, text, boolean)
        returns void language sql as 'select';
        create schema cron;
        create function cron.schedule(text, text, text)
        returns bigint language sql as 'select 1';
        """
    )
    lone.db.execute("select pgflow.create_flow('checked')")
    findings = [row[0] for row in lone.rows(CHECK)]
    assert sorted(findings) == [
        'poll_for_tasks, line : unused parameter "vt"',  # the seed's
    ]


def test_every_function_has_an_empty_search_path(core):
    assert functions(core, "not coalesce('search_path=\"\"' = any(proconfig), false)") == []


def test_every_function_that_looks_into_a_growing_table_does_so_by_its_index(core):
    looks = r"prosrc ~ '(from|join|update) pgflow\.(runs|step_|output_|blob_chunks)'"
    by_index = "coalesce('enable_seqscan=off' = any(proconfig), false)"
    # What an operator asks for now and then may read them all.
    seldom = {
        "blob_faults",
        "blob_references",
        "lost_tasks",
        "old_messages",
        "prunable",
        "unused_dictionaries",
    }
    writes = "starts_with(proname, 'make_queue_')"
    assert set(functions(core, f"{looks} and not {by_index} and not {writes}")) <= seldom
    core.flow("a")
    of_queues = core.rows(
        "select proname from pg_proc where pronamespace = 'pgflow_queues'::regnamespace"
        f" and {looks} and not {by_index}"
    )
    assert of_queues == []


def test_no_function_runs_with_the_rights_of_its_owner(core):
    assert functions(core, "prosecdef") == []


def test_every_file_creates_the_one_function_it_is_named_after():
    created = {file.path: CREATES.findall(file.text) for file in sql_files("functions")}
    assert created == {path: [f"pgflow.{path[10:-4]}"] for path in created}


def test_no_function_is_created_by_two_files():
    files = [*sql_files("functions"), *sql_files("triggers")]
    created = [name for file in files for name in CREATES.findall(file.text)]
    assert sorted(created) == sorted(set(created))


def test_every_function_of_the_schema_comes_from_a_file_and_has_one_signature(core):
    files = [*sql_files("functions"), *sql_files("triggers")]
    created = [name for file in files for name in CREATES.findall(file.text)]
    assert sorted(created) == sorted(f"pgflow.{name}" for name in functions(core, "true"))


def test_no_function_names_a_type_of_pgmq(core):
    types = "select oid from pg_type where typnamespace = 'pgmq'::regnamespace"
    assert functions(core, f"prorettype in ({types})") == []
    assert functions(core, f"coalesce(proallargtypes, proargtypes::oid[]) && array({types})") == []


def test_no_column_has_a_type_of_pgmq(core):
    columns = core.rows(
        """
        select attrelid::regclass, attname from pg_attribute
        join pg_class c on c.oid = attrelid and relnamespace = 'pgflow'::regnamespace
        join pg_type t on t.oid = atttypid and typnamespace = 'pgmq'::regnamespace
        """
    )
    assert columns == []


def test_only_keys_and_what_never_changes_are_indexed_so_that_updates_stay_on_their_page(core):
    indexed = core.rows(
        """
        select distinct attname from pg_index i
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
        where i.indrelid in ('pgflow.runs'::regclass, 'pgflow.step_states'::regclass,
          'pgflow.step_tasks'::regclass)
        """
    )
    never_change = {"run_id", "flow_slug", "step_slug", "task_index", "message_id"}
    assert {row.attname for row in indexed} <= never_change
