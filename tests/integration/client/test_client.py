"""Starting runs, waiting for them, and what they give."""

import pickle
from functools import partial
from uuid import UUID, uuid4

import psycopg
import pytest
import trio

from blobstore.values import codec, contract
from pgflow_events import (
    Flow,
    Misuse,
    PermanentError,
    RunExists,
    RunFailed,
    UnknownFlow,
    UnknownRun,
    UnknownStep,
    connect,
)
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.pool import Pool

from ...parts.observing import counting, execute, rows

PAGE = "<p>" * 10_000
ENDED = "status <>"  # what only the query for awaited runs has in it


def echo(slug: str = "flow", **options) -> Flow:
    flow = Flow(slug, **options)
    flow.step(flow.input, slug="step")(lambda value: value)
    return flow


class Gate:
    """A flow whose step waits until the gate is opened."""

    def __init__(self, slug: str = "flow") -> None:
        self.open, self.running = trio.Event(), trio.Event()
        self.flow = Flow(slug)
        self.flow.step(slug="step")(self._wait)

    async def _wait(self):
        self.running.set()
        await self.open.wait()
        return "through"


async def test_a_flow_that_is_not_in_the_database_is_unknown(client, database):
    unknown = 'unknown flow "nowhere": no worker has defined it; '
    with pytest.raises(UnknownFlow, match=f"^{unknown}no flow is defined here yet$"):
        await client.start("nowhere", None)
    await execute(database, *[f"select pgflow.create_flow('flow{n:02}')" for n in range(22)])
    with pytest.raises(UnknownFlow, match=f"^{unknown}flows here: flow00, .*flow19 and 2 more$"):
        await client.start("nowhere", None)


@pytest.mark.parametrize("slug", ["", "a\0b", "a\ud800b", "日本", "a\n", "a b"])
async def test_what_can_be_no_slug_is_an_unknown_flow(client, slug):
    with pytest.raises(UnknownFlow, match=r"^unknown flow"):
        await client.start(slug, None)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda c, _: c.start(None, 1), "start() takes a flow or its slug, not None"),
        (lambda c, _: c.start_many("f", {"a": 1}), "takes a list of inputs: give [input] for one"),
        (lambda c, _: c.start_many("f", "abc"), "a list of inputs: give [input] for one"),
        (lambda c, _: c.start("f", 1, run_id="x"), "the id of a run is a UUID, not 'x'"),
        (lambda c, _: c.start("f", 1, run_id=5), "the id of a run is a UUID, not 5"),
        (lambda c, _: c.find("nope"), "the id of a run is a UUID, not 'nope'"),
        (lambda c, _: c.find(None), "the id of a run is a UUID, not None"),
        (lambda _, r: r.output("step"), "takes a step itself, or step.blob, not 'step'"),
        (lambda _, r: r.output(None), "takes a step itself, or step.blob, not None"),
    ],
)
async def test_what_is_called_with_the_wrong_thing_says_in_one_line_what_it_takes(
    client, work, call, told
):
    await work(echo())
    run = await client.start("flow", None)
    with pytest.raises(Misuse) as error:
        await call(client, run)
    assert str(error.value).endswith(told)


async def test_a_run_is_found_by_its_id_as_a_text_too(client, work):
    await work(echo())
    run = await client.start("flow", None)
    assert (await client.find(str(run.id))).id == run.id


FAILING = """
create or replace function pgflow.notify_tasks_inserted() returns trigger language plpgsql as
$$ begin raise 'notified in the commit'; end $$
"""


async def test_workers_are_woken_after_the_commit_of_a_start_and_not_in_it(client, work, database):
    """In the commit it would hold a lock of the whole server until that is on the disk."""
    await work(echo())
    await execute(database, FAILING)
    run = await client.start("flow", "small")
    assert await run.result() == {"step": "small"}
    with pytest.raises(psycopg.errors.RaiseException, match="in the commit"):
        await execute(database, "select pgflow.start_flow('flow', '1')")


REFUSING = """
create function public.refuse() returns trigger language plpgsql as
$$ begin raise sqlstate '{}' using message = 'refused at the commit'; end $$;
create constraint trigger refuse after insert on pgflow.runs
deferrable initially deferred for each row execute function public.refuse()
"""


@pytest.mark.parametrize("sqlstate", ["53100", "40001", "P0001"])
async def test_a_start_whose_commit_fails_is_an_error(client, work, database, sqlstate):
    await work(echo())
    await execute(database, REFUSING.format(sqlstate))
    with pytest.raises(psycopg.Error):
        await client.start("flow", "small")
    assert await rows(database, "select from pgflow.runs") == []


async def test_a_run_that_is_not_in_the_database_is_unknown(client):
    run_id = uuid4()
    with pytest.raises(UnknownRun, match=f"there is no run {run_id}"):
        await client.find(run_id)


