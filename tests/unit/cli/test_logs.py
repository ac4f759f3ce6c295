"""What a worker writes to stderr, whatever the flows' module does to logging."""

import ast
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from pgflow_events.cli.logs import FORMATS, JsonFormatter, Stderr, TextFormatter
from pgflow_events.telemetry import TaskEvent, about, log_task

ROOT = Path(__file__).parents[3]
FAILED = "flow.step of run 1 failed in 0.500 s (attempt 2)"
RUN = UUID(int=1)
EVENT = TaskEvent("flow", "step", RUN, 0, 2, "failed", 0.5, traceback="Traceback\nValueError: x")

# Each is what a module with flows may do when it is imported, or a handler when it runs.
MISCHIEF = {
    "nothing": "",
    "dictConfig": "logging.config.dictConfig({'version': 1})",
    "dictConfig with a root": (
        "logging.config.dictConfig({'version': 1, 'root': {'level': 'CRITICAL', 'handlers': []}})"
    ),
    "dictConfig to stderr": (
        "logging.config.dictConfig({'version': 1, 'root': {'level': 'DEBUG', 'handlers': ['h']},"
        " 'handlers': {'h': {'class': 'logging.StreamHandler'}}})"
    ),
    "dictConfig to stdout": (
        "logging.config.dictConfig({'version': 1, 'root': {'level': 'DEBUG', 'handlers': ['h']},"
        " 'handlers': {'h': {'class': 'logging.StreamHandler', 'stream': 'ext://sys.stdout'}}})"
    ),
    "dictConfig that names us": (
        "logging.config.dictConfig({'version': 1, 'loggers': {'pgflow_events': {'handlers': []}}})"
    ),
    "a console of rich's": (
        "from rich.logging import RichHandler\n"
        "logging.basicConfig(force=True, level=1, handlers=[RichHandler()])"
    ),
    "a stream handler of its own": (
        "mine = type('Mine', (logging.StreamHandler,), {})\n"
        "logging.basicConfig(force=True, level=1, handlers=[mine()])"
    ),
    "fileConfig": (
        "logging.config.fileConfig(io.StringIO('[loggers]\\nkeys=root\\n[handlers]\\nkeys=h\\n"
        "[formatters]\\nkeys=\\n[logger_root]\\nlevel=ERROR\\nhandlers=h\\n[handler_h]\\n"
        "class=NullHandler\\nargs=()\\n'))"
    ),
    "basicConfig": "logging.basicConfig(force=True, level=logging.CRITICAL)",
    "basicConfig to stdout": "logging.basicConfig(force=True, stream=sys.stdout, level=1)",
    "no handlers": "logging.root.handlers.clear()",
    "a handler removed": "logging.root.removeHandler(logging.root.handlers[0])",
    "a handler closed": "logging.shutdown()",
    "a root that is mute": "logging.root.setLevel(logging.CRITICAL + 1)",
    "a root that is disabled": "logging.root.disabled = True",
    "disable": "logging.disable(logging.CRITICAL)",
    "disabled": (
        "for logger in list(logging.root.manager.loggerDict.values()): logger.disabled = True"
    ),
    "not propagated": "logging.getLogger('pgflow_events').propagate = False",
    "a class of its own": "logging.setLoggerClass(type('L', (logging.Logger,), {}))",
    "a handler that fails": (
        "class Bad(logging.Handler):\n  def emit(self, record): 1 / 0\n"
        "logging.raiseExceptions = False\nlogging.root.addHandler(Bad())"
    ),
    "a handler that fails twice": (
        "class Bad(logging.Handler):\n  def emit(self, record): 1 / 0\n"
        "  def handleError(self, record): 1 / 0\n"
        "logging.root.addHandler(Bad())"
    ),
    "a handler with another format": (
        "for handler in logging.root.handlers: handler.setFormatter(logging.Formatter('%(name)s'))"
    ),
    "a handler with another level": (
        "for handler in logging.root.handlers: handler.setLevel(logging.CRITICAL)"
    ),
    "a handler with a filter": (
        "for handler in logging.root.handlers: handler.addFilter(lambda record: False)"
    ),
    "a handler with another stream": (
        "for handler in logging.root.handlers: handler.setStream(io.StringIO())"
    ),
    "filters that fail": (
        "for name in [*logging.root.manager.loggerDict]:\n"
        "  logging.getLogger(name).addFilter(lambda record: 1 / 0)"
    ),
    "a factory of records that fails": "logging.setLogRecordFactory(lambda *_, **__: 1 / 0)",
    "a factory of records that makes none": "logging.setLogRecordFactory(lambda *_, **__: None)",
    "a handler that leaves": (
        "class Bad(logging.Handler):\n  def handle(self, record): sys.exit()\n"
        "logging.raiseExceptions = False\nlogging.root.addHandler(Bad())"
    ),
    "filters that leave": (
        "for name in [*logging.root.manager.loggerDict]:\n"
        "  logging.getLogger(name).addFilter(lambda record: sys.exit())"
    ),
    "a factory of records that leaves": "logging.setLogRecordFactory(lambda *_, **__: sys.exit())",
    "a stderr of its own": "sys.stderr = io.StringIO()",
}

