"""What the README and the guide tell a user to do, done."""

import json
import re
import shlex
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import pgflow_events

from ..integration.conftest import base
from ..parts.reference.docstrings import examples

__all__ = ["base"]  # a fixture

ROOT = Path(__file__).parents[2]
PAGE = "<title>Example</title>" + "<p>good, good and bad</p>" * 100_000
COMMAND = [sys.executable, "-m", "pgflow_events"]


class Site(BaseHTTPRequestHandler):
    """Has one page, of 2.5 MB."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PAGE.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@contextmanager
def ending(process: "subprocess.Popen[str]") -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()


def commands() -> list[list[str]]:
    """The calls of our command in the README, in their order."""
    text = (ROOT / "README.md").read_text()
    return [shlex.split(line) for line in re.findall(r"(?m)^    pgflow-events (.*?) *&?$", text)]


def test_the_commands_run_the_example(address, environment, tmp_path):
    def run(*arguments: str) -> str:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    (tmp_path / "examples").symlink_to(ROOT / "examples")
    migrate, worker, start, runs = commands()
    run(*migrate)
    with (
        subprocess.Popen(
            [*COMMAND, *worker], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        ) as process,
        ending(process),
    ):
        assert process.stdout.readline() == "ready: analyze_website\n"
        run(*start[:2], start[2].replace("https://example.com", address), *start[3:])
        listed = run(*runs)
        process.terminate()
        assert process.wait(30) == 0
    assert "analyze_website" in listed
    assert "completed" in listed
    with closing(sqlite3.connect(tmp_path / "websites.db")) as db:
        saved = db.execute("select url, summary, round(mood, 4) from websites").fetchall()
    assert saved == [(address, "Example", round(100_000 / len(PAGE), 4))]


def pasted() -> str:
    """The block of commands in the README, without what needs a registry of packages."""
    (found,) = re.findall(r"(?m)(?:^    .*pgflow-events.*\n)+", (ROOT / "README.md").read_text())
    return "".join(line[4:] for line in found.splitlines(keepends=True))


@pytest.mark.timeout(150)  # the commands start a Python each, and a server of their own
@pytest.mark.parametrize("whose", ["of the user", "embedded"])
def test_the_commands_run_as_they_are_pasted(address, environment, base, tmp_path, whose):
    """Nobody waits for the worker to be ready: it and `start` begin at the same moment."""
    if whose == "embedded":
        del environment["PGFLOW_DSN"]
        environment["PGFLOW_PG_FOLDER"] = str(base / "server")
    program = tmp_path / "bin" / "pgflow-events"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pgflow_events "$@"\n')
    program.chmod(0o755)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = pasted().replace("https://example.com", address)
    shell = subprocess.run(
        ["bash"],
        input=f"{script}kill $!\nwait $!\necho the worker left with $?\n",
        cwd=tmp_path,
        env=environment | {"PATH": f"{program.parent}:{environment['PATH']}"},
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )
    said = f"{shell.stdout}\n{shell.stderr}"
    assert "error: " not in shell.stderr, said
    assert '"saveToDb": null' in shell.stdout, said
    assert re.search(r"analyze_website +completed", shell.stdout), said
    assert "the worker left with 0" in shell.stdout, said


def blocks(page: str) -> list[str]:
    """The Python that a page shows, in its order."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def program(code: str, folder: Path, environment: dict[str, str]) -> str:
    """What a program prints that a user has pasted into a file."""
    file = folder / "pasted.py"
    file.write_text(code)
    return subprocess.run(
        [sys.executable, "-W", "error", file],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=50,
        check=True,
    ).stdout


@pytest.fixture
def without_database(environment, base) -> dict[str, str]:
    """An environment in which the embedded PostgreSQL is used, in a folder of the test's own."""
    del environment["PGFLOW_DSN"]
    return environment | {"PGFLOW_PG_FOLDER": str(base / "jane@corp")}


def test_the_program_of_the_page_on_flows_appended_to_its_flow_runs_as_it_is_printed(
    without_database, tmp_path
):
    flow, *others = blocks("docs/guide/flows.md")
    (client,) = (code for code in others if "EmbeddedServer()" in code)
    printed = program(flow + client, tmp_path, without_database)
    assert "<p>This is https://example.com.</p>\n" in printed


def test_the_program_of_the_embedded_page_runs_as_it_is_printed(without_database, tmp_path):
    (code,) = blocks("docs/guide/embedded.md")
    assert program(code, tmp_path, without_database) == "hello world\n"


def test_the_program_of_the_package_runs_as_it_is_printed(without_database, tmp_path):
    (code,) = examples(pgflow_events.__doc__)
    assert program(code, tmp_path, without_database) == "hello world\n"


def test_the_flow_of_large_values_runs_as_it_is_printed(worker, cli, tmp_path):
    (code,) = blocks("docs/guide/values.md")
    (tmp_path / "pasted.py").write_text(code)
    process = worker(str(tmp_path / "pasted.py"))
    started = cli("start", "numbers", "1000", "--wait", "--json")
    assert json.loads(started.stdout)["output"] == {"total": 1000}
    process.terminate()
    process.communicate(timeout=30)
