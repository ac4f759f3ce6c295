"""Every call that a worker makes, made to fail in every way: the worker lives and does its work.

A statement of the worker's is made to raise some times in a row; then the worker has to do what it
did before. What its calls are is not taken for granted: one that is not in the list fails a test.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import trio
from psycopg import errors, sql

from pgflow_events import Client, Flow, RunFailed, Settings, Worker
from pgflow_events.postgres.passing import passes
from pgflow_events.worker import leaving
from pgflow_events.worker import persisting as roles
from pgflow_events.worker.claiming import claims

from ...parts.liveness_scenes import whole
from ...parts.observing import execute, until

MIB = 1024 * 1024
TIMES = 2  # that a statement fails in a row

# One of each treatment; tests/unit/postgres/test_passing.py has all codes.
KINDS = [
    errors.DiskFull("no room"),
    errors.AdminShutdown("terminating connection"),
    psycopg.OperationalError("the connection was lost"),
    errors.FeatureNotSupported("cached plan must not change result type"),
    errors.InsufficientPrivilege("permission denied"),
    errors.DataCorrupted("missing chunk number 0 for toast value"),
    errors.ProgramLimitExceeded("total size exceeds the maximum"),
    MemoryError(),
    RuntimeError("a bug"),
]

# What a worker says to the server from its first claim on, by what is in the statement.
AT_WORK = {
    "claim": "from pgflow_queues.claim_q_",
    "complete": "pgflow.complete_tasks(",
    "notify": "pgflow.notify_owed(",
    "lapsed": "pgflow.fail_lapsed_tasks(",
    "check": "pg_notification_queue_usage",
    "save a blob": "insert into pgflow.output_blobs",
    "open a blob": "pgflow.open_blob(",
    "write a chunk": "pgflow.write_chunk(",
    "finish a blob": "pgflow.finish_blob(",
    "lock the runs": "from pgflow.runs where run_id = any",
    "load blobs": "forgotten_at is not null",
    "sizes of elements": "select id, run_id, elements is not null",
    "load chunks": "select seq, content from pgflow.blob_chunks",
    "newest dictionaries": "select flow_slug, step_slug, max(id)",
    "dictionaries": "select id, content from pgflow.blob_dictionaries",
    "make room": "pgflow.ensure_blob_days(",
    "forget": "pgflow.forget_blobs(",
    "cut-off": "select clock_timestamp()",
    "drop a day": "pgflow.drop_blob_day(",
    "days": "pgflow.blob_days(",
    "delete runs": "pgflow.delete_runs(",
    "flows": "select flow_slug from pgflow.flows",
    "delete messages": "pgflow.delete_archived(",
    "delete dictionaries": "pgflow.delete_dictionaries(",
}
OF_BLOBS = {name for name in AT_WORK if "blob" in name or name in {"write a chunk", "load chunks"}}
OF_BLOBS |= {"lock the runs", "sizes of elements"}
AMONG_PEERS = {
    "next peer": "pgflow.next_worker(",
    "count the peers": "from pgflow.worker_seats s, unnest(",
    "wait for a peer": "pgflow.await_seat(",
    "bury a peer": "pgflow.bury_worker(",
}
ON_CONNECTING = {
    "set the session": "pg_catalog.pg_backend_pid()",
    "owners": "pg_identify_object(",
    "show life": "pg_try_advisory_lock_shared",
    "listen": "LISTEN",
    "take a seat": "pgflow.take_seat(",
    "settings of who watches": "set statement_timeout = 0",
}
AT_THE_START = {
    "encoding": "show server_encoding",
    "whose schema": "pg_get_userbyid(n.nspowner)",
    "schema": "pgflow.schema_files",
    "define": "pgflow.define_flow(",
    "channels": "pgflow.channel(",
}
AT_THE_END = {"give back": "pgflow.release_tasks(", "leave": "pgflow.leave_seat("}
KNOWN = AT_WORK | AMONG_PEERS | ON_CONNECTING | AT_THE_START | AT_THE_END


class Fault:
    """Raises in the place of some statements of the victim's, and notes all of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site, self.error, self.left = "", Exception(), 0
        self.hit = trio.Event()
        self.seen: set[str] = set()
        for name in ("execute", "executemany"):
            monkeypatch.setattr(psycopg.AsyncCursor, name, self._instead(name))

    def arm(self, site: str, error: Exception, times: int = TIMES) -> None:
        self.site, self.error, self.left = site, error, times
        self.hit = trio.Event()

    def _instead(self, name: str) -> Callable[..., Awaitable[Any]]:
        original = getattr(psycopg.AsyncCursor, name)

        async def execute(cursor: Any, query: Any, *args: Any, **options: Any) -> Any:
            if "victim" in cursor.connection.info.dsn:
                text = query.as_string(None) if isinstance(query, sql.Composed) else query
                text = text.decode() if isinstance(text, bytes) else text
                self.seen.add(" ".join(text.split()))
                if self.left and self.site in text:
                    self.left -= 1
                    self.hit.set()
                    raise type(self.error)(*self.error.args)
            return await original(cursor, query, *args, **options)

        return execute


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Fault:
    for name in ("GIVE_BACK", "TAKE_LEAVE"):
        monkeypatch.setattr(leaving, name, 0.2)
    for module in (claims, roles):
        monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
        monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)
    return Fault(monkeypatch)


