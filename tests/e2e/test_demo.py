"""The demo, with fewer pages: its figures and its failures."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from rich.console import Console

from pgflow_events import PgflowError, RunFailed, demo
from pgflow_events.demo import tables as queries
from pgflow_events.demo.site import Handler
from pgflow_events.postgres.connection import Connection
from pgflow_events.service import child

from ..integration.conftest import base

__all__ = ["base"]  # a fixture

ROOT = Path(__file__).parents[2]
PAGE = b'<title>A &amp; B</title><p>one two <a href="/next">three</a></p>'

RUN_A_SITE = """
import trio
from pgflow_events.demo import child

async def main():
    async with child.start("pgflow_events.demo.site", {"pages": 1}) as site:
        print((await site.receive())["port"], flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.fixture
def console() -> Console:
    """What a file is written to, in 80 columns."""
    return Console(file=StringIO(), width=80)


@pytest.fixture
def site() -> Iterator[str]:
    """The address of somebody else's site, which has /page and nothing else."""
    serve = partial(Handler, {"/page": PAGE})
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


run = partial(demo.run, pages=4, starts=10, idle=0.5)


async def test_the_figures_are_those_of_what_was_done(database, console, site):
    named = {"program": ".venv/bin/pgflow-events", "embedded": True}
    figures = await run(database, [f"{site}/page"], console, **named)
    assert figures["pages"] == figures["pages_saved"] == 5
    assert figures["pages_as_served"] == figures["pages_served"] == figures["bundle_pages"] == 4
    assert figures["runs"] == 5 + 1 + 10
    assert figures["tasks"] == 5 * 5 + (4 + 1) + 10
    assert 0 < figures["handed_over"] <= 5 * 4 + 4 + 1
    assert figures["html_bytes"] == figures["bundle_bytes"] + len(PAGE)
    assert figures["html_passed_bytes"] == 3 * figures["html_bytes"] + figures["bundle_bytes"]
    assert figures["stored_bytes"] < figures["output_bytes"] / 2
    assert figures["wake_ups"] == 10
    assert figures["wake_ms"]["p50"] <= figures["wake_ms"]["p99"] == figures["wake_ms"]["max"]
    assert 0 < figures["wake_with_commit_ms"]["p50"] > figures["wake_ms"]["p50"]
    assert figures["idle_sessions"] > 1
    assert figures["idle_sessions_with_queries"] == 0
    with psycopg.connect(database) as connection:
        assert connection.execute(
            "select title, bytes, links, words from pgflow_demo.pages where url like %s",
            ["%/page"],
        ).fetchall() == [("A & B", len(PAGE), 1, 5)]
    printed = console.file.getvalue()
    assert max(map(len, printed.splitlines())) <= 80
    run_id = figures["largest_page_run"]
    assert f"run {run_id} of pgflow_scrape: completed" in printed
    assert f"run {figures['bundle_run']} of pgflow_bundle: completed" in printed
    assert " ".join(printed.split()).endswith(
        "Look at them with `.venv/bin/pgflow-events runs` and"
        f" `.venv/bin/pgflow-events show {run_id}`, which start the embedded PostgreSQL again."
    )


# The command, as a program in a virtual environment that is not on the PATH; with fewer pages.
PROGRAM = """#!{python}
from functools import partial
from importlib import import_module
module = import_module("pgflow_events.cli.demo")
module.run = partial(module.run, pages=2, starts=2, idle=0.1)
from pgflow_events.cli import main
main()
"""


@pytest.mark.timeout(150)  # with a server of its own, which is made and started again
@pytest.mark.parametrize("whose", ["of the user", "embedded"])
def test_the_commands_that_its_last_words_name_can_be_typed(environment, base, tmp_path, whose):
    if whose == "embedded":
        del environment["PGFLOW_DSN"]
        environment["PGFLOW_PG_FOLDER"] = str(base / "server")
    program = tmp_path / "venv" / "bin" / "pgflow-events"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    shell = partial(
        subprocess.run,
        cwd=tmp_path,
        env=environment | {"PATH": os.defpath, "COLUMNS": "80", "PYTHONPATH": str(ROOT)},
        shell=True,
        capture_output=True,
        text=True,
    )
    printed = shell("venv/bin/pgflow-events demo", check=True).stdout
    _, _, words = " ".join(printed.split()).partition("Look at them with ")
    named = re.findall("`(.*?)`", words)
    assert len(named) == 2
    for command in named:
        answer = shell(command, check=False)
        assert (answer.returncode, "pgflow_scrape" in answer.stdout) == (0, True), answer


async def test_a_failed_run_is_told_and_the_next_demo_succeeds(database, console, site):
    with pytest.raises(RunFailed, match=r"1 of 3 runs failed; .*'website'.*404"):
        await run(database, [f"{site}/missing"], console, pages=2)
    with psycopg.connect(database) as connection:
        ((url,), *_) = connection.execute("select url from pgflow_demo.pages").fetchall()
    assert is_closed(urlsplit(url).port)
    figures = await run(database, [], console, pages=2, starts=1, idle=0.1)
    assert figures["pages_saved"] == figures["pages_as_served"] == 2
    assert figures["runs"] == 2 + 1 + 1


async def test_two_demos_do_not_share_a_database(database, console):
    async with await Connection.connect(database) as connection:
        await queries.lock(connection)
        with pytest.raises(PgflowError, match="another demo"):
            await run(database, [], console)


async def test_a_session_that_is_not_idle_is_counted(database, console, nursery):
    async with (
        await Connection.connect(database) as own,
        await Connection.connect(database, application_name="busy") as busy,
    ):

        async def query() -> None:
            while True:
                await busy.execute("select 1")

        nursery.start_soon(query)
        figures = await demo.Demo(own, None, console).idle(0.1, "busy")
        nursery.cancel_scope.cancel()
    assert figures["idle_sessions"] == figures["idle_sessions_with_queries"] == 1


async def test_a_process_that_fails_says_why():
    with pytest.raises(PgflowError, match=r"demo\.worker ended with status 1: KeyError: 'dsn'"):
        async with child.start("pgflow_events.demo.worker", {}) as worker:
            await worker.receive()


def test_a_process_ends_when_the_demo_is_killed():
    with subprocess.Popen(
        [sys.executable, "-c", RUN_A_SITE], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            port = int(process.stdout.readline())
            assert not is_closed(port)
        finally:
            os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while not is_closed(port):  # nothing tells of the end of another's child
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
