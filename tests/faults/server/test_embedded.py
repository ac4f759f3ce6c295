"""An embedded server whose users, whose keeper and whose own processes are killed."""

import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from pgflow_events import EmbeddedServer, connect
from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.migrations import migrate

from ...parts.servers.embedding import await_end, eventually, needs_linux, query
from ...parts.servers.postmasters import keeper_of, servers
from ..conftest import ROOT
from ..parts.soundness import assert_sound
from ..parts.victim import PAGE, Rescuer

pytestmark = needs_linux
COMERS, VISITS = 10, 4


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account can reach, and no server in it in the end."""
    with tempfile.TemporaryDirectory(prefix="pgflow-test-") as base:
        Path(base).chmod(0o755)
        yield Path(base) / "server"
        eventually(lambda: not servers(Path(base) / "server"))


def comer(folder: Path, name: str, ways: list[str]) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.parts.comer", str(folder), name],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdin.write("".join(f"{way}\n" for way in ways))
    process.stdin.close()
    process.stdin = None
    return process


@pytest.mark.slow_fault
@pytest.mark.timeout(180)
@pytest.mark.parametrize("ways", [["leave", "fork"], ["leave", "keeper", "postmaster"]])
def test_ten_that_come_and_go_and_die_share_one_server_and_lose_nothing(folder, ways):
    chance = random.Random(1)
    with EmbeddedServer(folder) as server:
        query(server, "create table visits (id bigint generated always as identity, who text)")
    visits = [[*chance.choices(ways, k=chance.randrange(VISITS)), "kill"] for _ in range(COMERS)]
    processes = [comer(folder, str(n), visits[n]) for n in range(COMERS)]
    said = [process.communicate(timeout=150) for process in processes]
    assert [errors for _, errors in said if "Traceback" in errors] == []
    committed = sorted(int(number) for numbers, _ in said for number in numbers.split())
    assert len(committed) == sum(map(len, visits))
    eventually(lambda: not servers(folder))
    with EmbeddedServer(folder) as server:
        stored = query(server, "select array_agg(id order by id) from visits")
    # A commit whose answer was lost with the server was made twice.
    assert set(stored) >= set(committed) if "postmaster" in ways else stored == committed


@pytest.mark.parametrize("target", ["keeper", "postmaster"])
async def test_a_worker_and_a_client_start_the_server_again_that_was_killed(
    folder, nursery, target
):
    with EmbeddedServer(folder) as server:
        async with await Connection.connect(server.dsn) as connection:
            await migrate(connection)
        rescuer = Rescuer(server.dsn, hold=True)
        await rescuer.define()
        async with connect(server.dsn) as client:
            await nursery.start(rescuer.run)
            runs = await client.start_many("pages", [None] * 3)
            await rescuer.has_begun.wait()
            pid = server.pid
            os.kill(keeper_of(pid) if target == "keeper" else pid, signal.SIGKILL)
            await trio.to_thread.run_sync(await_end, pid)
            rescuer.go_on.set()
            for run in runs:
                assert await run.result() == {"length": len(PAGE)}
        assert server.pid != pid
        await assert_sound(server.dsn)
        nursery.cancel_scope.cancel()