def rich_flow() -> Flow:
    """Reads and writes values of each kind."""
    flow = Flow("rich", max_attempts=9, base_delay=0)
    page = flow.step(flow.input, slug="page")(lambda n: f"{n}" * 20_000)
    large = flow.step(flow.input, slug="large")(lambda n: bytes(5 * MIB))
    pages = flow.step(slug="pages", by_element=True)(lambda: ["x" * 20_000, "y" * 20_000])
    flow.step(page, large, pages, slug="join")(lambda *values: [len(value) for value in values])
    return flow


def steady_flow() -> Flow:
    flow = Flow("steady", max_attempts=9, base_delay=0)
    flow.step(flow.input, slug="step")(lambda n: n)
    return flow


def endless_flow(running: trio.Event) -> Flow:
    flow = Flow("endless", max_attempts=99)

    @flow.step()
    async def step():
        running.set()
        await trio.sleep_forever()

    return flow


class Victim:
    """A worker whose statements fail, and a client and peers whose do not."""

    def __init__(self, database: str, client: Client, fault: Fault) -> None:
        self.database, self.client, self.fault = database, client, fault
        settings = Settings(
            check_interval=0.1, keep_runs=timedelta(hours=1), cache_budget=0, grace=0.01
        )
        dsn = f"{database} application_name=victim"
        self.endless = trio.Event()
        flows = [rich_flow(), steady_flow(), endless_flow(self.endless)]
        self.worker = Worker(flows, dsn, settings=settings)
        self.has_ended = False

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        await self.worker.run(task_status=task_status)
        self.has_ended = True

    async def works(self) -> None:
        """It completes a run of the other flow."""
        run = await self.client.start("steady", 7)
        assert await run.result() == {"step": 7}

    async def live(self) -> str:
        """Make it do all that it does; what the rich run failed of, if it did."""
        run = await self.client.start("rich", 7)
        try:
            assert await run.result() == {"join": [20_000, 5 * MIB, 2]}
        except RunFailed as error:
            return str(error)
        return ""

    async def do_all_else(self) -> None:
        self.worker._dispatcher._report("steady")
        await execute(
            self.database,
            "insert into pgflow.blob_dictionaries (flow_slug, step_slug, content, samples)"
            " values ('rich', 'page', 'whatever', 1)",
        )
        await (await self.client.start("steady", 7)).wait()

    async def lose_a_peer(self) -> None:
        peer = Worker([steady_flow()], self.database, settings=Settings(grace=0.01))
        async with trio.open_nursery() as nursery:
            await nursery.start(peer.run)
            await whole(self.database, self.worker, peer)
            nursery.cancel_scope.cancel()

    async def lose_its_sessions(self) -> None:
        await execute(
            self.database,
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'victim' and datname = current_database()",
        )

    async def lose_all(self) -> None:
        await self.lose_its_sessions()
        await self.lose_a_peer()  # for which it connects to watch

    async def meets(self, site: str, error: Exception, live: Callable[[], Awaitable[Any]]) -> None:
        """Let a statement fail, and see that the worker meets that, and is as it was."""
        # Who is to be woken is told twice, and else finds out within a minute.
        self.fault.arm(site, error, times=1 if site == AT_WORK["notify"] else TIMES)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(live)
                await self.fault.hit.wait()
            await self.works()
        assert not self.has_ended


