"""A password stays between the DSN and the server; nothing of ours can be made to run by data."""

import ast
import re
import traceback
from dataclasses import fields, is_dataclass
from pathlib import Path

import psycopg
import pytest
import trio
from click.testing import CliRunner

import blobstore
import pgflow_events
from pgflow_events import Client, Flow, Settings, Worker, connect
from pgflow_events.cli import commands
from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.listener import Listener
from pgflow_events.postgres.pool import Pool

SECRET = "hunter2-hunter2"
NOWHERE = f"host=127.0.0.1 port=1 user=u password={SECRET}"
DSNS = [
    NOWHERE,
    f"postgresql://u:{SECRET}@127.0.0.1:1/db",
    f"postgresql://u@127.0.0.1:1/db?password={SECRET}",
    f"postgresql://u:a/{SECRET}@127.0.0.1:1/db",  # should be %2F
    f"{NOWHERE} nonsense=1",
    f"user=u password {SECRET}",
    f"host=127.0.0.1 password='{SECRET}",
]
# Those of which psycopg would quote a part.
GARBLED = [
    f"postgresql://u:a@{SECRET}@127.0.0.1:1/db",  # should be %40
    f"postgresql://u:%{SECRET}@127.0.0.1:1/db",  # should be %25
    f"user=u password=a {SECRET} host=127.0.0.1",  # should be quoted
]
SOURCES = sorted(
    path
    for package in (blobstore, pgflow_events)
    for path in Path(package.__path__[0]).rglob("*.py")
)


def flow() -> Flow:
    made = Flow("f")

    @made.step()
    async def a() -> int:
        return 1

    return made


@pytest.mark.parametrize("dsn", [*DSNS, *GARBLED])
async def test_an_error_of_a_connection_does_not_tell_the_password(dsn):
    with pytest.raises(psycopg.Error) as failed:
        await Connection.connect(dsn)
    assert SECRET not in "".join(traceback.format_exception(failed.value))


@pytest.mark.parametrize("dsn", [*DSNS, *GARBLED])
@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.parametrize("arguments", [["doctor"], ["runs"]])
def test_a_command_does_not_tell_the_password(dsn, debug, arguments, monkeypatch):
    monkeypatch.setenv("PGFLOW_DSN", dsn)
    answer = CliRunner().invoke(commands, [*arguments, *debug])
    assert answer.exit_code == 1
    # Python prints what is raised, with all that led to it.
    said = answer.output + "".join(traceback.format_exception(answer.exception))
    assert SECRET not in said
    assert len(said) > 50


async def test_what_keeps_a_dsn_does_not_show_it():
    async with connect(NOWHERE) as client, Pool(NOWHERE) as pool:
        worker = Worker([flow()], NOWHERE)
        listener = Listener(NOWHERE, [], print, print)
        settings = Settings(listen_dsn=NOWHERE)
        for kept in (worker, client, pool, listener, settings):
            assert SECRET in str(deep(kept))
            assert SECRET not in f"{kept!r} {kept}"
        assert isinstance(client, Client)


def deep(kept: object, depth: int = 3) -> object:
    """What an object keeps, and what that does."""
    if is_dataclass(kept):
        return [getattr(kept, field.name) for field in fields(kept)]
    if depth and hasattr(kept, "__dict__"):
        return {name: deep(value, depth - 1) for name, value in vars(kept).items()}
    return kept


async def test_who_cannot_connect_logs_why_and_not_the_password(caplog, nursery):
    nursery.start_soon(Worker([flow()], NOWHERE).run)
    nursery.start_soon(Listener(NOWHERE, [], print, print).run)
    with trio.fail_after(10):
        while len(set(complaints(caplog.text))) < 2:  # noqa: ASYNC110  logging has no event
            await trio.sleep(0.01)
    nursery.cancel_scope.cancel()
    assert SECRET not in caplog.text


def complaints(text: str) -> list[str]:
    return re.findall("the database does not answer|listening again", text)


def named(path: Path) -> set[str]:
    """What a module imports and calls."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {(node.module or "").partition(".")[0]}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names |= {node.func.id}
    return names


def test_no_module_makes_objects_or_code_of_data():
    assert "ast" in named(Path(__file__))
    modules = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "multiprocessing", "yaml"}
    dangerous = modules | {"eval", "exec", "compile", "__import__"}
    found = {path.name: found for path in SOURCES if (found := named(path) & dangerous)}
    assert found == {"processes.py": {"multiprocessing"}}  # whose parent_process() is all it uses