CLOSED = "sys.stderr.close()"
FILE_HANDLER = (
    "logging.config.dictConfig({'version': 1, 'root': {'level': 'INFO', 'handlers': ['h']},"
    " 'handlers': {'h': {'class': 'logging.FileHandler', 'filename': 'log'}}})"
)
ONE_LEVEL = "logging.getLogger('pgflow_events.tasks').setLevel('WARNING')"
OWN_LINES = (
    "logging.basicConfig(force=True, stream=sys.stdout, level=1)\n"
    "logging.getLogger('mine').info('mine')"
)
ACTS = MISCHIEF | {act: act for act in (FILE_HANDLER, ONE_LEVEL, OWN_LINES, CLOSED)}

# Each in a process of its own, with a folder for what it writes.
PROGRAM = """
import io, json, logging, logging.config, os, sys
from pgflow_events import telemetry
from pgflow_events.cli.logs import log_to_stderr
event = telemetry.TaskEvent("flow", "step", 1, 0, 2, "failed", 0.5, traceback="Traceback")
for number, act in enumerate(json.load(sys.stdin)):
    if os.fork() == 0:
        os.mkdir(str(number))
        os.chdir(str(number))
        for name in ("stdout", "stderr"):
            os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY), getattr(sys, name).fileno())
        log_to_stderr("info", "json")
        exec(act)
        log = logging.getLogger("pgflow_events.tasks")
        log.debug("too fine")
        log.info("coarse")
        log.warning("coarser")
        telemetry.log_task(event)
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0, act
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What was written after each of these acts."""
    folder = tmp_path_factory.mktemp("acts")
    acts = json.dumps([*ACTS.values()])
    subprocess.run([sys.executable, "-c", PROGRAM], input=acts, text=True, check=True, cwd=folder)
    return {act: folder / str(number) for number, act in enumerate(ACTS)}


def lines_in(folder: Path) -> list[str]:
    """The messages on stderr."""
    return [json.loads(line)["message"] for line in (folder / "stderr").read_text().splitlines()]


@pytest.mark.parametrize("mischief", MISCHIEF)
def test_the_engines_lines_are_written_once_whatever_the_module_does(folders, mischief):
    assert lines_in(folders[mischief]) == ["coarse", "coarser", FAILED]
    assert (folders[mischief] / "stdout").read_text() == ""


def test_handlers_of_the_module_get_the_engines_lines_too(folders):
    assert lines_in(folders[FILE_HANDLER]) == ["coarse", "coarser", FAILED]
    logged = f"coarse\ncoarser\n{FAILED}\nTraceback\n"
    assert (folders[FILE_HANDLER] / "log").read_text() == logged


def test_a_closed_stderr_ends_nothing(folders):
    assert lines_in(folders[CLOSED]) == []


def test_the_level_that_a_module_sets_for_one_of_our_loggers_holds(folders):
    assert lines_in(folders[ONE_LEVEL]) == ["coarser", FAILED]


def test_the_modules_own_lines_go_where_it_says(folders):
    assert lines_in(folders[OWN_LINES]) == ["coarse", "coarser", FAILED]
    assert (folders[OWN_LINES] / "stdout").read_text() == "INFO:mine:mine\n"