@asynccontextmanager
async def at_work(database: str, client: Client, fault: Fault) -> AsyncIterator[Victim]:
    victim = Victim(database, client, fault)
    async with trio.open_nursery() as nursery:
        await nursery.start(victim.run)
        yield victim
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("site", AT_WORK)
async def test_whatever_a_call_meets_the_worker_lives_and_works(
    database, client, fault, site, caplog
):
    async with at_work(database, client, fault) as victim:
        live = victim.live if site in OF_BLOBS else victim.do_all_else
        for error in KINDS:
            caplog.clear()
            await victim.meets(AT_WORK[site], error, live)
            assert says(caplog, error), f"nothing is said of {error!r}"


def says(caplog: pytest.LogCaptureFixture, error: Exception) -> bool:
    tracebacks = [getattr(record, "traceback", "") for record in caplog.records]
    said = "\n".join([caplog.text, *tracebacks])
    return (str(error) or "emory") in said


@pytest.mark.parametrize("site", AMONG_PEERS)
async def test_whatever_it_meets_among_its_peers_it_lives_and_works(
    database, client, fault, site, caplog
):
    async with at_work(database, client, fault) as victim:
        for error in KINDS:
            caplog.clear()
            await victim.meets(AMONG_PEERS[site], error, victim.lose_a_peer)
            assert says(caplog, error), f"nothing is said of {error!r}"


@pytest.mark.slow_fault
@pytest.mark.parametrize("site", ON_CONNECTING)
async def test_whatever_it_meets_when_it_connects_again_it_lives_and_works(
    database, client, fault, site, caplog
):
    async with at_work(database, client, fault) as victim:
        # Where it may take no seat, it says so and has none: its peers do not watch it.
        live = victim.lose_its_sessions if site == "take a seat" else victim.lose_all
        for error in KINDS:
            caplog.clear()
            await victim.meets(ON_CONNECTING[site], error, live)
            assert says(caplog, error), f"nothing is said of {error!r}"


@pytest.mark.parametrize("site", [*AT_THE_START, "set the session", "listen", "take a seat"])
async def test_what_passes_at_the_start_is_waited_for_and_the_rest_ends_the_worker(
    database, client, fault, site
):
    for error in KINDS:
        fault.arm(KNOWN[site], error)
        with trio.fail_after(10):
            if passes(error) or site == "take a seat":
                async with at_work(database, client, fault) as victim:
                    await victim.works()
            else:
                with pytest.RaisesGroup(
                    pytest.RaisesExc(type(error)), allow_unwrapped=True, flatten_subgroups=True
                ):
                    async with at_work(database, client, fault):
                        pass
        assert fault.hit.is_set()


@pytest.mark.parametrize("site", AT_THE_END)
async def test_whatever_it_meets_when_it_leaves_it_leaves(database, client, fault, site, caplog):
    for error in KINDS:
        caplog.clear()
        victim = Victim(database, client, fault)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                await nursery.start(victim.run)
                await client.start("endless", None)
                await victim.endless.wait()
                fault.arm(AT_THE_END[site], error, times=1000)
                victim.worker.stop()
                victim.worker._cancel()
        assert victim.has_ended
        fault.arm("", error, times=0)
        assert "could not" in caplog.text or "cannot" in caplog.text


async def test_every_statement_of_a_worker_is_in_this_sweep(database, client, fault):
    async with at_work(database, client, fault) as victim:
        assert await victim.live() == ""
        await victim.lose_a_peer()
        await victim.lose_its_sessions()
        await victim.live()
        victim.worker.stop()

        async def has_ended() -> bool:
            return victim.has_ended

        await until(has_ended)
    known = {" ".join(text.split()) for text in KNOWN.values()}
    missing = {text for text in fault.seen if not any(part in text for part in known)}
    assert missing == set()
