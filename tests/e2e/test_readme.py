"""What the README tells a user to do, done."""

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
