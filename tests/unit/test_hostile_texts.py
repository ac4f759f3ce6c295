"""What others have written becomes text on a terminal and lines of a log, and nothing more."""

import ast
import io
import json
import logging
import sys
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.table import Table

from pgflow_events.cli import print_traceback
from pgflow_events.cli.command import json_text
from pgflow_events.cli.logs import JournalFormatter, JsonFormatter, TextFormatter
from pgflow_events.telemetry import AttemptLog, about
from pgflow_events.terminal.console import output_console
from pgflow_events.texts import one_line, printable, unambiguous

from ..parts.attacks.hostile import ALL, HOSTILE, offences

ROOT = Path(__file__).parents[2]

# Without the planes in which nothing is assigned but ideographs.
EVERY = "".join(map(chr, [*range(0x20000), *range(0xE0000, 0xE1000), *range(0xFFFF0, 0x100010)]))
TASK = SimpleNamespace(flow_slug="f", run_id=UUID(int=7), step_slug="s", attempt=2)
FORGED = "x\n2026-01-01 00:00:00,000 INFO pgflow_events.worker: all is well"


def test_what_the_sweeps_look_for_is_in_what_they_feed():
    for name, text in HOSTILE.items():
        assert offences(text) or name == "markup"


def test_of_all_characters_none_that_a_terminal_obeys_is_left():
    # With a letter between them, or the first marks would be replaced with the rest.
    each = "a".join(EVERY)
    assert not offences(printable(each), keep="")
    assert not offences(unambiguous(each), keep="")
    assert offences(printable(each, keep="\n"), keep="") == ["U+000A"]


def test_what_people_write_stays_as_it_is():
    for text in (
        "naïve Straße",
        "日本語のテキスト",
        "עִבְרִית",
        "हिन्दी",
        "Tiếng Việt",
        "😀👍🏽",
        "a̐éö̲",
    ):
        assert printable(text) == text


@given(st.text())
@example(ALL)
@example("\ud800")
def test_json_is_plain_and_of_the_same_value(text):
    storable = text.encode("utf-8", "replace").decode()
    value = {"k": [storable], storable: 1}
    shown = json_text(value)
    assert not offences(shown)
    assert orjson.loads(shown) == json.loads(shown) == value


@given(st.text())
@example(ALL)
def test_a_shortened_text_is_one_plain_line(text):
    assert not offences(one_line(text), keep="")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_nothing_gets_through_a_console_whoever_forgot_to_look(text, monkeypatch):
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    console = output_console()
    table = Table(text)
    table.add_row(text)
    console.print(text)
    console.print(table)
    assert not offences(output.getvalue())
    if text == HOSTILE["markup"]:
        assert output.getvalue().count(text) == 3


def test_a_traceback_is_plain(capsys):
    print_traceback(*raised(ALL))
    told = capsys.readouterr().err
    assert "ValueError: " in told
    assert not offences(told)


def raised(text: str) -> Any:
    error = ValueError(text)
    return ValueError, error, error.__traceback__


def record(text: str, **fields: object) -> logging.LogRecord:
    usual = {"levelname": "INFO", "levelno": logging.INFO, "stack_info": text}
    told = {"msg": text, "name": text, "exc_info": raised(text)}
    return logging.makeLogRecord({**usual, **told, **fields})


@pytest.mark.parametrize("text", [*HOSTILE.values(), ALL, FORGED], ids=[*HOSTILE, "all", "forged"])
def test_a_record_is_one_line_of_a_text_log_and_what_follows_is_indented(text):
    line, *more = TextFormatter().format(record(text, run_id=text, flow=text)).splitlines()
    assert "INFO" in line
    assert more
    assert all(part.startswith("    ") for part in more)
    assert not offences("\n".join([line, *more]))


@pytest.mark.parametrize("text", [*HOSTILE.values(), ALL, FORGED], ids=[*HOSTILE, "all", "forged"])
@pytest.mark.parametrize("form", [JsonFormatter, JournalFormatter])
def test_a_record_is_one_line_of_a_json_log(form, text):
    (line,) = form().format(record(text, run_id=text, flow=text)).splitlines()
    assert not offences(line, keep="")
    told = json.loads(line.removeprefix("<6>").removeprefix("<7>"))
    assert (told["message"], told["logger"], told["run_id"]) == (text, text, text)
    assert f"ValueError: {text}" in told["traceback"]


@pytest.mark.parametrize(
    "value",
    [2**64, -(2**70), nan, inf, "\ud800", ["\ud800"], {1: "\udfff"}, b"\xff", object, None, 1j],
    ids=repr,
)
def test_no_field_loses_the_line(value):
    fields = dict.fromkeys(("flow", "run_id", "step", "attempt"), value)
    line = JsonFormatter().format(logging.makeLogRecord({"msg": "kept", **fields}))
    assert json.loads(line)["message"] == "kept"
    assert "kept" in TextFormatter().format(logging.makeLogRecord({"msg": "kept", **fields}))


def test_the_extra_of_a_handler_is_kept_and_says_nothing_else_of_the_attempt(caplog):
    log = AttemptLog(logging.getLogger("pgflow_events.handlers"), about(TASK))
    log.warning("mine", extra={"url": "x", "run_id": "forged", "attempt": 9})
    log.warning("plain")
    first, second = caplog.records
    assert (first.url, first.run_id, first.attempt) == ("x", TASK.run_id, 2)
    assert (second.run_id, second.step) == (TASK.run_id, "s")


# Where text goes to a stream by itself, and why it may.
WRITERS = {
    "pgflow_events/cli/__init__.py": ["sys.stderr.write"],  # a traceback, made plain
    "pgflow_events/cli/blob/cat.py": [
        "sys.stdout.buffer.write",
        "sys.stdout.write",
    ],  # bytes; plain
    "pgflow_events/cli/command.py": ["click.echo"],  # say(), print_json(), Failure: plain
    "pgflow_events/terminal/console.py": ["Console"],  # plain
    "pgflow_events/service/child.py": ["sys.stdout.buffer.write"],  # to a parent process
}
WRITING = {
    "print", "click.echo", "click.secho", "Console", "sys.stdout.write", "sys.stderr.write",
    "sys.stdout.buffer.write", "sys.stderr.buffer.write",
}  # fmt: skip


def test_text_reaches_a_terminal_by_these_ways_alone():
    found: dict[str, set[str]] = {}
    for file in sorted((ROOT / "pgflow_events").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in WRITING:
                found.setdefault(str(file.relative_to(ROOT)), set()).add(name)
    assert {file: sorted(names) for file, names in found.items()} == WRITERS