def records(form: logging.Formatter, caplog: pytest.LogCaptureFixture) -> list[str]:
    return [form.format(record) for record in caplog.records]


def test_a_failure_is_an_object_with_its_attempt_and_its_traceback(caplog):
    log_task(EVENT)
    (line,) = map(json.loads, records(JsonFormatter(), caplog))
    assert line.items() >= {
        "message": f"flow.step of run {RUN} failed in 0.500 s (attempt 2)",
        "flow": "flow", "run_id": str(RUN), "step": "step", "attempt": 2,
        "traceback": "Traceback\nValueError: x",
    }.items()  # fmt: skip


def test_as_text_the_attempt_is_named_once_and_the_traceback_follows(caplog):
    log_task(EVENT)
    logging.getLogger("pgflow_events.handlers").warning("mine", extra=about(EVENT))
    named, bound = records(TextFormatter(), caplog)
    message = f"flow.step of run {RUN} failed in 0.500 s (attempt 2)"
    assert named.endswith(f"pgflow_events.tasks: {message}\n    Traceback\n    ValueError: x")
    assert bound.endswith(f"mine flow=flow run_id={RUN} step=step attempt=2")


def test_the_number_of_attempts_is_named_where_it_is_known(caplog):
    log_task(replace(EVENT, max_attempts=3))
    (line,) = records(logging.Formatter(), caplog)
    assert "(attempt 2 of 3)" in line


def test_the_default_formatter_of_logging_prints_the_traceback_too(caplog):
    log_task(EVENT)
    (line,) = records(logging.Formatter(), caplog)
    assert line.endswith("(attempt 2)\nTraceback\nValueError: x")


def test_a_text_that_no_json_can_hold_does_not_lose_the_line():
    line = JsonFormatter().format(logging.makeLogRecord({"msg": "a \udcff b"}))
    assert json.loads(line)["message"] == "a ? b"


class Unsayable:
    def __repr__(self) -> str:
        raise RuntimeError("no\ntext")


@pytest.mark.parametrize(
    ("message", "arguments", "said"),
    [
        ("%d pages\n", ("x\n",), r"'%d pages\n' ('x\n',)"),
        ("%s of %s", (1,), "'%s of %s' (1,)"),
        (Unsayable(), (), "an Unsayable ()"),
        ("%s", (Unsayable(),), "'%s' a tuple"),
    ],
    ids=["kind", "number", "message", "argument"],
)
@pytest.mark.parametrize("form", FORMATS)
def test_a_message_that_cannot_be_made_is_told_in_its_place(form, message, arguments, said, capfd):
    record = logging.LogRecord("mine", 20, "flows.py", 7, message, arguments, None)
    vars(record).update(about(EVENT))
    handler = Stderr(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    handler.handle(record)
    (line,) = capfd.readouterr().err.splitlines()
    assert str(RUN) in line
    told = line if form == "text" else json.loads(line[line.index("{") :])["message"]
    assert "flows.py:7: this message cannot be formatted: " in told
    assert f": {said}" in told


LOGGING = {"debug", "info", "warning", "error", "exception", "critical", "log"}
TASK = {"task", "outcome", "event", "run_id", "run", "attempt"}


def log_calls() -> Iterator[tuple[str, ast.Call]]:
    """Each call of a logger in the engine, with its place."""
    for file in sorted((ROOT / "pgflow_events").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(ast.Name("log" | "logger"), method)) if (
                    method in LOGGING
                ):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", node
                case ast.Call(func=ast.Name("report"), args=[ast.Name("log"), *_]):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def names_in(call: ast.Call) -> Iterator[str]:
    """The variables and attributes that it says something of."""
    for node in ast.walk(call):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def test_each_line_about_a_task_carries_its_attempt_as_fields():
    calls = list(log_calls())
    assert len(calls) > 20
    about_a_task = [(place, call) for place, call in calls if TASK & set(names_in(call))]
    assert len(about_a_task) > 4
    for place, call in about_a_task:
        extra = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert extra.get("extra", "").startswith("about("), place
