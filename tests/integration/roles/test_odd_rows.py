"""What a worker may write into rows, however odd, is borne by all who read them."""

from collections.abc import Iterator
from uuid import UUID

import pytest
from click.testing import CliRunner

from blobstore.postgres.ids import new_blob_id
from pgflow_events import Flow, Settings, Worker, connect
from pgflow_events.cli import commands

from ...parts.attacks.hostile import ALL, offences
from ...parts.observing import until
from ...parts.servers.logins import VERSIONS, execute, guarded_database, login, server_with_logins
from ...parts.servers.own_server import OwnServer

FLOW = "select pgflow.create_flow('f'), pgflow.add_step('f', 'a')"
RUN = """
select pgflow.start_flows('f', array[to_jsonb(repeat('x', 9000))], array['{run}'::uuid]);
select pgflow.poll_for_tasks('f', 1, 1, 0);
select pgflow.complete_task('{run}', 'a', 0, to_jsonb(repeat('y', 9000)));
"""
TIMES = ("infinity", "-infinity", "4713-01-01 BC", "294276-12-31", "0001-01-01 23:00 BC")
LARGEST = 2**63 - 1
BLOB = (
    "insert into pgflow.output_blobs"
    " (id, run_id, step_slug, kind, codec, content, raw_size, stored_size, sha256, {more})"
    " values ('{{blob}}', '{{run}}', 'a', 'text', 'none', 'x', {size}, {size}, '\\x01', {values})"
)
# By a worker's login; {run} is another run each time, {blob} an id for a blob of it.
ODD = [
    *(
        f"update pgflow.{table} set {column} = '{time}' {more} where run_id = '{{run}}'"
        for table, column, more in (
            ("runs", "completed_at", ""),
            ("runs", "failed_at", ", status = 'failed', completed_at = null"),
            ("step_tasks", "queued_at", ""),
            ("step_tasks", "started_at", ", status = 'queued'"),
            ("step_tasks", "completed_at", ""),
            ("step_states", "started_at", ""),
        )
        for time in TIMES
    ),
    *(
        BLOB.format(more="created_at, expires_at", size=LARGEST, values=f"'{time}', '{time}'")
        for time in TIMES
    ),
    *(
        BLOB.format(more="created_at", size=1, values=f"'{time}'").replace("'\\x01'", "null")
        for time in TIMES
    ),
    BLOB.format(more="elements", size=6, values="array[array['{blob}', '{run}']]::uuid[]").replace(
        "'text'", "'list'"
    ),
    *(
        f"insert into pgmq.q_f (vt, enqueued_at, message) values ('{time}', '{time}',"
        " jsonb_build_object("
        "'flow_slug', 'f', 'run_id', '{run}', 'step_slug', 'a', 'task_index', 0))"
        for time in TIMES
    ),
    """
    insert into pgmq.q_f (vt, message) values
    (now(), null), (now(), '[1]'),
    (now(), '{{"run_id": 1, "flow_slug": [], "step_slug": 2, "task_index": {{}}}}')
    """,
    """
    insert into pgmq.a_f (msg_id, vt, archived_at, message) values
    (-1, '-infinity', 'infinity', '{{"run_id": 1}}'),
    (9223372036854775807, now(), '4713-01-01 BC', null)
    """,
    *(
        f"update pgflow.runs set output_blobs_refs = '{refs}' where run_id = '{{run}}'"
        for refs in ('{{"a": "no id"}}', "[1, 2]", "7")
    ),
    "update pgflow.runs set output = '7', remaining_steps = 2147483647 where run_id = '{run}'",
    """
    update pgflow.step_tasks set attempts_count = 2147483647, message_id = -1,
    error_message = {all}, status = 'failed' where run_id = '{run}'
    """,
    "update pgflow.step_tasks set step_slug = {all}, flow_slug = {all} where run_id = '{run}'",
    f"update pgflow.step_tasks set input_bytes = {LARGEST} where run_id = '{{run}}'",
    "update pgflow.step_states set step_slug = {all}, remaining_deps = 7 where run_id = '{run}'",
    """
    update pgflow.flows set opt_timeout = 2147483647, opt_base_delay = 2147483647,
    opt_max_attempts = 2147483647, opt_keep_output = 2147483647
    """,
    "update pgflow.steps set opt_loads = array[array[null, {all}]], opt_timeout = 2147483647",
]
# A seat each.
SEATS = [
    *(f"connected_at = '{time}'" for time in TIMES),
    "host = {all} || repeat('x', 100000), pid = -2147483648",
    "flow_slugs = array[array['f', {all}]]",
    "flow_slugs = array[null, {all}]",
    "flow_slugs = '[-5:-4]={{f,g}}'",
    "flow_slugs = array(select 'f' || n from generate_series(1, 50000) n)",
    f"seat = {-LARGEST}",
]
SEAT = (
    "insert into pgflow.worker_seats (worker_id, seat, flow_slugs, host, pid)"
    " values ('{run}', 0, '{{f}}', 'here', 1);"
    " update pgflow.worker_seats set {change} where worker_id = '{run}'"
)
READING = [["doctor"], ["runs", "--limit", "1000"], ["blob", "stat"]]
OWN = [
    ["blob", "check"],
    ["blob", "check", "--deep"],
    ["prune", "--older-than", "1h", "--dry-run"],
    ["migrate"],
    ["prune", "--older-than", "1s"],
]


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[OwnServer]:
    with server_with_logins(request.param) as server:
        yield server