@pytest.mark.parametrize("value", ["small", PAGE], ids=["inline", "blob"])
async def test_a_second_run_of_the_same_id_is_an_error_and_leaves_nothing(
    client, work, database, value
):
    await work(echo())
    run = await client.start("flow", value, run_id=UUID(int=1))
    advice = f"^a run with the id {run.id} exists already: await it with find"
    with pytest.raises(RunExists, match=advice) as refused:
        await client.start("flow", value, run_id=run.id)
    assert refused.value.run_id == pickle.loads(pickle.dumps(refused.value)).run_id == run.id
    assert isinstance(refused.value, psycopg.errors.UniqueViolation)  # which it was
    assert await run.result() == {"step": value}
    assert len(await rows(database, "select from pgflow.runs")) == 1


async def test_runs_started_together_come_in_the_order_of_their_inputs(client, work):
    await work(echo())
    inputs = [0, PAGE, None, b"bytes", {"a": 1}]
    runs = await client.start_many("flow", inputs)
    assert [(await run.result())["step"] for run in runs] == inputs
    assert await client.start_many("flow", []) == []


async def test_what_is_small_is_written_once_also_beside_a_large_input(client, work, monkeypatch):
    await work(echo())
    written = []

    def to_json(value: object, cap: int) -> bytes:
        written.append(value)
        return contract.to_json(value, cap)

    monkeypatch.setattr(codec, "to_json", to_json)
    await client.start_many("flow", [[1], PAGE, [2]])
    assert [value for value in written if value != PAGE] == [[1], [2]]


async def test_runs_started_together_start_all_or_none(client, work, database):
    await work(echo())
    for inputs in ([1, PAGE, 3], [1, 2, 3]):
        with pytest.raises(RunExists, match=r"^two of the run_ids are 00000000-.*1: give each run"):
            await client.start_many("flow", inputs, run_ids=[UUID(int=i) for i in (1, 2, 1)])
    assert await rows(database, "select from pgflow.runs") == []
    assert await rows(database, "select from pgflow.output_blobs") == []


async def test_inputs_and_ids_are_as_many(client):
    with pytest.raises(ValueError, match="2 inputs, but 1 run_ids"):
        await client.start_many("flow", [1, 2], run_ids=[UUID(int=1)])


async def test_a_run_that_was_found_is_the_one_that_was_started(client, work):
    gate = Gate()
    await work(gate.flow)
    run = await client.start(gate.flow, None)
    found = await client.find(run.id)
    assert (found.id, found.flow_slug, await found.status()) == (run.id, "flow", "started")
    gate.open.set()
    assert await found.result() == {"step": "through"}
    assert await run.status() == "completed"


async def test_who_waits_is_woken_and_asks_nothing_meanwhile(client, work, database):
    gate = Gate()
    await work(gate.flow)
    run = await client.start(gate.flow, None)
    async with counting(database) as statements, trio.open_nursery() as nursery:
        nursery.start_soon(run.wait)
        await gate.running.wait()
        await statements.settle()
        await trio.sleep(0.3)
        # The worker looks once more, half a second after its claim.
        assert [said for said in await statements.counts() if "claim_" not in said] == []
        gate.open.set()
        with trio.fail_after(5):
            assert await run.result() == {"step": "through"}


async def test_many_runs_of_two_flows_are_awaited_with_one_query_a_notification(
    client, work, database
):
    flows = [echo("one"), echo("two")]
    await work(*flows)
    heard = []
    async with await Connection.connect(database) as listening:
        for slug in ("one", "two"):
            ((channel,),) = await rows(database, "select pgflow.channel('runs', %s)", slug)
            await listening.execute(f"listen {channel}")
        listening.add_notify_handler(heard.append)
        async with counting(database) as statements:
            runs = [run for flow in flows for run in await client.start_many(flow, range(150))]
            results = {}

            async def wait(run):
                results[run.id] = (await run.result())["step"]

            async with trio.open_nursery() as nursery:
                for run in runs:
                    nursery.start_soon(wait, run)
            counts = await statements.counts()
            await listening.execute("select")
    assert [results[run.id] for run in runs] == 2 * list(range(150))
    asked = sum(calls for text, calls in counts.items() if ENDED in text)
    assert asked <= len(heard) + 4  # and one or two when the waiting of a flow begins


async def test_a_run_that_has_ended_before_needs_no_notification(client, work, database):
    await work(echo())
    run = await client.start("flow", 1)
    await run.wait()
    async with connect(database) as other:
        with trio.fail_after(5):
            assert await (await other.find(run.id)).result() == {"step": 1}
            assert await (await other.find(run.id)).result() == {"step": 1}


async def test_a_run_that_plain_sql_completes_wakes_who_waits(client, work, database):
    flow = echo()
    await work(flow)
    await execute(database, "select pgflow.create_flow('by_hand')")
    await execute(database, "select pgflow.add_step('by_hand', 'step')")
    run = await client.start("by_hand", None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.wait)
        await trio.testing.wait_all_tasks_blocked(0.1)
        await execute(database, "select pgflow.poll_for_tasks('by_hand', 1, 1)")
        await execute(
            database, f"select pgflow.complete_task('{run.id}', 'step', 0, '{{\"a\": [1]}}')"
        )
    assert await run.result() == {"step": {"a": [1]}}


