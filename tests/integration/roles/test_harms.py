"""Nothing that a login may do reaches a run, a blob, a day or a lock that is not its own."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from blobstore.postgres.ids import new_blob_id, new_id

from ...parts.attacks.harms import CLIENT_HARMS, WORKER_HARMS
from ...parts.servers.logins import VERSIONS, execute, guarded_database, login, server_with_logins

FLOWS = """
select pgflow.create_flow('f');
select pgflow.add_step('f', 'a');
select pgflow.create_flow('short');
update pgflow.flows set opt_keep_output = 0 where flow_slug = 'short';
"""
# A run with a large input, an output, and one that is being written.
VICTIM = """
select from pgflow.start_flows('f', array[to_jsonb(repeat('secret', 2000))], array['{run}'::uuid]);
select pgflow.insert_json_blob('{output}', '{run}', 'a', 0, 'null');
insert into pgflow.output_blobs (id, run_id, step_slug, kind, codec, chunk_size)
values ('{open}', '{run}', 'a', 'bytes', 'zstd', 100);
"""
# All that there is of a run, and of its blobs.
STATE = """
select
  r.input, r.input_blob_id, r.status, r.has_blobs,
  (
    select jsonb_agg(to_jsonb(b) order by b.id) from pgflow.output_blobs b where b.run_id = r.run_id
  ) as blobs,
  (
    select jsonb_agg(to_jsonb(c) order by c.blob_id, c.seq) from pgflow.blob_chunks c
    where c.blob_id between pgflow.first_blob_id(r.run_id) and pgflow.last_blob_id(r.run_id)
  ) as chunks
from pgflow.runs r where r.run_id = %s
"""
LEFT = """
select b.id from pgflow.output_blobs b
where b.step_slug = 'run'
  and not exists (select from pgflow.runs r where r.run_id = b.run_id and r.has_blobs)
"""
PARTITIONS = """
select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'pgflow.output_blobs'::regclass
"""
AHEAD = 5  # days: that one has no partition yet


class Scene:
    """A database of olga's, with flows, and a session of each user."""

    def __init__(self, dsn: str, stack: ExitStack) -> None:
        self._sessions = {
            user: stack.enter_context(psycopg.connect(login(dsn, user), autocommit=True))
            for user in ("olga", "clio", "wanda", "otto")
        }

    def rows(self, statement: str, *parameters: object) -> list[Any]:
        cursor = self._sessions["olga"].execute(statement, parameters or None)  # type: ignore[arg-type]  # no literal
        return cursor.fetchall() if cursor.description else []

    def attack(self, user: str, statements: str) -> psycopg.Error | None:
        """Do all of it in one transaction; the error, if there is one."""
        session = self._sessions[user]
        try:
            with session.transaction():
                session.execute(statements)  # type: ignore[arg-type]  # no literal
        except psycopg.Error as error:
            return error
        return None

    def names(self) -> dict[str, UUID]:
        """What an attack may name, by the names that it has for them."""
        run, mine, day = new_id(), new_id(), day_to_come(AHEAD)
        ids = {name: new_blob_id(run) for name in ("output", "open", "next")}
        ids |= {"run": run, "mine": mine, "mine_blob": new_blob_id(mine)}
        ids |= {"day": day, "day_blob": new_blob_id(day)}
        self.rows(VICTIM.format(**ids))
        ((blob,),) = self.rows("select input_blob_id from pgflow.runs where run_id = %s", run)
        return ids | {"blob": blob}

    def days(self) -> set[str]:
        return {name for (name,) in self.rows(PARTITIONS)}

    def clear(self, days: set[str]) -> None:
        """Leave nothing for the next attack."""
        for table in ("runs", "output_blobs", "blob_chunks"):
            self.rows(f"delete from pgflow.{table}")
        for name in self.days() - days:
            self.rows(
                f"drop table pgflow.{name}, pgflow.{name.replace('output_blobs', 'blob_chunks')}"
            )


def day_to_come(ahead: int) -> UUID:
    """A run's id that says it started on that day."""
    moment = datetime.now(UTC) + timedelta(days=ahead)
    return UUID(int=int(moment.timestamp() * 1000) << 80 | uuid4().int & (1 << 80) - 1)


