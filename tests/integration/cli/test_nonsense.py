"""Every command, with nonsense for each of its options and arguments: one line, no traceback."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import click
import pytest
from click.testing import CliRunner, Result

from pgflow_events.cli import Commands, bench, commands, demo, start, worker

FLOWS = "from pgflow_events import Flow\nflow = Flow('flow')\nnumber = 1\n"
ID = "0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a"

# What each command needs, that it come as far as to the option that is nonsense.
NEEDED: dict[str, list[str]] = {
    "worker": ["flows.py"],
    "start": ["nope"],
    "show": [ID],
    "blob cat": [ID],
    "blob export": [ID, "new"],
    "blob train": ["nope", "nope"],
    "blob key": ["id"],
    "blob rotate": ["--keys", "keys"],
    "blob sweep": ["--objects", "file:///nowhere/at/all"],
    "prune": ["--older-than", "7d"],
    "systemd-unit": ["flows.py", "--user"],
}
NONSENSE = [
    "", "-1", "0", "9" * 30, "9" * 400, "9" * 400 + "d", "9" * 400 + "GB", "nan", "0.5", "日本",
    "\x1b[31m", "a\nb", "x" * 300, "--", "a:b:c", "nowhere.txt", "folder", "binary", "closed",
    "empty", "s3://", "\udcff",
]  # fmt: skip


def leaves(group: click.Command, *words: str) -> Iterator[tuple[str, click.Command]]:
    """All commands, by the words that call them."""
    if not isinstance(group, Commands):
        yield " ".join(words), group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found
        yield from leaves(found, *words, name)


COMMANDS = dict(leaves(commands))


@pytest.fixture
def call(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, list[str]], Result]:
    """Calls a command in a folder with some files; what would run for long is left out."""
    (tmp_path / "flows.py").write_text(FLOWS)
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "empty").touch()
    (tmp_path / "closed").touch(mode=0o000)
    (tmp_path / "keys").write_text(f"new:{'A' * 43}=\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("PGFLOW_DSN", database)

    async def nothing(*_: object, **__: object) -> Any:
        return [{"run_id": uuid4()}]

    monkeypatch.setattr(worker, "trio", type(sys)("trio"))
    monkeypatch.setattr(worker.trio, "run", lambda *_: None, raising=False)
    monkeypatch.setattr(worker, "Signals", SimpleNamespace(kept=lambda: None))
    monkeypatch.setattr(worker, "ignore_signals", lambda: None)
    monkeypatch.setattr(worker, "end_within", lambda _: None)
    monkeypatch.setattr(worker, "log_to_stderr", lambda *_: None)
    monkeypatch.setattr(start, "start_runs", nothing)
    monkeypatch.setattr(demo, "run", nothing)
    monkeypatch.setattr(bench, "measure", lambda *_: iter(()))

    def invoke(name: str, arguments: list[str]) -> Result:
        sys.modules.pop("flows", None)
        return CliRunner().invoke(commands, [*name.split(), *arguments])

    return invoke


LEFT = {"dsn", "listen_dsn", "debug", "as_json"}  # tried by themselves


def calls_of(name: str) -> Iterator[list[str]]:
    """A command's arguments, with nonsense in the place of each, and with each of its options."""
    needed = NEEDED.get(name, [])
    options = [
        option
        for option in COMMANDS[name].params
        if isinstance(option, click.Option) and option.name not in LEFT
    ]
    yield needed
    yield from ([*needed, option.opts[-1]] for option in options if option.is_flag)
    for nonsense in NONSENSE:
        for place in range(len(needed)):
            yield [*needed[:place], nonsense, *needed[place + 1 :]]
        yield [*needed, nonsense]
        yield from (
            [*needed, option.opts[-1], nonsense] for option in options if not option.is_flag
        )
    for garbled in ("", "x", "host", "postgresql://u:hunter2", "\x1b", "port=x", "a\nb"):
        if any(option.name == "dsn" for option in COMMANDS[name].params):
            yield [*needed, "--dsn", garbled or "host=127.0.0.1 port=1"]


def faults_of(arguments: list[str], answer: Result) -> Iterator[str]:
    """What is wrong with an answer."""
    if answer.exception and not isinstance(answer.exception, SystemExit):
        yield f"{type(answer.exception).__name__}: {answer.exception}"
    if answer.exit_code not in {0, 1, 2}:
        yield f"exit code {answer.exit_code}"
    lines = [line for line in answer.stderr.splitlines() if re.match(r"[Ee]rror: ", line)]
    if "✗" in answer.stdout:  # the doctor's own way
        return
    if len(lines) != (answer.exit_code > 0):
        yield f"{len(lines)} errors: {answer.stderr}{answer.stdout}"
    if answer.exit_code and answer.stderr.splitlines()[-1:] != lines[-1:]:
        yield f"more than a line: {answer.stderr}"
    if "Traceback" in answer.stderr or "hunter2" in answer.stderr:
        yield answer.stderr
    if "\x1b" in answer.stderr:
        yield f"control characters: {answer.stderr!r}"


@pytest.mark.parametrize("name", COMMANDS)
def test_nonsense_is_refused_in_one_line(name, call):
    found = {}
    for arguments in calls_of(name):
        answer = call(name, arguments)
        if faults := list(faults_of(arguments, answer)):
            found[tuple(arguments)] = faults
    assert not found, "\n".join(f"{arguments}: {faults}" for arguments, faults in found.items())