async def test_of_two_who_wait_for_a_run_one_may_give_up(client, work):
    gate = Gate()
    await work(gate.flow)
    run = await client.start(gate.flow, None)
    results = []

    async def wait():
        results.append(await run.result())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        with trio.move_on_after(0.1):
            await run.wait()
        gate.open.set()
    assert results == [{"step": "through"}]


async def test_a_run_that_nobody_waits_for_any_more_is_not_looked_at(client, work):
    gate = Gate()
    await work(gate.flow)
    run = await client.start(gate.flow, None)
    with trio.move_on_after(0.1):
        await run.wait()
    assert client._reader._watch._awaited == {}
    gate.open.set()
    assert await run.result() == {"step": "through"}


async def test_a_failed_run_says_where_and_why_and_gives_what_was_done_before(client, work):
    flow = Flow("flow")

    @flow.step(flow.input)
    async def page(value):
        return PAGE

    @flow.step(page)
    async def fails(text):
        raise PermanentError("no such thing")

    @flow.step(fails)
    async def never(value):
        return 1

    await work(flow)
    run = await client.start(flow, None)
    message = f"run {run.id} of 'flow' failed in step 'fails': PermanentError: no such thing"
    for what in (run.result(), run.output(fails), run.output(never)):
        with pytest.raises(RunFailed) as failure:
            await what
        assert str(failure.value) == message
        assert (failure.value.run_id, failure.value.step) == (run.id, "fails")
        assert failure.value.errors == {"fails": "PermanentError: no such thing"}
    assert await run.output(page) == PAGE
    assert await run.status() == "failed"


async def test_a_step_that_a_run_does_not_have_is_unknown_and_those_it_has_are_named(
    client, work, database
):
    flow, other, gate = Flow("flow"), Flow("flow"), Gate("other")
    flow.step(flow.input, slug="first")(str)
    flow.step(slug="second")(dict)
    missing = other.step(slug="third")(str)
    await work(flow, gate.flow)
    run = await client.start(flow, 1)
    for node in (missing, missing.blob):
        with pytest.raises(UnknownStep) as error:
            await run.output(node)
        assert str(error.value) == (
            f"run {run.id} of 'flow' has no step 'third'; its steps: first, second"
        )
    # At once, though the run has not ended.
    started = await client.start(gate.flow, None)
    with pytest.raises(UnknownStep, match=r"no step 'third' of flow 'flow'; its steps: step$"):
        await started.output(missing)
    gate.open.set()


FAIL = """
select pgflow.fail_task(t.run_id, 'step', 0, {}) from pgflow.poll_for_tasks('flow', 1, 1) t
"""


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("update pgflow.runs set status = 'failed'", "is failed, and no step says why"),
        (FAIL.format("''"), "failed in step 'step': no reason was recorded"),
        (FAIL.format("null"), "failed in step 'step': no reason was recorded"),
    ],
    ids=["by hand", "empty", "null"],
)
async def test_a_run_that_failed_without_a_reason_says_so(client, database, harm, message):
    flow = echo(max_attempts=1)
    await execute(
        database,
        "select pgflow.create_flow('flow', max_attempts => 1)",
        "select pgflow.add_step('flow', 'step')",
    )
    run = await client.start(flow, 1)
    await execute(database, harm)
    for outcome in (run.result(), run.output(flow.steps["step"])):
        with pytest.raises(RunFailed) as failure:
            await outcome
        assert str(failure.value) == f"run {run.id} of 'flow' {message}"


async def test_an_error_raised_while_waiting_comes_out_of_the_block_as_it_is(work, database):
    flow = Flow("flow")

    @flow.step()
    async def fails():
        raise PermanentError

    await work(flow)
    with pytest.raises(RunFailed):
        async with connect(database) as client:
            await (await client.start(flow, None)).result()


async def test_a_start_that_the_database_does_not_answer_raises(tmp_path):
    async with connect(f"host={tmp_path}") as client:
        with pytest.raises(psycopg.OperationalError):
            await client.start("flow", None)


async def test_a_run_that_is_deleted_is_awaited_no_more(client, database):
    flow = Flow("flow", input=int)
    async with Pool(database) as pool, pool.connection() as connection:
        await connection.execute("select pgflow.create_flow('flow'), pgflow.add_step('flow', 's')")
        run = await client.start(flow, 1)
        await connection.execute("delete from pgflow.runs")
    step = flow.step(flow.input, slug="s")(lambda number: number)
    for outcome in (run.result, partial(run.output, step), partial(run.output, step.blob)):
        with trio.fail_after(10), pytest.raises(UnknownRun):
            await outcome()


async def test_a_handle_may_be_the_input_of_a_run_whatever_the_number_of_connections(
    work, database
):
    flow = Flow("flow", input=bytes)

    @flow.step(flow.input)
    async def same(run: bytes) -> bytes:
        return run

    await work(flow)
    async with connect(database, connections=1) as client:
        with trio.fail_after(30):
            run = await client.start(flow, bytes(range(256)) * 40_000)
            again = await client.start(flow, await run.output(same.blob))
            assert await again.output(same) == bytes(range(256)) * 40_000