@pytest.fixture(scope="module", params=VERSIONS)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A scene on each server."""
    with (
        server_with_logins(request.param) as server,
        guarded_database(server) as dsn,
        ExitStack() as stack,
    ):
        execute(dsn, FLOWS)
        yield Scene(dsn, stack)


def harm(scene: Scene, user: str, statements: str) -> list[str]:
    """What became of somebody else's run, and of what all share."""
    known, days = scene.names(), scene.days()
    before = scene.rows(STATE, known["run"])
    scene.attack(user, statements.format(**known))
    # What an owner does now and then; the runs of the attacker are over at some time.
    scene.rows("select pgflow.forget_blobs(1000)")
    scene.rows("delete from pgflow.runs where run_id = %s", known["mine"])
    found = []
    if scene.rows(STATE, known["run"]) != before:
        found.append("a run of somebody else was changed")
    if scene.rows(LEFT):
        found.append("a blob is left behind")
    if len(scene.days() - days) > 32:
        found.append("there are partitions without end")
    scene.rows("select pgflow.ensure_blob_days(%s)", AHEAD)
    if f"output_blobs_{datetime.now(UTC) + timedelta(days=AHEAD):%Y%m%d}" not in scene.days():
        found.append("a day has no partition")
    scene.clear(days)
    return found


@pytest.mark.parametrize("name", CLIENT_HARMS)
def test_a_client_harms_nothing_of_others(scene, name):
    assert harm(scene, "clio", CLIENT_HARMS[name]) == []


@pytest.mark.parametrize("name", WORKER_HARMS)
def test_a_worker_harms_no_input_and_makes_no_tables(scene, name):
    assert harm(scene, "wanda", WORKER_HARMS[name]) == []


@pytest.mark.parametrize("name", [name for name in CLIENT_HARMS if name.startswith("hold")])
def test_a_client_locks_no_row(scene, name):
    days = scene.days()
    error = scene.attack("clio", CLIENT_HARMS[name].format(**scene.names()))
    scene.clear(days)
    assert isinstance(error, psycopg.errors.InsufficientPrivilege)


@pytest.mark.parametrize(
    "elements", ["array['{mine_blob}']", "array['{blob}']", "array['{other}']"]
)
def test_a_client_stores_no_list_that_is_its_own_element_another_runs_or_a_second_one(
    scene, elements
):
    days, known = scene.days(), scene.names()
    known["other"] = new_blob_id(known["mine"])
    first = CLIENT_HARMS["forget by a stored list"].split(";")[0]
    if "other" in elements:  # two lists, one of which names the other
        second = first.replace("{mine_blob}", "{other}").replace("{blob}", "{mine_blob}")
        first = first.replace("'{blob}'", "'{other}'") + ";" + second
    else:
        first = first.replace("array['{blob}']", elements)
    error = scene.attack("clio", first.format(**known))
    scene.clear(days)
    assert isinstance(error, psycopg.errors.InvalidParameterValue), error


ODD_SEATS = {
    "no flow": "array['none']",
    "no name": "array[null]::text[]",
    "no slug": "array['a b; --', '', repeat('x', 100)]",
    "another application's queue": "array['payments']",
    "a table of flows": "array[array['f', 'none'], array['f', 'f']]",
}


@pytest.mark.parametrize("user", ["olga", "clio", "wanda", "otto"])
@pytest.mark.parametrize("name", ODD_SEATS)
def test_the_view_of_workers_shows_the_others_beside_an_odd_row(scene, name, user):
    scene.rows("select pgmq.create('payments')")
    insert = (
        "insert into pgflow.worker_seats (worker_id, seat, flow_slugs, host, pid)"
        f" values (gen_random_uuid(), 0, {ODD_SEATS[name]}, 'here', 1),"
        " (gen_random_uuid(), 1, array['f'], 'here', 2)"
    )
    assert scene.attack("wanda", insert) is None
    error = scene.attack(user, "select flow_slugs, alive from pgflow.live_workers")
    scene.rows("delete from pgflow.worker_seats")
    assert error is None
