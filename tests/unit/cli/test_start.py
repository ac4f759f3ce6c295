"""Where `start` gets its input, and where commands get their database and their name."""

import json
import os
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result

from pgflow_events.cli import commands, runs, start
from pgflow_events.cli.command import program

RUN = UUID(int=1)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The inputs with which runs would be started."""
    found: list[Any] = []

    async def start_runs(dsn: str, flow: str, inputs: list[Any], **_: object) -> Any:
        found.extend(inputs)
        return [{"run_id": RUN, "output": inputs[0]}]

    monkeypatch.setattr(start, "start_runs", start_runs)
    return found


def call(*arguments: str, **more: Any) -> Result:
    return CliRunner().invoke(commands, ["start", *arguments, "--dsn", "host=nowhere"], **more)


@pytest.mark.parametrize(
    ("text", "value"),
    [("-5", -5), ("-0.5", -0.5), ("-1e3", -1000.0), ("5", 5), ('"-"', "-"), ("[-1]", [-1])],
)
def test_json_may_begin_with_a_dash_wherever_it_stands(given, text, value):
    for arguments in (["f", text], ["f", text, "--wait"], ["--wait", "f", text], ["f", "--", text]):
        answer = CliRunner().invoke(commands, ["start", "--dsn", "host=nowhere", *arguments])
        assert answer.exit_code == 0, answer.stderr
    assert given == [value] * 4


def test_a_misspelt_option_is_no_json(given):
    answer = call("f", "--wiat")
    assert answer.exit_code == 2
    assert "No such option" in answer.stderr
    assert not given


def test_the_input_may_come_from_a_file_or_from_stdin(given, tmp_path):
    (tmp_path / "input.json").write_text('{"a": "ä"}', "utf-8")
    assert call("f", f"@{tmp_path}/input.json").exit_code == 0
    assert call("f", "-", input="[1]").exit_code == 0
    assert call("f").exit_code == 0
    assert given == [{"a": "ä"}, [1], {}]


@pytest.mark.parametrize("name", ["nowhere.json", ".", "binary"])
def test_a_file_that_holds_no_json_is_refused(given, tmp_path, name):
    (tmp_path / "binary").write_bytes(b"\xff")
    answer = call("f", f"@{tmp_path}/{name}")
    assert answer.exit_code == 2
    assert answer.stderr.splitlines()[-1].startswith("Error: Invalid value for '[JSON|-|@FILE]': ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty; write null for no value"),
        ("example.com", "put double quotes around a text: '\"like this\"'"),
        ("9" * 5000, "a number in it has thousands of digits; write it as a text"),
        ("[" * 100_000, "it is nested too deep; use at most 254 levels"),
        ('{"a": 1', "Expecting ',' delimiter: line 1 column 8 (char 7)"),
    ],
    ids=["empty", "bare", "number", "deep", "open"],
)
def test_what_is_no_json_is_told_with_what_to_do(given, text, told):
    for answer in (call("f", text), call("f", "-", input=text)):
        assert answer.exit_code == 2
        line = answer.stderr.splitlines()[-1]
        assert line.startswith("Error: Invalid value for '[JSON|-|@FILE]': not JSON: ")
        assert told in line
        assert "sys." not in line
    assert not given


def test_an_input_may_begin_with_the_mark_of_its_encoding(given, tmp_path):
    (tmp_path / "input.json").write_text("[1]", "utf-8-sig")
    assert call("f", f"@{tmp_path}/input.json").exit_code == 0
    assert call("f", "-", input=b"\xef\xbb\xbf[1]").exit_code == 0
    assert given == [[1], [1]]


def test_an_input_that_is_no_utf_8_is_refused_on_stdin_too(given):
    answer = call("f", "-", input=b'"\xe9"')
    assert answer.exit_code == 2
    assert "not UTF-8: " in answer.stderr
    assert not given


@pytest.mark.parametrize("text", ["nan", "-1", "", "1e", "-inf"])
def test_what_is_no_number_of_seconds_is_refused(given, text):
    answer = call("f", f"--patience={text}")
    assert answer.exit_code == 2
    assert f"{text!r} is not a number of seconds: use 30 or 0.5" in answer.stderr
    assert not given
    assert call("f", "--patience=inf").exit_code == 0


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """When runs would begin."""
    found: list[Any] = []

    async def start_runs(dsn: str, flow: str, inputs: list[Any], *, when: Any, **_: Any) -> Any:
        found.append(when)
        return [{"run_id": RUN}]

    monkeypatch.setattr(start, "start_runs", start_runs)
    return found


def test_a_start_may_be_later(moments):
    for options in (
        [],
        ["--delay", "0.5"],
        ["--at", "2026-12-24T18:00+01:00"],
        ["--at=20261224T17Z"],
    ):
        answer = call("f", *options)
        assert answer.exit_code == 0, answer.stderr
    christmas = datetime(2026, 12, 24, 17, tzinfo=UTC)
    assert moments == [
        {"delay": None, "at": None},
        {"delay": 0.5, "at": None},
        {"delay": None, "at": christmas},
        {"delay": None, "at": christmas},
    ]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--delay=-1"], "'-1' is not a number of seconds: use 30 or 0.5"),
        (["--delay=soon"], "'soon' is not a number of seconds: use 30 or 0.5"),
        (["--delay=inf"], "'inf' is too long: use at most 3,153,600,000 seconds"),
        (["--at=2026-12-24T18:00"], "has no time zone: add one, as in 2026-12-24T18:00+01:00"),
        (["--at=christmas"], "'christmas' is not a time: use 2026-12-24T18:00+01:00"),
        (["--delay=0", "--at=2026-12-24T18:00Z"], "give --delay or --at, not both"),
    ],
    ids=str,
)
def test_what_is_no_later_time_is_refused(moments, options, told):
    answer = call("f", *options)
    assert answer.exit_code == 2
    assert told in " ".join(answer.stderr.split())
    assert not moments


@pytest.mark.parametrize("arguments", [["blob", "key", "new"], ["systemd-unit", "f.py", "--user"]])
def test_a_database_is_refused_by_a_command_that_uses_none(arguments):
    answer = CliRunner().invoke(commands, ["--dsn", "host=a", *arguments])
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert " uses no database: leave out --dsn\n" in answer.stderr


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_no_result_that_would_fill_it(given, monkeypatch, terminal):
    large = "x" * 1_000_000

    class Stdout:
        def isatty(self) -> bool:
            return terminal

    monkeypatch.setattr(start, "sys", type(sys)("sys"))
    monkeypatch.setattr(start.sys, "stdout", Stdout(), raising=False)
    answer = call("f", json.dumps(large), "--wait")
    assert answer.exit_code == 0
    assert (large in answer.stdout) == (not terminal)
    assert (f"the output of run {RUN} has 1.0 MB, too much" in answer.stderr) == terminal


def test_the_database_may_be_named_before_the_command_or_after_it(monkeypatch):
    asked = []

    async def list_runs(dsn: str, *_: object) -> list[Any]:
        asked.append(dsn)
        return []

    monkeypatch.setattr(runs, "list_runs", list_runs)
    for arguments in (["--dsn", "host=a", "runs"], ["runs", "--dsn", "host=a"]):
        assert CliRunner().invoke(commands, arguments).exit_code == 0
    both = ["--dsn", "host=b", "runs", "--dsn", "host=a"]
    assert CliRunner().invoke(commands, both).exit_code == 0
    assert asked == ["host=a"] * 3


def test_a_command_is_named_as_it_can_be_typed(tmp_path, monkeypatch):
    script = tmp_path / "venv" / "bin" / "pgflow-events"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    monkeypatch.setenv("PATH", os.defpath)
    named = {}
    for called in (str(script), "venv/bin/pgflow-events", "/somewhere/__main__.py"):
        monkeypatch.setattr(sys, "argv", [called])
        named[called] = program()
    assert named == {
        str(script): "venv/bin/pgflow-events",
        "venv/bin/pgflow-events": "venv/bin/pgflow-events",
        "/somewhere/__main__.py": "venv/bin/python -m pgflow_events",
    }
    monkeypatch.setenv("PATH", str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert program() == "pgflow-events"
    monkeypatch.chdir("/usr")
    monkeypatch.setenv("PATH", os.defpath)
    assert program() == str(script)