def run_id(number: int) -> UUID:
    return UUID(f"00000000-0000-7000-8000-{number:012}")


@pytest.fixture
def odd(server: OwnServer) -> Iterator[str]:
    """A database of olga's in which wanda has written all of it."""
    with guarded_database(server) as dsn:
        runs = [run_id(number) for number in range(len(ODD) + len(SEATS))]
        execute(dsn, FLOW + ";" + "".join(RUN.format(run=run) for run in runs))
        quoted = "'" + ALL.replace("\0", "").replace("'", "''") + "'"
        seats = [SEAT.replace("{change}", change) for change in SEATS]
        statements = [
            statement.format(run=run, blob=new_blob_id(run), all=quoted)
            for run, statement in zip(runs, [*ODD, *seats], strict=True)
        ]
        execute(login(dsn, "wanda"), ";".join(statements))
        yield dsn


def fault(command: list[str], dsn: str) -> str | None:
    """What is wrong with the answer of a command."""
    result = CliRunner().invoke(commands, [*command, "--dsn", dsn])
    if result.exception and not isinstance(result.exception, SystemExit):
        return repr(result.exception)
    if offences(result.output, keep="\n\t"):
        return "a terminal would obey it"
    # What is wrong with rows is theirs to say.
    if result.exit_code and command[0] != "doctor" and command[:2] != ["blob", "check"]:
        return result.output
    if "cannot be checked" in result.output or "error: " in result.output:
        return result.output
    return None


def test_all_commands_bear_what_a_worker_may_write(odd):
    asked = [[*command, *more] for command in READING for more in ([], ["--json"])]
    asked += [["show", str(run_id(number))] for number in range(len(ODD))]
    called = [("otto", command) for command in asked]
    called += [("clio", command) for command in asked[2:6]]  # it reads no queue
    called += [("olga", command) for command in [*READING, *OWN]]
    found = [(user, command, fault(command, login(odd, user))) for user, command in called]
    assert [said for said in found if said[-1]] == []


@pytest.fixture
def seated(server: OwnServer) -> Iterator[str]:
    """A database of olga's with a flow, and with odd seats of workers that are dead."""
    with guarded_database(server) as dsn:
        execute(dsn, FLOW)
        quoted = "'" + ALL.replace("\0", "").replace("'", "''") + "'"
        seats = [
            SEAT.replace("{change}", change).format(run=run_id(number), all=quoted)
            for number, change in enumerate(SEATS)
        ]
        execute(login(dsn, "wanda"), ";".join(seats))
        yield dsn


async def test_a_peer_buries_whoever_wrote_odd_things_into_its_seat_and_works_on(seated, nursery):
    flow = Flow("f")
    flow.step(flow.input, slug="a")(lambda value: value)
    settings = Settings(grace=0.1, check_interval=0.2)
    await nursery.start(Worker([flow], login(seated, "wanda"), settings=settings).run)

    async def alone() -> bool:
        return len(execute(seated, "select 1 as n from pgflow.worker_seats")) == 1

    await until(alone)
    async with connect(login(seated, "clio")) as client:
        assert await (await client.start(flow, 7)).result() == {"a": 7}
